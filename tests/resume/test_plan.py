"""How an attempt starts: refused, allowed, requeued or rebuilt, without building a model."""

import json
import shlex
import shutil

import numpy as np
import pytest
import yaml

import framework
from framework.checkpoint.manifest import newest_generation
from framework.config.overrides import Override, may_be_typed
from framework.errors import CheckpointError, ConfigError, ResumeRefusedError
from framework.records import read_record, write_record
from framework.resume import compare_runs, diff_format
from framework.resume.code import code_digests
from framework.rundir.directory import RunDirectory
from framework.rundir.metrics import saved_progress
from framework.rundir.run_config import read_config, write_config
from tests.support.toy_run import begin, new_run, open_directory, plan, save_checkpoint

RESUME = "+resume=true"


@pytest.fixture
def run(tmp_path):
    return new_run(tmp_path / "run")


def refusal(directory, *overrides):
    with pytest.raises(ResumeRefusedError) as refused:
        plan(directory, RESUME, *overrides)
    assert refused.value.exit_code == 3
    return str(refused.value)


def verdicts(directory, *overrides):
    return {c.key: c.verdict for c in plan(directory, RESUME, *overrides).changes}


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("network.hidden_dim=64", "network.hidden_dim: 50 → 64  (config.yaml → network.hidden_dim=64)"),
        ("priors.z.low=[-2,-1]", "priors.z.low.0: -1 → -2"),
        ("embedding=mlp", "embedding._target_: torch.nn.Flatten → framework.networks.MLP"),
        ("graph.z.evidence=[x,z]", "graph.z.evidence.1: — → z"),
        ("+graph.x.simulator.radius=2", "graph.x.simulator.radius: — → 2"),
        ("graph.x.batched=false", "graph.x.batched: true → false"),
        ("network.standardize_theta=none", "network.standardize_theta: residual → none"),
        ("optimizer=adamw", "optimizer._target_: torch.optim.Adam → torch.optim.AdamW"),
        ("simulation.from_file=a.npz", "simulation.from_file: null → a.npz"),
        ("optimizer.lr=1e-3", "optimizer.lr: 0.0005 → 0.001"),
        ("seed=1", "seed: 0 → 1"),
    ],
    ids=lambda text: text.split()[0],
)
def test_a_change_that_breaks_the_run_is_refused_and_named(run, override, line):
    message = refusal(run, override)
    assert "incompatible config" in message
    assert f"  {line}" in message


def test_a_refusal_says_where_values_come_from_and_what_to_type(tmp_path):
    run = new_run(tmp_path / "run", "network.hidden_dim=32")
    assert refusal(run, "embedding=mlp", "optimizer.lr=1e-3", "loop.num_epochs=9").splitlines()[1:-1] == [
        "  network.hidden_dim: 32 → 50  (network.hidden_dim=32 in attempt 1 → conf/network/nsf.yaml)",
        "  embedding._target_: torch.nn.Flatten → framework.networks.MLP  (config.yaml → embedding=mlp)",
        "  embedding.output_dim: — → 32  (embedding=mlp)",
        "  embedding.hidden_dim: — → 128  (embedding=mlp)",
        "  embedding.num_layers: — → 2  (embedding=mlp)",
        "  optimizer.lr: 0.0005 → 0.001  (config.yaml → optimizer.lr=1e-3)",
        "revert: network.hidden_dim=32 ~embedding.output_dim ~embedding.hidden_dim ~embedding.num_layers "
        "and the previous embedding._target_, torch.nn.Flatten · or start another run: name=...",
        "allow: 'resume_allow=[optimizer.lr]' · or revert: optimizer.lr=0.0005",
    ]


def test_a_refusal_gives_back_the_command_as_it_was(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = new_run(tmp_path / "outputs/two_moons", "network.hidden_dim=32", "tracking=[jsonl]", "+priors.z.low=[-1,-1]")
    line = "unchanged: python -m framework.train network.hidden_dim=32 'tracking=[jsonl]' '+priors.z.low=[-1,-1]'"
    assert refusal(run).splitlines()[-1] == f"{line} +resume=true"
    elsewhere = new_run(tmp_path / "seed=1,it's", "seed=1", "experiment=slcp")
    words = shlex.split(refusal(elsewhere).splitlines()[-1])
    assert words[-4:] == [r"hydra.run.dir='seed=1,it\'s'", "seed=1", "experiment=slcp", "+resume=true"]


def test_a_value_of_the_directory_adds_no_line_to_a_refusal(tmp_path):
    message = refusal(new_run(tmp_path / "run", "simulation.from_file='a\nrevert: b \x1b[2J'"))
    assert r"simulation.from_file: a\nrevert: b \x1b[2J → null" in message
    assert all(line.isprintable() for line in message.splitlines())


STRANGE = [
    "++network._target_=subprocess.Popen",
    "~priors.z",
    "+priors.z={_target_: subprocess.Popen, args: [ls]}",
    "experiment=two_moons",
]


def test_a_refusal_says_in_words_what_a_directory_names_as_code(tmp_path):
    message = refusal(new_run(tmp_path / "run", *STRANGE))
    assert "network._target_: subprocess.Popen → framework.estimators.Flow  (attempt 1 → " in message
    assert "and the previous network._target_, subprocess.Popen" in message
    last = message.splitlines()[-1]
    assert last.startswith("unchanged: with another network._target_, priors.z, which chooses code or files; check ")
    assert "_target_=" not in message and "framework.train" not in message


@pytest.mark.parametrize(
    "override",
    [
        "network._target_=os.system",
        "network={_target_: os.system}",
        "network=../../outputs/theirs/network",
        "+experiment=/tmp/theirs",
        "optimizer/scheduler=../theirs",
        "tracking=[jsonl,../theirs]",
        "network@priors.z=theirs",
        "hydra.searchpath=[pkg://this]",
        "hydra/launcher=theirs",
        "name=${oc.env:SECRET}",
        "name=a\nrevert: b",
        "--config-dir=theirs",
        "--experimental-rerun=theirs.pickle",
        "theirs",
    ],
)
def test_an_override_that_may_choose_code_is_never_one_to_type(override):
    assert not may_be_typed(Override.parse(override))


@pytest.mark.parametrize(
    "overrides",
    [
        ["loop.num_epochs=500"],
        ["inference.num_samples=50"],
        ["runtime.grace=1m", "runtime.periodic_checkpoint_every=1800"],
        ["simulation.workers=4", "device=cpu"],
        ["+graph.z.inference.num_samples=7"],
    ],
    ids=" ".join,
)
def test_a_change_that_no_number_of_the_training_depends_on_resumes(run, overrides):
    assert set(verdicts(run, *overrides).values()) == {""}


def test_the_epoch_under_way_is_said(tmp_path):
    assert "from epoch 48/300" in plan(new_run(tmp_path / "run", batch=3), RESUME).title


def test_nothing_changed_is_said(run, caplog):
    caplog.set_level("INFO")
    plan(run, RESUME)
    assert caplog.messages == [f"↻ Resuming {run.path} from epoch 47/300, nothing changed"]


def test_every_resume_says_what_changes(run, caplog):
    caplog.set_level("INFO")
    plan(run, RESUME, "optimizer.lr=3e-4", "loop.num_epochs=500", "resume_allow=[optimizer.lr]")
    assert caplog.messages[0].splitlines() == [
        f"↻ Resuming {run.path} from epoch 47/300",
        "  trajectory  optimizer.lr     0.0005 → 0.0003  allowed by resume_allow",
        "  free        loop.num_epochs  300 → 500",
    ]


@pytest.mark.parametrize("allow", ["optimizer.lr", "optimizer", "optimizer.*", "trajectory"])
def test_a_change_is_allowed_by_key_group_or_class(run, allow):
    assert verdicts(run, "optimizer.lr=1", f"resume_allow=[{allow}]") == {"optimizer.lr": "allowed"}
    assert "network.hidden_dim: 50 → 9" in refusal(run, "network.hidden_dim=9", f"resume_allow=[{allow},network]")


def test_an_allowed_change_is_recorded_and_is_part_of_the_run_from_then_on(run):
    begin(run, RESUME, "optimizer.lr=1", "resume_allow=[optimizer]")
    (change,) = run.attempts().records[1].resume_diff
    assert (change["key"], change["old"], change["new"], change["verdict"]) == ("optimizer.lr", 0.0005, 1, "allowed")
    assert verdicts(run, "optimizer.lr=1") == {}
    assert "optimizer.lr: 1 → 0.0005  (optimizer.lr=1 in attempt 2 → conf/optimizer/adam.yaml)" in refusal(run)
    assert yaml.safe_load(run.config_path.read_text())["optimizer"]["lr"] == 0.0005  # as first started


def test_more_epochs_change_a_schedule_that_depends_on_them(tmp_path):
    run = new_run(tmp_path / "run", "optimizer/scheduler=cosine")
    message = refusal(run, "optimizer/scheduler=cosine", "loop.num_epochs=500")
    assert "optimizer.scheduler.T_max: 300 → 500" in message
    assert "follows loop.num_epochs: the schedule's shape depends on it" in message
    assert "allow: 'resume_allow=[optimizer.scheduler.T_max]' · or revert: loop.num_epochs=300" in message


def test_fewer_epochs_than_are_done_are_said_to_end_the_training(run):
    (change,) = plan(run, RESUME, "loop.num_epochs=40").changes
    assert diff_format.verdict(change) == "epoch 47 has already been reached: training ends there"


MORE = ["simulation.num_simulations=20000", "resume_allow=[simulation.num_simulations]"]


def test_simulations_that_nothing_would_be_trained_on_are_refused_before_the_first(run):
    (epoch,) = (progress["epoch"] for progress in saved_progress(newest_generation(run.checkpoints_dir)).values())
    with pytest.raises(
        ConfigError, match=rf"num_simulations=20000: no node would train.*has finished its {epoch} epochs"
    ):
        plan(run, RESUME, *MORE, f"loop.num_epochs={epoch}")
    with pytest.raises(ConfigError, match=r"increase graph.z.loop.num_epochs too"):
        plan(run, RESUME, *MORE, f"+graph.z.loop.num_epochs={epoch}", "resume_allow=[trajectory]")
    assert verdicts(run, *MORE, f"loop.num_epochs={epoch + 1}")["simulation.num_simulations"] == "allowed"
    assert "allow: " in refusal(run, MORE[0], f"loop.num_epochs={epoch}")


def test_a_run_is_not_started_over_by_accident(run):
    with pytest.raises(ResumeRefusedError, match="already contains a run"):
        plan(run)


def test_a_plan_is_void_when_another_process_has_been_at_work_meanwhile(tmp_path):
    first, second = RunDirectory(tmp_path / "run"), plan(RunDirectory(tmp_path / "run"))
    begin(first)
    with pytest.raises(ResumeRefusedError, match="changed by another process in the meantime"):
        open_directory(second, first)


def test_another_version_of_the_framework_must_be_allowed(run, monkeypatch):
    monkeypatch.setattr("framework.resume.plan.versions", lambda: {"framework": "9.1.0", "torch": "1"})
    assert f"version: {framework.__version__} → 9.1.0" in refusal(run, "resume_allow=[trajectory]")
    allowed = plan(run, RESUME, "resume_allow=[version]")
    assert [c.verdict for c in allowed.changes] == ["allowed"]
    assert "from here on, results are not bit for bit" in allowed.notes[0]


def requeue(monkeypatch, count):
    monkeypatch.setenv("SLURM_JOB_ID", "123")
    monkeypatch.setenv("SLURM_RESTART_COUNT", str(count))


def test_a_requeued_job_continues_though_the_previous_attempt_runs_elsewhere_and_has_saved_since(run, monkeypatch):
    requeue(monkeypatch, 0)
    begin(run, RESUME)
    requeue(monkeypatch, 1)
    planned, second = plan(run, RESUME), plan(run, RESUME)
    shutil.copytree(run.checkpoints_dir / "00000001", run.checkpoints_dir / "00000002")
    open_directory(planned, run)
    run.start_attempt(planned.attempt_record("cpu", {"z": 300}, 1))
    with pytest.raises(ResumeRefusedError, match="another process"):
        open_directory(second, run)


def test_a_requeued_job_continues_with_its_config_and_lists_what_it_ignores(tmp_path, monkeypatch, caplog):
    requeue(monkeypatch, 0)
    run = new_run(tmp_path / "run", "loop.num_epochs=500", "overwrite=true")
    requeue(monkeypatch, 1)
    caplog.set_level("INFO")
    again = begin(run, "network.hidden_dim=9")
    assert (again.config.loop.num_epochs, again.config.network["hidden_dim"]) == (500, 50)
    assert [c.verdict for c in again.changes] == ["ignored", "ignored"]
    assert "requeued, with its previous config" in caplog.messages[0]
    assert "network.hidden_dim  50 → 9     ignored" in caplog.messages[0]
    assert not list(tmp_path.glob("run.old*"))  # overwrite=true was said to the first attempt


def recorded_in_words_of_before(run):
    """Let the run's records say what an earlier version has written."""
    write_config(run.config_path, {**read_config(run.config_path), "runtime": {"requeue": "scontrol"}})
    (path,) = run.attempts_dir.glob("*.json")
    record = read_record(path)
    record["config"]["runtime"]["requeue"] = "scontrol"
    write_record(path, record)
    assert run.record().config["runtime"]["requeue"] == "scontrol"
    return run


@pytest.mark.parametrize("word", ["scontrol", "native"])
def test_a_run_that_has_another_word_for_the_same_is_not_changed(tmp_path, word):
    run = recorded_in_words_of_before(new_run(tmp_path / "run", "runtime.requeue=native"))
    again = plan(run, RESUME, f"runtime.requeue={word}")
    assert again.changes == [] and again.config.runtime.requeue == "native"


def test_a_requeued_job_has_the_word_of_now(tmp_path, monkeypatch):
    requeue(monkeypatch, 0)
    run = recorded_in_words_of_before(new_run(tmp_path / "run", "runtime.requeue=native"))
    requeue(monkeypatch, 1)
    again = plan(run, "runtime.requeue=scontrol")
    assert again.requeued and again.changes == [] and again.config.runtime.requeue == "native"


def test_a_second_command_of_the_same_job_is_not_a_requeue(tmp_path, monkeypatch):
    requeue(monkeypatch, 0)
    run = new_run(tmp_path / "run")
    with pytest.raises(ResumeRefusedError, match="already contains a run"):
        plan(run)


def test_what_was_requeued_may_have_files_that_would_not_run(run, monkeypatch):
    monkeypatch.setenv("FRAMEWORK_REQUEUED", "1")
    again = plan(run, "+nonsense=1")
    assert "nonsense=1: no such key" in again.notes[0]


def test_a_job_that_was_requeued_before_it_had_anything_keeps_its_config(tmp_path, monkeypatch):
    requeue(monkeypatch, 0)
    run = RunDirectory(tmp_path / "run")
    begin(run, "seed=5")
    entries = run.info()
    requeue(monkeypatch, 1)
    assert begin(run, "seed=6").config.seed == 5
    assert run.info() == entries


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_lost_config_is_rebuilt_from_the_checkpoint(tmp_path, damage, caplog):
    run = RunDirectory(tmp_path / "run")
    started = begin(run, "seed=5")
    save_checkpoint(run, {"z": {"epoch": 1}}, config=started.record.config)
    if damage == "missing":
        run.config_path.unlink()
    else:
        run.config_path.write_text("".join(run.config_path.read_text().splitlines(keepends=True)[:9]))
    for path in run.attempts_dir.iterdir():
        path.write_text("")  # nor do these help
    assert plan(run, RESUME, "seed=5").changes == []
    begin(run, RESUME, "seed=5")
    assert "config.yaml" in caplog.text and "rewritten from the last attempt's config" in caplog.text
    assert read_config(run.config_path) == started.record.config
    run.config_path.unlink()
    assert "seed: 5 → 6" in refusal(run, "seed=6")


def test_without_config_and_checkpoint_there_is_nothing_to_resume(run):
    run.config_path.unlink()
    (run.attempts_dir / "001.json").unlink()
    with pytest.raises(CheckpointError, match="missing, and the config is stored nowhere else"):
        plan(run, RESUME)


def test_a_run_resumed_elsewhere_is_compared_with_its_source(run, tmp_path):
    begin(run, RESUME, "optimizer.lr=1", "resume_allow=[optimizer]")
    other = RunDirectory(tmp_path / "other")
    from_run = [f"resume_from={run.path}", "name=other"]
    assert "optimizer.lr: 1 → 0.0005" in refusal(other, *from_run)
    begin(other, *from_run, "optimizer.lr=1")
    assert (read_config(other.config_path)["optimizer"]["lr"], other.info().resumed_from) == (1, str(run.path))
    assert other.info().run_id != run.info().run_id


def save(run, **config):
    """Leave a checkpoint of what the run's last attempt trains with, saved now."""
    return save_checkpoint(run, {"z": {"epoch": 48}}, config=run.attempts().last.config | config, keep=9)


def test_a_run_resumed_from_a_checkpoint_is_compared_with_the_config_of_that(run, tmp_path):
    first = save(run)
    begin(run, RESUME, "optimizer.lr=1", "resume_allow=[optimizer]")
    save(run)
    other, from_first = RunDirectory(tmp_path / "other"), [f"resume_from={first}", "name=other"]
    assert [change.key for change in plan(other, *from_first).changes] == ["name"]
    assert "optimizer.lr: 0.0005 → 1  (config.yaml → optimizer.lr=1)" in refusal(other, *from_first, "optimizer.lr=1")
    begin(other, *from_first)
    assert read_config(other.config_path)["optimizer"]["lr"] == 0.0005
    assert "optimizer.lr: 1 → 0.0005" in refusal(RunDirectory(tmp_path / "third"), f"resume_from={run.path}")


def test_where_the_last_attempts_record_is_damaged_its_checkpoint_has_the_config(run, monkeypatch):
    begin(run, RESUME, "optimizer.lr=1", "resume_allow=[optimizer]")
    save(run)
    (run.attempts_dir / "002.json").write_text("")
    monkeypatch.setenv("FRAMEWORK_REQUEUED", "1")
    assert plan(run).config.optimizer["lr"] == 1


def test_a_checkpoint_that_is_older_than_the_records_that_are_left_says_nothing(run):
    save(run, seed=9)
    begin(run, RESUME, "optimizer.lr=1", "resume_allow=[optimizer]")
    (run.attempts_dir / "003.json").write_text("")
    assert run.record().config["optimizer"]["lr"] == 1
    assert run.record().config["seed"] == 0


def test_two_runs_are_compared(run, tmp_path):
    other = new_run(tmp_path / "other", "seed=1", "loop.num_epochs=9")
    _, changes, _ = compare_runs(run, other)
    assert [(c.key, c.old, c.new) for c in changes] == [("seed", 0, 1), ("loop.num_epochs", 300, 9)]


def test_the_difference_is_also_for_programs_and_pages(run):
    planned = plan(run, RESUME, "inference.num_samples=3")
    parts = planned.title, planned.changes, planned.notes
    (change,) = json.loads(diff_format.as_json(*parts))["changes"]
    assert (change["key"], change["class"], change["old"], change["new"]) == ("inference.num_samples", "free", 10000, 3)
    assert "| free | `inference.num_samples` | `10000` | `3` |  |" in diff_format.markdown(*parts)


NODE = "{parents: [z], evidence: [x], simulator: {_target_: framework.priors.Uniform}}"


def test_a_node_that_is_added_or_removed_is_allowed_and_said(run):
    (change,) = plan(run, RESUME, f"+graph.w={NODE}").changes
    assert (change.key, change.verdict, change.reason) == ("graph.w", "", "added: training from scratch")
    begin(run, RESUME, f"+graph.w={NODE}")
    (change,) = plan(run, RESUME).changes
    assert (change.key, change.verdict, change.reason) == ("graph.w", "", "removed: its files are kept")


def test_a_node_with_another_name_is_told_apart_by_a_hint(tmp_path):
    run = new_run(tmp_path / "run", f"+graph.w={NODE}")
    assert plan(run, RESUME, f"+graph.v={NODE}").notes == [
        "is graph.v graph.w under another name? Weights are stored by name: "
        "as w its training resumes, as v it starts from scratch"
    ]
    assert plan(run, RESUME, f"+graph.v={NODE}", "graph.v.parents=[x]").notes == []


@pytest.fixture
def user_code(tmp_path, monkeypatch):
    """A user's own package and module, importable, with an experiment."""
    package = tmp_path / "physics_package"
    package.mkdir()
    (package / "simulator.py").write_text("raise RuntimeError('never run')\nfrom physics_package import constants\n")
    (package / "constants.py").write_text("C = 3\n")
    (package / "plots.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    np.save(tmp_path / "observed.npy", np.zeros(2))
    return package


SIMULATOR = "graph.x.simulator._target_=physics_package.simulator.simulate"


@pytest.mark.parametrize("name", ["simulator.py", "constants.py"])
def test_a_change_of_the_simulators_code_is_one_of_the_trajectory(user_code, tmp_path, name):
    run = new_run(tmp_path / "run", SIMULATOR)
    (user_code / "plots.py").write_text("# nothing of the simulator's")
    assert verdicts(run, SIMULATOR) == {}
    (user_code / name).write_text("C = 4")
    message = refusal(run, SIMULATOR)
    assert "code.physics_package.simulator.simulate" in message
    assert "allow: 'resume_allow=[code]'" in message
    begin(run, RESUME, SIMULATOR, "resume_allow=[code]")
    assert verdicts(run, SIMULATOR) == {}


def test_a_requeued_job_continues_with_other_code_and_reports_it(user_code, tmp_path, monkeypatch):
    run = new_run(tmp_path / "run", SIMULATOR)
    (user_code / "simulator.py").write_text("C = 4")
    monkeypatch.setenv("FRAMEWORK_REQUEUED", "1")
    (change,) = plan(run, SIMULATOR).changes
    assert diff_format.verdict(change) == "⚠ its code has changed; a requeued job continues nevertheless"


def test_installed_code_and_the_frameworks_own_have_versions_instead(user_code):
    targets = ["torch.nn.Flatten", "framework.networks.MLP", "physics_package.simulator.f", "json.dumps", "nowhere.f"]
    assert list(code_digests({"network": [{"_target_": t} for t in targets]})) == ["physics_package.simulator.f"]


def test_packages_of_a_clusters_module_system_are_installed_code(user_code, tmp_path, monkeypatch):
    loaded = tmp_path / "opt/pytorch/lib/python3.11/site-packages"
    loaded.mkdir(parents=True)
    (loaded / "loaded_by_module.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(str(loaded))
    assert code_digests({"network": {"_target_": "loaded_by_module.f"}}) == {}
    before = code_digests({"network": {"_target_": "physics_package.simulator.f"}})
    (user_code / "constants.py").write_text("C = 3\nimport loaded_by_module\n")
    changed = code_digests({"network": {"_target_": "physics_package.simulator.f"}})
    (loaded / "loaded_by_module.py").write_text("x = 2\n")
    assert before != changed == code_digests({"network": {"_target_": "physics_package.simulator.f"}})
