"""Each file of a run, damaged in each way: the same numbers, a warning, or an exit code that says what to do."""

import itertools
import random

import pytest

from framework.errors import FrameworkError
from framework.inference.samples import read_samples
from tests.faults.damage import DAMAGES, damages_of
from tests.faults.project import POWERLESS, TRAIN, digest_of

RESUME = [*TRAIN, "+resume=true"]
SAMPLE = ["framework.sample", "outputs/run", "posterior", "inference.num_samples=7"]
COMMANDS = {
    "status": (["framework.status"], {}),
    "resume": (RESUME, {}),
    "requeued": (TRAIN, {"FRAMEWORK_REQUEUED": "1"}),
    "sample": (SAMPLE, {}),
}
DOCUMENTED = {"status": {0}, "resume": {0, 2, 3, 4}, "requeued": {0, 2, 3, 4}, "sample": {0, 2, 3, 4}}
SUITE, CAMPAIGN = 5, 60


@pytest.fixture(scope="module")
def intact(runs):
    """Return a function that gives what a command makes of a run that is not damaged."""
    made = {}

    def of(name, command):
        if (name, command) not in made:
            run_dir = runs.restore(name)
            result = do(runs, command)
            assert result.returncode == 0, result.stderr
            made[name, command] = drawn(run_dir), warnings_of(result)
        return made[name, command]

    return of


def do(runs, command):
    arguments, variables = COMMANDS[command]
    return runs.do(POWERLESS, *arguments, **variables)


def drawn(run_dir):
    """Return the digest of each node's samples by directory, None where reading them says that they are damaged."""
    found = {}
    for directory in sorted((run_dir / "samples").glob("posterior*")):
        try:
            for node, arrays in read_samples(directory).items():
                found[directory.name, node] = digest_of(arrays)
        except FrameworkError:
            found[directory.name, None] = None
    return found


def are_same(found, expected, file):
    """Tell whether samples are what they were; those in a damaged file may be lost, if reading them says so."""
    if file.startswith("samples/"):
        return all(expected.get(key, digest) == digest for key, digest in found.items())
    return found == expected


def warnings_of(result):
    return {line for line in (result.stdout + result.stderr).splitlines() if line.startswith(("⚠", "✗"))}


def cases(runs):
    """Return every run with every file and damage."""
    every = itertools.chain(*(itertools.product([name], runs.files(name)) for name in ("finished", "interrupted")))
    return [(name, file, kind) for name, file in every for kind in damages_of(runs.kept_path(name, file))]


def problem(runs, intact, case, command):
    """Damage a file and run a command; return what is wrong with how that ends, nothing if it is as it should be."""
    name, file, kind = case
    expected, usual = intact(name, command)
    run_dir = runs.restore(name)
    DAMAGES[kind](run_dir / file, random.Random(str(case)))
    try:
        result = do(runs, command)
    except AssertionError as error:
        return f"hangs: {error}"
    output = result.stdout + result.stderr
    if "Traceback" in output:
        return "a traceback: " + " | ".join(output.splitlines()[-3:])
    if result.returncode not in DOCUMENTED[command]:
        return f"exit code {result.returncode}: {output[-300:]}"
    if result.returncode == 0 and not warnings_of(result) - usual:
        found = drawn(run_dir)
        if command != "status" and not are_same(found, expected, file):
            return f"other numbers without a word: {found}, not {expected}"
    if result.returncode and "✗ " not in output:
        return f"exit code {result.returncode} without a word"
    return ""


def try_cases(runs, intact, counted, chosen, commands_of):
    problems = []
    for case in chosen:
        for command in commands_of(case):
            if found := problem(runs, intact, case, command):
                problems.append(f"{command} of {case[0]} run, {case[1]}: {case[2]} → {found}")
    counted("corruptions", len(chosen))
    assert not problems, f"{len(problems)} problems:\n" + "\n".join(problems[:40])


def test_a_damaged_file_makes_no_other_numbers_without_a_word(runs, intact, limit, counted):
    rng = random.Random(0)
    chosen = rng.sample(cases(runs), limit(SUITE, CAMPAIGN))
    try_cases(runs, intact, counted, chosen, lambda case: [rng.choice(list(COMMANDS))])


@pytest.mark.campaign
@pytest.mark.parametrize("part", range(4))
def test_no_damaged_file_makes_other_numbers_without_a_word(runs, intact, limit, counted, part):
    every, number = cases(runs), limit(SUITE, CAMPAIGN)
    random.Random(1).shuffle(every)
    chosen = every[:number][part::4]
    rng = random.Random(part)
    try_cases(runs, intact, counted, chosen, lambda case: [rng.choice(list(COMMANDS))])
