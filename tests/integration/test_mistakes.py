"""Mistakes in the command line: exit code 2, one or two lines that name the key, and nothing is left behind."""

import shutil

import pytest

from tests.integration import fuzz
from tests.integration.fuzz import BASE, Line
from tests.support.command import run, train

NUM_LINES, NUM_PARTS = 1000, 20


@pytest.mark.parametrize(
    "overrides",
    [
        ["network.options={a: " + "1" * 300 + "}"],
        ["name="],
        ["name=.."],
        ["name=a/../../b"],
        ["name=/proc/nothing"],
        ["name=" + "x" * 256],
        ["name=simulator.py", "hydra.run.dir=simulator.py"],
        ["hydra.run.dir=."],
        ["hydra.verbose=1"],
        ["loop.clip_grad_norm=nan"],
        ["optimizer.lr=-inf"],
        ["loop.num_epochs=1e30"],
        ["loop.batch_size=${nope}"],
        ["graph.z.evidence=1"],
        ["network.num_transforms=abc"],
        ["optimizer.scheduler=null"],
        ["tracking=wandb", "tracking.wandb.mode=onlin"],
        ["+tracking.mine._target_=simulator.Broken"],
        ["++embedding._target_=simulator.Broken"],
        ["++embedding._target_=math.pi"],
        ["++network._target_=simulator.shifted"],
        ["++network._target_=simulator.Lossless"],
        ["++graph.z.optimizer._target_=math.pi"],
        ["network=${oc.env:NOT_SET_ANYWHERE}"],
        ["optimizer.betas.optimizer.betas=1"],
        ["simulation.num_simulations=2", "loop.validation_fraction=0.9"],
        ["optimizer.scheduler.patience=abc"],
        ["hydra.job.name=a/b"],
        ["hydra.output_subdir=."],
        ["hydra.output_subdir=.hydra", "network.hidden_dim=x"],
        ["-seed=1"],
    ],
    ids=lambda overrides: overrides[-1][:30],
)
def test_a_mistake_leaves_nothing_but_a_line_that_names_it(overrides, tmp_path):
    given = Line(overrides, [fuzz.key_of(overrides[-1])], exit_codes=(2,))
    assert not fuzz.problems(given, tmp_path / "line")


def test_an_override_longer_than_a_file_name_is_an_override(tmp_path):
    description = "+graph.z.network.options={" + ", ".join(f"a{n}: 1" for n in range(60)) + "}"
    result = train(description, "--cfg", "job", cwd=tmp_path)
    assert result.returncode == 0, result.stderr


def test_a_directory_that_holds_other_runs_is_no_run_directory(tmp_path):
    work = fuzz.prepare(tmp_path)
    assert run("framework.train", *BASE, cwd=work).returncode == 0
    before = fuzz.tree(work)
    for place, why in [("outputs", "contains other runs"), ("outputs/tiny/more", "is inside another run's directory")]:
        result = run("framework.train", *BASE, f"hydra.run.dir={place}", "overwrite=true", cwd=work)
        assert result.returncode == 2
        assert f"hydra.run.dir={place}: {why}" in result.stderr
    assert fuzz.tree(work) == before


def test_a_mistake_in_a_resume_leaves_the_run_as_it_was(tmp_path):
    work = fuzz.prepare(tmp_path)
    assert run("framework.train", *BASE, cwd=work).returncode == 0
    before = fuzz.tree(work)
    result = run("framework.train", *BASE, "+resume=true", "+tracking.mine._target_=simulator.Nothing", cwd=work)
    assert result.returncode == 2
    after = {path: content for path, content in fuzz.tree(work).items() if not path.endswith("train.log")}
    assert after == {path: content for path, content in before.items() if not path.endswith("train.log")}


@pytest.mark.parametrize("overrides", [["loop.num_epochs=1,x"], ["name=..", "seed=1,2"], ["seed=1,2", "loop=x"]])
def test_a_mistake_in_a_sweep_leaves_nothing(overrides, tmp_path):
    work = fuzz.prepare(tmp_path)
    before = fuzz.tree(work)
    result = run("framework.train", "-m", *BASE, "hydra/launcher=slurm_local", *overrides, cwd=work)
    assert result.returncode == 2, result.stderr
    assert len(result.stderr.strip().splitlines()) <= 2
    assert fuzz.tree(work) == before


def test_an_option_that_the_command_line_chooses_replaces_an_experiments_own_block(tmp_path):
    work = fuzz.prepare(tmp_path)
    own = fuzz.EXPERIMENT + "embedding: {_target_: simulator.Broken, table: 1}\n"
    (work / "conf/experiment/tiny.yaml").write_text(own)
    result = run("framework.train", *BASE, "embedding=mlp", "embedding.output_dim=3", cwd=work)
    assert result.returncode == 0, result.stderr


@pytest.mark.campaign
@pytest.mark.parametrize("part", range(NUM_PARTS))
def test_command_lines_at_random_run_or_say_what_is_wrong(part, tmp_path):
    """A failure tells the number of the line; `fuzz.line("campaign", number)` makes it again."""
    size = NUM_LINES // NUM_PARTS
    found = {}
    for number in range(part * size, (part + 1) * size):
        given = fuzz.line("campaign", number)
        if wrong := fuzz.problems(given, tmp_path / str(number)):
            found[number] = given.overrides, wrong
        shutil.rmtree(tmp_path / str(number), ignore_errors=True)
    assert not found
