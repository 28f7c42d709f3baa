"""Sources of configuration values: the override or the file that sets each."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from framework.config.overrides import last_to_set
from framework.paths import BUNDLE_DIR, CONF_DIR

_GLOBAL = re.compile(r"^# @package _global_", re.M)


class ConfigSources:
    """The overrides and files from which one command line's configuration was composed.

    `hydra` is Hydra's part of the configuration: overrides, choices and the search path.
    """

    def __init__(self, hydra: Any) -> None:
        self.overrides: list[str] = list(hydra.overrides.task)
        sources = [Path(source.path) for source in hydra.runtime.config_sources if source.schema == "file"]
        files = [("", source / "config.yaml") for source in sources]
        for group, options in hydra.runtime.choices.items():
            for option in [options] if isinstance(options, str) else options or []:
                files += [(str(group).replace("/", "."), source / group / f"{option}.yaml") for source in sources]
        self._files = sorted(filter(None, map(_read, files)), key=lambda file: file.rank)

    def of(self, path: Sequence[str | int]) -> str:
        """Return the override, or else the last file, that sets the key at `path` or a group that contains it."""
        if override := last_to_set(self.overrides, path):
            return override
        return next((file.name for file in reversed(self._files) if file.sets(path)), "the default")


def own_config_dirs(hydra: Any) -> list[str]:
    """Return the user's own conf directories on Hydra's search path, such as that of `--config-dir`."""
    sources = hydra.runtime.config_sources
    return [source.path for source in sources if source.schema == "file" and Path(source.path) != CONF_DIR]


class _File:
    """A YAML file on the search path, with its content nested under the keys of its group."""

    def __init__(self, group: str, path: Path) -> None:
        text = path.read_text(encoding="utf-8")
        is_global = not group or _GLOBAL.search(text) is not None
        self.content: Any = yaml.safe_load(text)
        for name in [] if is_global else reversed(group.split(".")):
            self.content = {name: self.content}
        self.rank = 0 if not group else 2 if is_global else 1  # later ones take precedence
        self.name = str(path)
        for root in (Path.cwd(), BUNDLE_DIR):
            if path.is_relative_to(root):
                self.name = str(path.relative_to(root))
                break

    def sets(self, path: Sequence[str | int]) -> bool:
        at = self.content
        for name in path:
            if not isinstance(at, Mapping):  # an element of a list, which is always set as a whole
                return isinstance(at, list)
            if name not in at:
                return False
            at = at[name]
        return True


def _read(file: tuple[str, Path]) -> _File | None:
    try:
        return _File(*file)
    except (OSError, yaml.YAMLError):
        return None
