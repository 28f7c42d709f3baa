"""Whatever a run directory holds, no command writes outside it, and nothing that it names is run."""

import re

import pytest

from tests.faults.hostile import PLANTS
from tests.faults.project import TRAIN, clear, snapshot

DOCUMENTED = {0, 2, 3, 4}
COMMANDS = {
    "status": ["framework.status"],
    "diff": ["framework.diff", "outputs/run"],
    "sample": ["framework.sample", "outputs/run", "posterior", "inference.num_samples=3"],
    "predict": ["framework.sample", "outputs/run", "predictive", "inference.num_predictive=2"],
    "resume": [*TRAIN, "+resume=true", "loop.num_epochs=4"],
    "requeued": TRAIN,
    "copy": [*TRAIN, "name=copy", "resume_from=outputs/run"],
    "overwrite": [*TRAIN, "overwrite=true"],
}
SHORT = {
    "a checkpoint that is a link": ["resume"],
    "links for unfinished files": ["resume", "sample"],
    "train.log is a link": ["resume"],
    "attempts/ is a link": ["resume"],
    "graph.x.simulator is subprocess.Popen": ["requeued", "predict"],
    "weights that are a pickle": ["sample"],
}


def try_plant(runs, name, commands):
    """Plant it again for each command; return what is wrong with how that ends."""
    problems = []
    for command in commands:
        outside = runs.project.parent / "outside"
        clear(outside)
        outside.mkdir()
        (outside / "canary").write_text("sings")
        run_dir = runs.restore("interrupted")
        PLANTS[name](run_dir, outside)
        before = snapshot(runs.project.parent)
        variables = {"FRAMEWORK_REQUEUED": "1"} if command == "requeued" else {}
        result = runs.do(*COMMANDS[command], **variables)
        after, output = snapshot(runs.project.parent), result.stdout + result.stderr
        own = f"{runs.project / 'outputs'}/"
        changed = [p for p in {**before, **after} if before.get(p) != after.get(p) and not p.startswith(own)]
        if changed:
            problems.append(f"{command} of '{name}' changes {changed[:3]}")
        if any(path.endswith("/ran") for path in after):
            problems.append(f"{command} of '{name}' has run a program")
            (runs.project / "ran").unlink(missing_ok=True)
        if "Traceback" in output or result.returncode not in DOCUMENTED:
            problems.append(f"{command} of '{name}' ends with {result.returncode}: {output[-300:]}")
        typed = re.findall(r"^(?:revert|allow).*_target_=.*", output, re.M)
        if typed:
            problems.append(f"{command} of '{name}' tells what to type: {typed[0]}")
    return problems


@pytest.mark.parametrize("name", SHORT)
def test_nothing_is_written_outside_and_no_program_is_run(runs, counted, name):
    problems = try_plant(runs, name, SHORT[name])
    counted("hostile directories", len(SHORT[name]))
    assert not problems, "\n".join(problems)


@pytest.mark.campaign
@pytest.mark.parametrize("name", PLANTS)
def test_no_command_writes_outside_or_runs_a_program(runs, counted, name):
    problems = try_plant(runs, name, COMMANDS)
    counted("hostile directories", len(COMMANDS))
    assert not problems, "\n".join(problems)
