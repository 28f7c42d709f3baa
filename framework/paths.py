"""Where code and files are found: the bundled configuration and experiments, and what lies beside the user."""

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
    """Make `experiments.*` importable and what the bundled configuration refers to resolvable, from anywhere."""
    if str(BUNDLE_DIR) not in sys.path:
        sys.path.append(str(BUNDLE_DIR))  # last, so that the user's own modules come first
    OmegaConf.register_new_resolver("experiments", lambda path: str(BUNDLE_DIR / "experiments" / path), replace=True)
    OmegaConf.register_new_resolver("for_callbacks", _hydra_subdir, replace=True)


def _hydra_subdir(callbacks: Mapping[str, object]) -> str | None:
    """Return where Hydra writes for callbacks; without any but the framework's own there is no need to."""
    return ".hydra" if {*callbacks} - {"preflight"} else None


def work_in(directory: str | Path) -> None:
    """Make `directory`, where the command was typed, the one that relative paths and imports start from.

    Imports look in the standard library first, so that a file beside the user cannot replace a part of it, and in
    installed packages last. As with `python -m`, PYTHONSAFEPATH=1 keeps the directory out of the imports.
    """
    with suppress(OSError):  # not there on this machine; what is missing is named where it is used
        os.chdir(directory)
    if not sys.flags.safe_path:
        standard = [path for path in sys.path if Path(path) in (_STDLIB, _STDLIB / "lib-dynload")]
        sys.path[:] = dict.fromkeys([*standard, str(directory), *sys.path])
