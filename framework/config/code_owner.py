"""Determine who owns a module's code from its location, without importing it."""

import site
import sys
import sysconfig
from enum import Enum, auto
from functools import cache
from importlib.machinery import ModuleSpec
from pathlib import Path

from framework.paths import BUNDLE_DIR

_PACKAGES = {"site-packages", "dist-packages"}  # clusters also add other directories of these to Python's path


class CodeOwner(Enum):
    """Who is responsible for a module's code."""

    USER = auto()  # the user's project: code without a version
    EXPERIMENT = auto()  # an example experiment that is shipped with the framework
    PACKAGE = auto()  # an installed package, or the framework itself
    PYTHON = auto()
    RUN = auto()  # a file inside a run directory


def owner_of(spec: ModuleSpec | None, run_dir: Path | None = None) -> CodeOwner:
    """Return the owner of the module; `RUN`, for code in `run_dir` or any run directory, only if `run_dir` is given."""
    if spec is None or spec.name.partition(".")[0] in sys.stdlib_module_names:
        return CodeOwner.PYTHON
    if not spec.has_location and not spec.submodule_search_locations:
        return CodeOwner.PYTHON
    places = [Path(place) for place in ([spec.origin] if spec.origin else spec.submodule_search_locations or [])]
    if run_dir is not None and any(_is_in_run(place, run_dir) for place in places):
        return CodeOwner.RUN
    if all(place.is_relative_to(BUNDLE_DIR / "experiments") for place in places) and any(map(_has_version, places)):
        return CodeOwner.EXPERIMENT
    if any(map(_has_version, places)):
        return CodeOwner.PACKAGE
    stdlib = Path(sysconfig.get_paths()["stdlib"])
    return CodeOwner.PYTHON if any(place.is_relative_to(stdlib) for place in places) else CodeOwner.USER


def _has_version(place: Path) -> bool:
    return not _PACKAGES.isdisjoint(place.parts) or any(place.is_relative_to(root) for root in _installed())


@cache
def _installed() -> list[Path]:
    """Return the directories that hold versioned code: installed packages and the framework itself."""
    paths = sysconfig.get_paths()
    roots = [paths["purelib"], paths["platlib"], *site.getsitepackages(), site.getusersitepackages()]
    return [Path(root) for root in roots] + [Path(__file__).parents[1]]


def _is_in_run(place: Path, run_dir: Path) -> bool:
    """Return whether a file lies in `run_dir` or another run directory, directly or through a symbolic link."""
    for path in (place.absolute(), place.resolve()):
        if path.is_relative_to(run_dir.absolute()) or path.is_relative_to(run_dir.resolve()):
            return True
        if any((parent / "run.json").exists() and (parent / "config.yaml").exists() for parent in path.parents):
            return True
    return False
