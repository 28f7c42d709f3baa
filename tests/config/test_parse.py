"""The composed configuration: every bundled file parses, and every mistake names its key."""

import pytest
from hydra import compose, initialize_config_dir

from framework.config import renamed
from framework.config.parse import node_settings, parse_config
from framework.config.schema import RuntimeConfig
from framework.errors import ConfigError
from framework.paths import CONF_DIR, register_bundle

register_bundle()


def config_of(*overrides):
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return parse_config(compose("config", overrides=list(overrides)))


def options(group):
    return sorted(path.stem for path in (CONF_DIR / group).glob("*.yaml"))


@pytest.mark.parametrize("experiment", options("experiment"))
def test_every_experiment_composes(experiment):
    assert config_of(f"experiment={experiment}").name == experiment


@pytest.mark.parametrize("group", ["network", "embedding", "optimizer", "optimizer/scheduler"])
def test_every_option_of_a_group_composes(group):
    for option in options(group):
        assert config_of(f"{group}={option}").name == "two_moons"


def test_a_word_of_an_earlier_version_is_taken_with_one_line_that_says_what_to_write(caplog):
    renamed._note.cache_clear()
    for _ in range(2):
        assert config_of("runtime.requeue=scontrol").runtime.requeue == "native"
    assert caplog.messages == ["⚠ runtime.requeue=scontrol is now called native; write runtime.requeue=native"]


def test_only_the_key_that_had_the_word_takes_it():
    with pytest.raises(ConfigError, match="expected step or epoch"):
        config_of("runtime.drain=scontrol")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("+resmue=true", "resmue=True: no such key; did you mean 'resume'?"),
        ("+loop.num_epoch=3", "loop.num_epoch=3: no such key; did you mean 'num_epochs'?"),
        ("+graph.z.evidnce=[x]", r"graph.z.evidnce=\['x'\]: no such key; did you mean 'evidence'?"),
        ("loop.num_epochs=many", "loop.num_epochs=many: expected a whole number"),
        ("loop.num_epochs=2.5", "loop.num_epochs=2.5: expected a whole number"),
        ("loop.batch_size=0", "loop.batch_size=0: expected at least 1"),
        ("loop.validation_fraction=0", "loop.validation_fraction=0.0: expected more than 0.0"),
        ("loop.validation_fraction=1", "loop.validation_fraction=1.0: expected at most 0.9"),
        ("loop.compile=1", "loop.compile=1: expected true or false"),
        ("loop.num_epochs=null", "loop.num_epochs=null: expected a whole number"),
        ("simulation.workers=all", "simulation.workers=all: expected auto or a whole number"),
        ("simulation.from_file=[a]", "simulation.from_file=.*: expected text"),
        (
            "runtime.checkpoint_before_end=5x",
            "runtime.checkpoint_before_end=5x: expected auto, or a duration such as 90s",
        ),
        ("runtime.wall_clock_budget=atuo", "runtime.wall_clock_budget=atuo: expected auto, or a duration such as 90s"),
        ("runtime.checkpoint_before_end=null", "runtime.checkpoint_before_end=null: expected auto or a number"),
        ("runtime.drain=epochs", "runtime.drain=epochs: expected step or epoch; did you mean 'epoch'?"),
        ("runtime.grace=soon", "runtime.grace=soon: expected a duration such as 90s"),
        ("runtime.keep=0", "runtime.keep=0: expected at least 1"),
        ("runtime.exit_code=0", "runtime.exit_code=0: expected at least 1"),
        ("runtime.exit_code=256", "runtime.exit_code=256: expected at most 255"),
        ("graph.x.backend=jax", "graph.x.backend=jax: expected numpy or torch"),
        ("+graph.z.labels=rate", "graph.z.labels=rate: expected a list"),
        ("+graph.z.labels=[rate, 2]", "graph.z.labels.1=2: expected text"),
        ("+graph.z.loop={num_epoch: 3}", "graph.z.loop.num_epoch=3: no such key"),
        ("+graph.z.loop={batch_size: 0}", "graph.z.loop.batch_size=0: expected at least 1"),
        ("loop.num_epochs=${nothing}", "loop.num_epochs: Interpolation key 'nothing' not found"),
        ("+network.options={3: 4}", "network.options.3=4: a key must be text"),
        ("resume_allow=optimizer.lr", "resume_allow=optimizer.lr: expected a list"),
        ("name=null", "name=null: expected text"),
        ("name=''", "name=: expected the name of a directory below outputs"),
        ("name=.", "name=.: expected the name of a directory"),
        ("name=a/../../b", "name=a/../../b: expected the name of a directory"),
        ("name=/elsewhere", "name=/elsewhere: expected the name of a directory"),
        ("name='a\tb'", r"name='a\\tb': expected the name of a directory"),
        ("name='\udcff'", r"name='\\udcff': expected text in UTF-8"),
        ("loop.clip_grad_norm=nan", "loop.clip_grad_norm=nan: expected a finite number"),
        ("loop.validation_fraction=-inf", "loop.validation_fraction=-inf: expected a finite number"),
        (f"loop.clip_grad_norm={'9' * 400}", "loop.clip_grad_norm=inf: expected a finite number"),
        ("loop.num_epochs=1e30", "loop.num_epochs=1000000000000000019884624838656: expected at most 2147483647"),
        ("runtime.grace=1e30", "runtime.grace=1e[+]30: expected a duration"),
        ("+graph={a-b: {}}", "graph.a-b: a node's name must be a Python identifier"),
    ],
)
def test_a_mistake_is_named_with_what_was_expected(override, message):
    with pytest.raises(ConfigError, match=message.replace("?", r"\?")):
        config_of(override)


def test_an_argument_of_a_users_own_part_may_be_any_number():
    config = config_of("+graph.x.simulator.cutoff=inf", f"+graph.x.simulator.key={2**40}")
    assert (config.graph["x"].simulator["cutoff"], config.graph["x"].simulator["key"]) == (float("inf"), 2**40)


def test_durations_become_seconds():
    runtime = config_of("runtime.wall_clock_budget=23h30m", "runtime.periodic_checkpoint_every=null").runtime
    assert (runtime.wall_clock_budget, runtime.periodic_checkpoint_every) == (84_600, None)


def test_the_runtime_block_has_its_defaults_and_takes_auto():
    assert config_of().runtime == RuntimeConfig()
    automatic = config_of("runtime.wall_clock_budget=auto", "runtime.periodic_checkpoint_every=auto").runtime
    assert (automatic.wall_clock_budget, automatic.periodic_checkpoint_every) == ("auto", "auto")
    runtime = config_of("runtime.checkpoint_before_end=5m", "runtime.drain=epoch", "runtime.grace=1m").runtime
    assert (runtime.checkpoint_before_end, runtime.drain, runtime.grace) == (300, "epoch", 60)


def test_a_whole_number_may_be_written_as_a_float():
    assert config_of("simulation.num_simulations=1e5").simulation.num_simulations == 100_000


@pytest.mark.parametrize("override", ["resume=true", "+resume=true", "++resume=true"])
def test_resume_can_be_asked_for_with_and_without_a_plus(override):
    assert config_of(override).resume is True


def test_an_override_of_one_node_changes_that_node_alone():
    config = config_of(
        "experiment=signal_chain",
        "+graph.source.loop.batch_size=7",
        "+graph.source.network.hidden_dim=9",
        "+graph.source.inference.num_samples=11",
        "+graph.source.optimizer.lr=0.5",
    )
    source, calibration = node_settings(config, "source"), node_settings(config, "calibration")
    assert (source.loop.batch_size, source.network["hidden_dim"]) == (7, 9)
    assert (source.inference.num_samples, source.optimizer["lr"]) == (11, 0.5)
    assert source.network["family"] == calibration.network["family"] == "NSF"
    assert calibration.loop == config.loop
    assert calibration.network == config.network


def test_a_node_with_another_target_takes_none_of_the_global_keys():
    config = config_of("+graph.z.network={_target_: framework.estimators.Gaussian, hidden_dim: 8}")
    assert node_settings(config, "z").network == {"_target_": "framework.estimators.Gaussian", "hidden_dim": 8}


def test_a_node_can_embed_each_of_its_evidence_differently():
    config = config_of(
        "experiment=signal_chain",
        "embedding=mlp",
        "+graph.source.embedding={data: {_target_: framework.networks.Conv1d, output_dim: 4}}",
    )
    embedding = node_settings(config, "source").embedding
    assert embedding["data"] == {"_target_": "framework.networks.Conv1d", "output_dim": 4}
    assert embedding["witness"] == embedding["calibration"] == config.embedding
