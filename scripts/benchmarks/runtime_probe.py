"""A tracker that tells runtime.py when the first step was done, and how long steps and saves take."""

import json
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.optim.optimizer import register_optimizer_step_post_hook

from framework.checkpoint import CheckpointWriter


class Probe:
    """Writes `path` at the first step, and once more when all is on disk at the end of training."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.step_times: list[float] = []
        self.start_cpu_seconds = 0.0
        register_optimizer_step_post_hook(lambda *_: self.on_step())
        flush = CheckpointWriter.flush

        def flush_and_tell(writer: CheckpointWriter) -> Any:
            generation = flush(writer)
            if generation:
                self.tell(saved_time=time.monotonic(), save_seconds=writer.save_seconds)
            return generation

        CheckpointWriter.flush = flush_and_tell  # type: ignore[method-assign, assignment]

    def on_step(self) -> None:
        self.step_times.append(time.monotonic())
        if len(self.step_times) == 1:
            self.start_cpu_seconds = time.process_time()
            self.tell()

    def tell(self, **metadata: float | None) -> None:
        if len(self.step_times) > 1:
            steps = zip(self.step_times, self.step_times[1:], strict=False)
            metadata["step_seconds"] = statistics.median(after - before for before, after in steps)
        metadata |= {"first_step_time": self.step_times[0], "start_cpu_seconds": self.start_cpu_seconds}
        self.path.write_text(json.dumps(metadata))

    def log(self, record: Mapping[str, Any]) -> None: ...

    def cut_back(self, node: str, step: int) -> None: ...

    def close(self) -> None: ...
