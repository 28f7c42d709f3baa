"""What a run is, even where part of its records is lost: the checkpoints hold its configuration too."""

import logging
from contextlib import suppress
from pathlib import Path
from typing import Any

from framework.errors import CheckpointError
from framework.rundir.attempts import CONFIG_FILE, manifests
from framework.rundir.directory import RunDirectory, RunRecord

log = logging.getLogger(__name__)


def run_record(directory: RunDirectory, generation: Path | None = None) -> RunRecord:
    """Return the run's record, as it is now or was at a checkpoint.

    Raises `CheckpointError` where neither attempts nor checkpoints tell its config.
    """
    try:
        return directory.record(generation)
    except CheckpointError:
        config, _ = _checkpointed(directory)
        if config is None:
            raise
        facts = directory.facts()
        return RunRecord(config, facts.get("code", {}), facts.get("versions", {}), directory.attempts())


def mend_config(directory: RunDirectory) -> None:
    """Write `config.yaml` again where it is missing or damaged, from the newest checkpoint, and say so."""
    try:
        directory.pinned_config()
    except CheckpointError:
        config, path = _checkpointed(directory)
        if config is None:
            config, path = run_record(directory).config, directory.attempts_dir
        with suppress(FileNotFoundError):
            directory.config_path.rename(directory.config_path.with_suffix(".yaml.damaged"))
        log.warning("⚠ %s was missing or damaged: rebuilt from %s", directory.config_path, path)
        directory.pin(config)


def newest_generation(directory: RunDirectory) -> Path | None:
    """Return the newest committed checkpoint, unread: enough to say where the run is."""
    return max((path.parent for path in manifests(directory.path)), default=None)


def _checkpointed(directory: RunDirectory) -> tuple[dict[str, Any] | None, Path]:
    """Return the config in the newest checkpoint that is whole, and its file."""
    from framework.checkpoint import CheckpointStore  # torch, which nothing else here needs

    for generation in reversed(CheckpointStore(directory.checkpoints_dir).generations()):
        try:
            return generation.load(CONFIG_FILE), generation.path / CONFIG_FILE
        except CheckpointError:
            continue
    return None, directory.checkpoints_dir
