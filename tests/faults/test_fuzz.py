"""Run directories damaged at random: commands report the damage, change nothing, and leave the other runs alone."""

import stat

import pytest

from tests.faults import fuzz
from tests.faults.project import POWERLESS, clear, snapshot

GOOD = "good"
AT_ONCE = 10  # damaged directories under one status
SUITE, CAMPAIGN = 3, 40
LIMIT_SECONDS = 60

DIFF = ["framework.diff", "outputs/bad-0", f"outputs/{GOOD}"]
DIFF_ITSELF = ["framework.diff", "outputs/bad-0"]
SAMPLE = ["framework.sample", "outputs/bad-0", "posterior", "inference.num_samples=3"]


def place(runs, seeds):
    """Put damaged directories beside a good one; return what was done to each."""
    done = []
    for number, seed in enumerate(seeds):
        runs.restore("finished" if number % 2 else "interrupted")
        target = runs.project / f"held/bad-{number}"
        target.parent.mkdir(exist_ok=True)
        runs.run_dir.rename(target)
        done.append(f"seed {seed}: {'; '.join(fuzz.damage(target, seed))}")
    runs.restore("finished")
    runs.run_dir.rename(runs.run_dir.with_name(GOOD))
    for path in (runs.project / "held").iterdir():
        mode = path.stat().st_mode
        path.chmod(0o700)
        path.rename(runs.run_dir.parent / path.name)
        (runs.run_dir.parent / path.name).chmod(stat.S_IMODE(mode))
    return done


def complaint(runs, command, codes, may_write=""):
    """Run it; return what is wrong with how that ends."""
    before = snapshot(runs.project)
    try:
        result = runs.do(POWERLESS, *command, timeout=LIMIT_SECONDS)
    except AssertionError:
        return f"{command[0]} hangs", ""
    output = result.stdout + result.stderr
    found = []
    if "Traceback" in output:
        found.append("a traceback: " + " | ".join(output.splitlines()[-3:])[-500:])
    elif result.returncode not in codes:
        found.append(f"exit code {result.returncode}: {output[-300:]}")
    after = snapshot(runs.project)
    changed = [path for path in {**before, **after} if before.get(path) != after.get(path)]
    if unexpected := [path for path in changed if not may_write or may_write not in path]:
        found.append(f"changes {unexpected[:3]}")
    return "; ".join(f"{command[0]}: {text}" for text in found), output


def try_seeds(runs, seeds, counted):
    """Have status look at all of them, and diff and sample at each."""
    problems = []
    for first in range(0, len(seeds), AT_ONCE):
        some = seeds[first : first + AT_ONCE]
        done = place(runs, some)
        for options in ([], ["--json"]):
            found, output = complaint(runs, ["framework.status", *options], {0})
            missing = [n for n in [GOOD, *(f"bad-{at}" for at in range(len(some)))] if f"outputs/{n}" not in output]
            missing = [name for name in missing if name == GOOD]
            if found or missing:
                problems.append(f"{found or 'the good one is not shown'}\n    " + "\n    ".join(done))
    for seed in seeds:
        done = place(runs, [seed])
        for command, codes, may_write in [
            (DIFF, {0, 2, 3, 4}, ""),
            (DIFF_ITSELF, {0, 2, 3, 4}, ""),
            (SAMPLE, {0, 2, 3, 4}, "bad-0/samples"),
        ]:
            if found := complaint(runs, command, codes, may_write)[0]:
                problems.append(f"{found}\n    {done[0]}")
    clear(runs.project / "outputs")
    counted("damaged directories", len(seeds))
    assert not problems, f"{len(problems)} problems:\n" + "\n".join(problems[:40])


def test_no_damaged_directory_ends_in_a_traceback_or_is_changed(runs, limit, counted):
    try_seeds(runs, list(range(limit(SUITE, CAMPAIGN))), counted)


@pytest.mark.campaign
@pytest.mark.parametrize("part", range(4))
def test_no_damaged_directory_hides_others_or_is_changed(runs, limit, counted, part):
    number = limit(SUITE, CAMPAIGN, 520)
    try_seeds(runs, list(range(100 + part, 100 + number, 4)), counted)
