"""Locations of code and files: the bundled configuration and experiments, and the user's working directory."""

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from omegaconf import OmegaConf

_STDLIB = Path(os.__file__).parent
_PACKAGED = Path(__file__).parent / "_bundled"  # present only in a wheel
BUNDLE_DIR = _PACKAGED if _PACKAGED.is_dir() else Path(__file__).parents[1]
CONF_DIR = BUNDLE_DIR / "conf"


def register_bundle() -> None:
    """Make `experiments.*` importable, and the bundled configuration's references resolvable, from any directory."""
    if str(BUNDLE_DIR) not in sys.path:
        sys.path.append(str(BUNDLE_DIR))  # last, so that the user's modules take precedence
    OmegaConf.register_new_resolver("experiments", lambda path: str(BUNDLE_DIR / "experiments" / path), replace=True)
    OmegaConf.register_new_resolver("for_callbacks", _hydra_subdir, replace=True)


def _hydra_subdir(callbacks: Mapping[str, object]) -> str | None:
    """Return Hydra's output subdirectory, needed only if there are callbacks other than the framework's."""
    return ".hydra" if {*callbacks} - {"preflight"} else None


def work_in(directory: str | Path) -> None:
    """Resolve relative paths and imports from `directory`, in which the command was typed.

    The standard library is searched first, so that a file in the directory cannot replace a part of it, and installed
    packages last. As with `python -m`, PYTHONSAFEPATH=1 excludes the directory from imports.
    """
    with suppress(OSError):  # missing on this machine; missing files are reported when they are used
        os.chdir(directory)
    if not sys.flags.safe_path:
        standard = [path for path in sys.path if Path(path) in (_STDLIB, _STDLIB / "lib-dynload")]
        sys.path[:] = dict.fromkeys([*standard, str(directory), *sys.path])
