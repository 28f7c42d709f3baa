"""The folder of a job within its sweep, from what the command line sets: the same whatever the order or number."""

import re
from collections.abc import Iterable, Sequence
from hashlib import sha256

from omegaconf import OmegaConf

from framework.config.overrides import Override
from framework.config.resume_class import resume_class
from framework.config.schema import FREE

_MAX_LENGTH = 200  # of a folder's name, in bytes; file systems allow 255


def register_folder_names() -> None:
    """Make `${folder:...}` resolvable: the name for a list of overrides."""
    OmegaConf.register_new_resolver("folder", folder_name, replace=True)


def folder_name(overrides: Sequence[str]) -> str:
    """Return the folder for the overrides, such as `network.hidden_dim=64,seed=3`; `base` if none matters.

    Of two overrides of one key the last one counts, as in Hydra. Keys that a resumed run
    may change are ignored. Characters that do not fit into a folder's name are replaced, and a digest
    is added so that different overrides have different names.
    """
    text = ",".join(f"{key}={value}" for key, value in sorted(values_of(overrides).items()) if not is_free(key))
    safe = re.sub(r"[^\w=.,+~@%-]", "_", text)
    if safe != text or len(safe.encode()) > _MAX_LENGTH:
        start = safe.encode()[: _MAX_LENGTH - 9].decode(errors="ignore")
        safe = f"{start}-{sha256(text.encode(errors='surrogateescape')).hexdigest()[:8]}"
    return safe or "base"


def values_of(overrides: Iterable[str]) -> dict[str, str]:
    """Return what each key or group is set to; of two overrides for one key the last counts."""
    return {override.path: override.value or "" for override in map(Override.parse, overrides)}


def is_free(key: str) -> bool:
    """Tell whether the key is one that a resumed run may change."""
    try:
        return resume_class(key.split(".")) == FREE
    except (LookupError, StopIteration):  # no key of the schema: a group such as `experiment`
        return False
