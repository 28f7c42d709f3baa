"""One segment of a W&B run: all calls of the SDK."""

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, cast

from framework.records import parse_json, read_bytes
from framework.rundir.attempts import read_attempts
from framework.rundir.run_config import read_config
from framework.rundir.run_record import read_run_info

GLOBAL_STEP = "trainer/global_step"
_INIT_SECONDS = 60.0


class WandbRun:
    """A W&B run with the id from `run.json`, rewound to `rewind_to` lines of its history if given.

    `num_lines` is the number of lines on the server, None offline. Errors of the SDK are not handled here.
    """

    def __init__(
        self,
        run_dir: Path,
        project: str,
        entity: str | None,
        mode: str,
        finish_seconds: float,
        rewind_to: int | None = None,
    ) -> None:
        import wandb

        with suppress(Exception):  # an earlier try may have left a dead process
            wandb.teardown()
        self._wandb, self._run_dir = wandb, run_dir
        info = read_run_info(run_dir)
        assert info is not None, "run.json is written before training starts"
        run_id = info.run_id
        resume_options: dict[str, Any] = {"resume": "allow"} if mode == "online" else {}
        if rewind_to is not None:
            resume_options = {"resume_from": f"{run_id}?_step={rewind_to - 1}"}
        settings = wandb.Settings(
            console="off",
            silent=True,
            init_timeout=_INIT_SECONDS,
            finish_timeout=finish_seconds,
            finish_timeout_raises=True,
        )
        config = _read_config(run_dir)
        self._run = wandb.init(
            id=run_id,
            name=config.get("name"),
            project=project,
            entity=entity,
            mode=cast(Literal["online", "offline"], mode),
            dir=run_dir,
            settings=settings,
            **resume_options,
        )
        self._run.config.update(config, allow_val_change=True)
        self._run.define_metric(GLOBAL_STEP)
        self._nodes: set[str] = set()
        self.num_lines: int | None = self._run.starting_step if mode == "online" else None

    @property
    def segment(self) -> str:
        """The name of the segment's directory."""
        return Path(self._run.dir).parent.name

    def log(self, row: Mapping[str, Any], global_step: int, number: int) -> None:
        """Send one row of `metrics.jsonl` as a line of the history."""
        node = row["node"]
        if node not in self._nodes:
            self._run.define_metric(f"{node}/*", step_metric=GLOBAL_STEP)
            self._nodes.add(node)
        metrics = {f"{node}/{name}": value for name, value in row.items() if name not in ("node", "step")}
        self._run.log({**metrics, GLOBAL_STEP: global_step}, step=number)

    def report_digest(self) -> str | None:
        """Return a digest of the report, or None if there is no report."""
        path = self._summary_path
        return hashlib.sha256(read_bytes(path)).hexdigest() if path.exists() else None

    def log_report(self, number: int) -> None:
        """Send the report's figures and tables."""
        report = parse_json(self._summary_path, read_bytes(self._summary_path))
        content: dict[str, Any] = {
            f"report/{path.stem}": self._wandb.Image(str(path))
            for path in sorted(self._summary_path.parent.glob("*.png"))
            if not path.is_symlink()
        }
        for node, numbers in report["nodes"].items():
            rows = [{"observation": i, **row} for i, rows in enumerate(numbers["observations"]) for row in rows]
            if rows:
                columns = list(rows[0])
                table = self._wandb.Table(columns=columns, data=[[row[name] for name in columns] for row in rows])
                content[f"report/{node}_posterior"] = table
            self._run.summary.update({f"{node}/{name}": value for name, value in _numbers(numbers).items()})
        self._run.log(content, step=number)

    def finish(self) -> None:
        """Wait until everything has arrived; raises `TimeoutError`."""
        self._run.finish()

    @property
    def _summary_path(self) -> Path:
        return self._run_dir / "report" / "summary.json"


def _read_config(run_dir: Path) -> dict[str, Any]:
    """Return the run's configuration and the records of its attempts."""
    config, attempts = read_config(run_dir / "config.yaml"), read_attempts(run_dir)
    whole = [number for number in attempts.numbers if number not in attempts.problems]
    kept: dict[str, Any] = {f"{number:03d}": {} for number in attempts.numbers}
    for number, record in zip(whole, attempts.records, strict=True):
        kept[f"{number:03d}"] = {name: value for name, value in record.content().items() if name != "config"}
    return {**config, "attempt": len(kept), "attempts": kept}


def _numbers(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if isinstance(value, int | float)}
