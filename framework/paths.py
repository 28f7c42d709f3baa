"""Where the bundled configuration and experiments lie: in the checkout, or inside the installed package."""

import sys
from pathlib import Path

from omegaconf import OmegaConf

_PACKAGED = Path(__file__).parent / "_bundled"  # present only in a wheel
BUNDLE_DIR = _PACKAGED if _PACKAGED.is_dir() else Path(__file__).parents[1]
CONF_DIR = BUNDLE_DIR / "conf"


def register_bundle() -> None:
    """Make `experiments.*` importable and `${experiments:...}` resolvable from any working directory."""
    if str(BUNDLE_DIR) not in sys.path:
        sys.path.append(str(BUNDLE_DIR))  # last, so that the user's own modules come first
    OmegaConf.register_new_resolver("experiments", lambda path: str(BUNDLE_DIR / "experiments" / path), replace=True)
