"""The record of one process of a run, `attempts/NNN.json`, and what can be told from it. Knows nothing of torch."""

import json
import logging
import os
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

_KEYS = {"host", "start", "end", "stop_reason"}

CONFIG_FILE = "config.json"  # in every checkpoint: the config that it was trained with
LOST = "lost"  # the stop reason of an attempt that ended without a word


class Attempt:
    """The attempt under way; `facts` are written to its file whenever they change."""

    def __init__(self, path: Path, facts: Mapping[str, Any]) -> None:
        self.path = path
        self.facts: dict[str, Any] = {
            **facts,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "command": [sys.executable, *sys.argv],
            "start": now(),
            "phases": {},  # when each began
            "end": None,
            "stop_reason": None,
            "lost_seconds": 0.0,  # of work that is to be done again
        }
        write_atomically(path, json.dumps(self.facts, indent=1))

    def begin(self, phase: str) -> None:
        """Record the start of a phase."""
        self.facts["phases"][phase] = now()
        self._write()

    def record(self, **facts: Any) -> None:
        """Record more of what happens."""
        self.facts |= facts
        self._write()

    def end(self, stop_reason: str) -> None:
        """Record the end and why."""
        self.facts |= ending(self.path.parents[1], self.facts, stop_reason, time.time())
        self._write()

    def _write(self) -> None:
        """Write the facts; on a full disk that is left undone."""
        try:
            write_atomically(self.path, json.dumps(self.facts, indent=1))
        except OSError as error:
            log.warning("⚠ %s: what happens is not recorded (%s)", self.path, error.strerror)


def ending(run_dir: Path, facts: Mapping[str, Any], stop_reason: str, end: float) -> dict[str, Any]:
    """Return what is recorded of an attempt's end at `end`, in Unix seconds."""
    began = max(moment(facts["start"]), last_commit(run_dir) or 0.0)
    lost = 0.0 if stop_reason == "finished" else max(end - began, 0.0)
    return {"end": _text(end), "stop_reason": stop_reason, "lost_seconds": round(lost, 3)}


def read_attempts(run_dir: Path) -> list[dict[str, Any]]:
    """Return the facts of all attempts, without those that a crash has left unreadable."""
    return [facts for facts in map(read_attempt, attempt_paths(run_dir)) if facts is not None]


def attempt_paths(run_dir: Path) -> list[Path]:
    """Return the files of all attempts, the oldest first."""
    return sorted((run_dir / "attempts").glob("[0-9]*.json"))


def read_attempt(path: Path) -> dict[str, Any] | None:
    """Return the facts of an attempt, or None where the file is damaged."""
    with suppress(OSError, ValueError):
        facts = json.loads(path.read_text(encoding="utf-8"))
        return facts if isinstance(facts, dict) and facts.keys() >= _KEYS else None
    return None


def close_lost(run_dir: Path, path: Path, last_sign: float) -> None:
    """Record the end of an earlier attempt that could not do so itself: the last sign of its life."""
    facts = read_attempt(path)
    if facts and facts["end"] is None:
        end = last_sign_of(run_dir, facts, last_sign)
        write_atomically(path, json.dumps(facts | ending(run_dir, facts, LOST, end), indent=1))


def last_sign_of(run_dir: Path, facts: Mapping[str, Any], heartbeat: float) -> float:
    """Return when an attempt was certainly alive last, in Unix seconds: its heartbeat or the newest of its files."""
    times = [heartbeat, moment(facts["start"]), _modified(run_dir / "metrics.jsonl"), last_commit(run_dir)]
    return max(t for t in times if t is not None)


def last_commit(run_dir: Path) -> float | None:
    """Return when the newest checkpoint or simulations were committed, in Unix seconds."""
    times = [last_checkpoint(run_dir), *map(_modified, (run_dir / "simulations").glob("*.npy"))]
    return max((t for t in times if t is not None), default=None)


def manifests(run_dir: Path) -> list[Path]:
    """Return the manifests of all committed checkpoints but emergencies, the oldest first."""
    return sorted((run_dir / "checkpoints").glob("[0-9]*[0-9]/manifest.json"))


def last_checkpoint(run_dir: Path) -> float | None:
    """Return when the newest checkpoint was committed, in Unix seconds."""
    times = map(_modified, manifests(run_dir))
    return max((t for t in times if t is not None), default=None)


def saved_state(run_dir: Path) -> list[Any]:
    """Return what differs as soon as weights, simulations or samples are saved that were not there before."""
    weights: list[Any] = []
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):  # damaged, or none yet
        files = json.loads(manifests(run_dir)[-1].read_text(encoding="utf-8"))["files"]
        weights = [{name: entry for name, entry in files.items() if name.endswith(".pth")}]
    return weights + [sum(1 for _ in run_dir.glob(pattern)) for pattern in ("simulations/*.npy", "samples/**/*")]


def saved_with(generation: Path) -> tuple[dict[str, Any], float] | None:
    """Return the config of a checkpoint, and when it was saved in Unix seconds; None where they cannot be read."""
    with suppress(OSError, ValueError, LookupError, TypeError):
        config = dict(json.loads((generation / CONFIG_FILE).read_text(encoding="utf-8")))
        manifest = json.loads((generation / "manifest.json").read_text(encoding="utf-8"))
        return config, moment(manifest["run"]["saved_at"])
    return None


def saved_by_lost(run_dir: Path) -> tuple[dict[str, Any], float] | None:
    """Return that of the newest checkpoint, if it was saved by an attempt whose record cannot be read."""
    attempts, generations = [read_attempt(path) for path in attempt_paths(run_dir)], manifests(run_dir)
    if not attempts or attempts[-1] or not generations:
        return None
    saved = saved_with(generations[-1].parent)
    return saved if saved and all(moment(a["start"]) <= saved[1] for a in attempts if a) else None


def write_atomically(path: Path, text: str) -> None:
    """Write a small file so that readers see the old or the new one, whole."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def now() -> str:
    """Return the local time with its offset, to the millisecond."""
    return _text(time.time())


def moment(text: str) -> float:
    """Return Unix seconds for what `now` returned."""
    return datetime.fromisoformat(text).timestamp()


def _text(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="milliseconds")


def _modified(path: Path) -> float | None:
    with suppress(OSError):  # removed since it was listed
        return path.stat().st_mtime
    return None
