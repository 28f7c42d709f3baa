"""Every key of the schema stands in conf/ with the same default: Hydra knows no other key of a command line."""

from dataclasses import MISSING, fields, is_dataclass
from functools import reduce

import pytest
from hydra import compose, initialize_config_dir

from framework.config.parse import parse_config
from framework.config.schema import Config
from framework.paths import CONF_DIR, register_bundle

register_bundle()


def keys(kind=Config, prefix=""):
    """Yield each key of the schema with its default; those of a node are for experiments to declare."""
    for key in fields(kind):
        default = key.default if key.default_factory is MISSING else key.default_factory()
        if is_dataclass(default):
            yield from keys(type(default), f"{prefix}{key.name}.")
        else:
            yield f"{prefix}{key.name}", default


@pytest.fixture(scope="module")
def written():
    """What `conf/` holds of a run, without an experiment."""
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return compose("config", overrides=["~experiment", "name=any"])


def value_at(config, key):
    return reduce(getattr, key.split("."), config)


def file_of(key):
    group, dot, _ = key.rpartition(".")
    return f"conf/{group}/default.yaml" if dot else "conf/config.yaml"


@pytest.mark.parametrize("key", dict(keys()))
def test_a_key_of_the_schema_is_written_in_conf(written, key):
    group, _, name = key.rpartition(".")
    assert name in (value_at(written, group) if group else written), f"add {key} to {file_of(key)}"


@pytest.mark.parametrize(
    ("key", "default"), [(key, default) for key, default in keys() if key != "name" and not (CONF_DIR / key).is_dir()]
)
def test_its_default_is_that_of_conf(written, key, default):
    """Not of parts that users swap: conf/config.yaml chooses one of their files. Experiments set `name`."""
    value = value_at(parse_config(written), key)
    assert (value, type(value)) == (default, type(default)), f"{key} in {file_of(key)}"
