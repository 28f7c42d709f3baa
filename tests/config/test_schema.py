"""Every key of the schema stands in `conf/` with the same default, and every key of `conf/` in the schema."""

import dataclasses

import pytest
from omegaconf import MISSING, OmegaConf

from framework.config.duration import parse_duration
from framework.config.schema import Config
from framework.launcher.launcher_config import LocalConfig, SlurmConfig, StudyConfig
from framework.paths import CONF_DIR

OF_HYDRA = {"_target_", "_recursive_", "defaults", "hydra"}


def read(path):
    return OmegaConf.to_container(OmegaConf.load(CONF_DIR / path))


def groups_of(defaults):
    """Return the groups that a list of defaults chooses files for."""
    return {name for entry in defaults if isinstance(entry, dict) for name in entry}


def default_of(field):
    return field.default if field.default is not dataclasses.MISSING else field.default_factory()


def same_default(value, default, metadata):
    """Tell whether the default of a file is that of the schema, which has seconds for durations."""
    if default == MISSING or (default == {} and "_target_" in (value or {})):
        return True  # the schema has none: the key must be given, or is a part that users swap
    is_word = value is None or value in metadata.get("choices", ())
    return (parse_duration(value) if metadata.get("duration") and not is_word else value) == default


def mistakes(kind, path, prefix=""):
    """Return what to add or change where, so that the file holds the keys and defaults of `kind`."""
    values, file = read(path), f"conf/{path}"
    groups = groups_of(values.get("defaults", []))
    fields = {field.name: field for field in dataclasses.fields(kind) if field.name not in groups}
    found = [f"{file}: {kind.__name__} has no {name}: add it there" for name in values.keys() - fields - OF_HYDRA]
    for name, field in fields.items():
        default = default_of(field)
        if dataclasses.is_dataclass(default):
            found.append(f"{file}: add `- {name}: default` to its defaults, and conf/{name}/default.yaml")
        elif name not in values:
            line = OmegaConf.to_yaml({name: default}).strip()
            found.append(f"{file}: add `{line}`, or else {prefix}{name}=... fails as no such key")
        elif not same_default(values[name], default, field.metadata):
            found.append(f"{file}: {name} is {values[name]}, and in {kind.__name__} {default}: change one of them")
    return found


GROUPS = {field.name: type(default_of(field)) for field in dataclasses.fields(Config)}
FILES = {
    "config.yaml": (Config, ""),
    **{f"{name}/default.yaml": (kind, f"{name}.") for name, kind in GROUPS.items() if dataclasses.is_dataclass(kind)},
    "hydra/launcher/slurm.yaml": (SlurmConfig, "hydra.launcher."),
    "hydra/launcher/slurm_local.yaml": (LocalConfig, "hydra.launcher."),
    "hydra/sweeper/study.yaml": (StudyConfig, "hydra.sweeper."),
}


@pytest.mark.parametrize("path", FILES)
def test_a_file_holds_the_keys_and_defaults_of_its_schema(path):
    kind, prefix = FILES[path]
    assert not mistakes(kind, path, prefix)


@dataclasses.dataclass
class Changed(GROUPS["loop"]):
    """The schema of the loop with a key that has no line in `conf/`, and another default."""

    batch_size: int = 100
    warmup: float = dataclasses.field(default=1.0, metadata={"duration": True})


def test_what_differs_is_named_with_the_line_to_add():
    assert mistakes(Changed, "loop/default.yaml", "loop.") == [
        "conf/loop/default.yaml: batch_size is 200, and in Changed 100: change one of them",
        "conf/loop/default.yaml: add `warmup: 1.0`, or else loop.warmup=... fails as no such key",
    ]
    assert "Config has no num_samples: add it there" in " ".join(mistakes(Config, "inference/default.yaml"))
