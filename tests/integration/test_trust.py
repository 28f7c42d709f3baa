"""The commands on an untrusted run directory: none of them runs the code that it names."""

import shutil
from pathlib import Path

import pytest

from framework.rundir.directory import RunDirectory
from tests.support.command import TINY, run, train, warm_start
from tests.support.toy_run import begin

PLANTED = ["~priors.z", "+priors.z={_target_: subprocess.check_call, args: [touch, called]}"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    cwd = tmp_path_factory.mktemp("trained")
    result = train(cwd=cwd)
    assert result.returncode == 0, result.stderr
    return cwd / "outputs/two_moons"


@pytest.fixture
def hostile(trained, tmp_path, monkeypatch):
    """A sound run, except that its records name a command in place of a prior."""
    monkeypatch.chdir(tmp_path)
    directory = RunDirectory(Path("outputs/two_moons"))
    begin(directory, *TINY, *PLANTED, "trust=true")  # which is not for a directory to say
    for name in ("simulations", "checkpoints"):
        shutil.copytree(trained / name, directory.path / name, symlinks=True)
    shutil.copy(trained / "observed.npz", directory.path)
    return tmp_path


@pytest.mark.parametrize("kind", ["prior", "posterior", "predictive"])
def test_sample_calls_nothing_that_is_no_prior(hostile, kind):
    result = run("framework.sample", "outputs/two_moons", kind, cwd=hostile)
    assert result.returncode == 2
    assert result.stderr.endswith(
        "✗ outputs/two_moons: priors.z._target_=subprocess.check_call belongs to Python; expected a class of "
        "framework.priors or torch.distributions, or your own function. If you trust whoever wrote the directory, "
        "add trust=true\n"
    )
    assert not (hostile / "called").exists()
    assert not (hostile / "outputs/two_moons/samples").exists()


def test_sample_calls_it_if_the_user_trusts_the_directory(hostile):
    result = run("framework.sample", "outputs/two_moons", "prior", "trust=true", cwd=hostile)
    assert result.returncode == 2 and "expected a prior of framework.priors" in result.stderr
    assert (hostile / "called").exists()


def requeued(cwd, *overrides):
    return warm_start("framework.train", *TINY, *overrides, cwd=cwd, FRAMEWORK_REQUEUED="1").wait()


def test_a_requeued_attempt_calls_nothing_that_the_user_has_not_composed(hostile):
    result = requeued(hostile)
    assert result.returncode == 2, result.stderr
    assert "outputs/two_moons: priors.z._target_=subprocess.check_call belongs to Python" in result.stderr
    assert not (hostile / "called").exists()


@pytest.mark.parametrize("own", [["trust=true"], PLANTED], ids=["trusted", "composed"])
def test_a_requeued_attempt_calls_what_the_user_has_said(hostile, own):
    result = requeued(hostile, *own)
    assert "expected a prior of framework.priors" in result.stderr
    assert (hostile / "called").exists()


def test_diff_builds_nothing_to_compare_tensors(hostile):
    result = run("framework.diff", "outputs/two_moons", "network.hidden_dim=9", cwd=hostile)
    assert result.returncode == 3, result.stderr
    assert (
        "(tensors not compared: outputs/two_moons: priors.z._target_=subprocess.check_call belongs to" in result.stdout
    )
    assert not (hostile / "called").exists()


def test_a_refusal_names_no_command_to_type_that_would_run_it(hostile):
    result = train("+resume=true", "seed=5", cwd=hostile)
    assert result.returncode == 3
    assert "_target_=" not in result.stderr and "{_target_" not in result.stderr
    assert "unchanged: with another priors.z, which chooses code or files" in result.stderr
    assert not (hostile / "called").exists()


def test_diff_finds_the_yaml_of_a_run_whatever_its_directory_is_called(tmp_path, monkeypatch):
    conf = tmp_path / "it's [a,b]=c \\"
    (conf / "experiment").mkdir(parents=True)
    (conf / "experiment/mine.yaml").write_text("# @package _global_\nname: mine\nseed: 7\n")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    assert train(f"--config-dir={conf}", "experiment=[two_moons,mine]", cwd=tmp_path / "work").returncode == 0
    result = run("framework.diff", "outputs/mine", cwd=tmp_path / "work")
    assert result.returncode == 0 and "nothing changed" in result.stdout, result.stderr
