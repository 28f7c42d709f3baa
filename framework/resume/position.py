"""The training progress of the run that an attempt resumes."""

from collections.abc import Mapping
from typing import Any

from framework.config.parse import from_container, node_settings
from framework.errors import ConfigError
from framework.resume.compare import parsed
from framework.rundir.directory import RunDirectory
from framework.rundir.run_record import RunRecord


def position(source: RunDirectory, old: RunRecord, progress: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the position of the current node, such as ` from epoch 47/300`."""
    if not progress:
        return " from its simulations"
    try:
        config = from_container(parsed(source, old.config))
    except ConfigError:  # from another version, and refused for that reason
        return ""
    node = next((name for name, p in progress.items() if not p["finished"]), list(progress)[-1])
    of = f" of {node}" if sum(bool(n.evidence) for n in config.graph.values()) > 1 else ""
    epoch = progress[node]["epoch"] + (progress[node]["batch"] > 0)  # the current epoch, as logged during training
    return f" from epoch {epoch}/{node_settings(config, node).loop.num_epochs}{of}"
