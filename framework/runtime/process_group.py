"""Several processes that train one run together, connected by torch.distributed.

Decisions and objects are exchanged on the CPU (gloo), regardless of the training device.
"""

import pickle
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from threading import Thread
from types import TracebackType
from typing import Any, Self

import torch
import torch.distributed as dist

from framework.compat.torch import first_line, is_lost_rank
from framework.errors import ConfigError, RankLostError
from framework.runtime.distributed import DistributedContext
from framework.runtime.policy import Save, StopReason
from framework.runtime.rank_info import RankInfo

_BY_URGENCY = (  # least urgent first
    None,
    Save.NOW,
    StopReason.OUT_OF_TIME,
    StopReason.REQUEUE,
    StopReason.TERMINATED,
    StopReason.INTERRUPTED,
)
_CONNECT_TIMEOUT = timedelta(minutes=10)  # the nodes of a job do not start at the same time
_NO_TIMEOUT = timedelta(days=365)  # rank 0 may simulate for days; a lost process is noticed immediately
_POLL_SECONDS = 0.01


@dataclass(frozen=True)
class Shutdown:
    """The last object that rank 0 broadcasts, with the exit code of all ranks."""

    exit_code: int


class ProcessGroupContext(DistributedContext):
    """The connected processes of a job while its context is open. Raises `ConfigError` if they cannot connect.

    While they connect, `check` is called repeatedly; it may raise to stop waiting.
    """

    def __init__(self, rank_info: RankInfo, check: Callable[[], None] = lambda: None) -> None:
        self.rank = rank_info.rank
        self.world_size = rank_info.world_size
        self.local_rank = rank_info.local_rank
        self._init_method = rank_info.init_method
        self._check = check
        self._are_waiting = True  # whether the other ranks are waiting for a broadcast from rank 0
        self._on_cuda: dist.ProcessGroup | None = None
        self._was_initialized_outside = False

    @classmethod
    def from_initialized(cls, rank_info: RankInfo, check: Callable[[], None] = lambda: None) -> Self:
        """Return the context of the script's own process group, with any backend; it is not destroyed."""
        initialized = RankInfo(dist.get_rank(), dist.get_world_size(), rank_info.local_rank, "their process group")
        group = cls(initialized, check)
        group._was_initialized_outside = True
        return group

    def __enter__(self) -> Self:
        try:
            connecting = _in_thread(self._connect)
            while not connecting.done():
                self._check()
                time.sleep(_POLL_SECONDS)
            self._group = connecting.result()
        except (RuntimeError, ValueError) as error:
            raise ConfigError(
                f"the {self.world_size} processes of this job cannot connect at {self._init_method} "
                f"({first_line(error)}); set MASTER_ADDR to rank 0's host, MASTER_PORT to a free port there, "
                "and GLOO_SOCKET_IFNAME to the network that connects the nodes"
            ) from error
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.rank == 0 and self._are_waiting:
            with suppress(RankLostError):  # the exit code is already decided
                self.broadcast_object(Shutdown(_exit_code(error)))
        if error is None or isinstance(error, SystemExit):
            self._disconnect()

    def check_same_command(self, command: list[str]) -> None:
        """Raise `ConfigError` on rank 0 if the ranks were not given the same command line."""
        others = [given for given in self.gather_object(command) if given != command]
        if others:
            raise ConfigError(
                f"the {self.world_size} processes of this job train one run together, but their commands differ: "
                f"{' '.join(command)} | {' '.join(others[0])}; start each run with an srun of its own (srun --ntasks=1)"
            )

    def all_reduce_stop(self, asked: StopReason | Save | None) -> StopReason | Save | None:
        """Return the most urgent request of all ranks."""
        urgency = torch.tensor(_BY_URGENCY.index(asked))
        dist.all_reduce(urgency, dist.ReduceOp.MAX, self._group)
        return _BY_URGENCY[int(urgency)]

    def broadcast_object(self, value: Any = None) -> Any:
        """Return rank 0's value on all ranks, which wait for it without a timeout."""
        parts = _pickled(value) if self.rank == 0 else []
        with self.detect_lost_ranks():
            count = int(self._broadcast(torch.tensor(len(parts))))
            sizes = self._broadcast(torch.tensor([len(part) for part in parts] or [0] * count))
            parts = parts or [bytearray(size) for size in sizes.tolist()]
            for part in filter(None, parts):
                self._broadcast(torch.frombuffer(part, dtype=torch.uint8))
        return value if self.rank == 0 else pickle.loads(parts[0], buffers=parts[1:])  # sent by this job itself

    def gather_object(self, value: Any) -> list[Any]:
        """Return the values of all ranks on rank 0, and an empty list elsewhere."""
        values = [None] * self.world_size if self.rank == 0 else None
        with self.detect_lost_ranks():
            dist.gather_object(value, values, dst=0, group=self._group)
        return values or []

    def all_reduce_sum(self, number: float) -> float:
        """Return the sum over the ranks."""
        total = torch.tensor(number, dtype=torch.float64)
        dist.all_reduce(total, group=self._group)
        return total.item()

    @contextmanager
    def training(self) -> Iterator[None]:
        """Mark a block during which no rank waits for a broadcast from rank 0."""
        self._are_waiting = False
        with self.detect_lost_ranks():
            yield
        self._are_waiting = True

    @contextmanager
    def detect_lost_ranks(self) -> Iterator[None]:
        """Raise `RankLostError` if the block cannot reach another rank."""
        try:
            yield
        except RuntimeError as error:
            if not is_lost_rank(error):
                raise
            who = "the others are" if self.rank else "one of the others is"
            raise RankLostError(
                f"process {self.rank} of {self.world_size} on {socket.gethostname()}: {who} gone ({first_line(error)})"
            ) from error

    def training_group(self, device: torch.device) -> dist.ProcessGroup:
        """Return the process group that averages gradients: nccl for CUDA devices, gloo for the CPU."""
        if device.type not in ("cpu", "cuda"):
            raise ConfigError(f"device={device.type}: {self.world_size} processes can train on cpu or cuda only")
        if device.type == "cpu":
            return self._group
        if self._on_cuda is None:
            torch.cuda.set_device(device)
            self.all_reduce_sum(0)  # ensures that no rank has failed: creating a group would wait for it
            self._on_cuda = dist.new_group(backend="nccl")  # with a timeout, which detects a lost rank
        return self._on_cuda

    def _disconnect(self) -> None:
        """Destroy the groups that this object has created, but not the script's own."""
        if not self._was_initialized_outside:
            dist.destroy_process_group()
            return
        for group in filter(None, (self._on_cuda, self._group)):
            dist.destroy_process_group(group)
        self._on_cuda = None
        del group, self._group  # the last references: only now do the other ranks notice that this one has left

    def _connect(self) -> dist.ProcessGroup:
        if self._was_initialized_outside:
            dist.destroy_process_group(dist.new_group(backend="gloo", timeout=_CONNECT_TIMEOUT))  # all ranks respond
        else:
            dist.init_process_group(
                "gloo", self._init_method, _CONNECT_TIMEOUT, rank=self.rank, world_size=self.world_size
            )
        return dist.new_group(backend="gloo", timeout=_NO_TIMEOUT)

    def _broadcast(self, content: torch.Tensor) -> torch.Tensor:
        """Broadcast rank 0's content; the other ranks poll for it, so that signals are still handled."""
        work = dist.broadcast(content, 0, self._group, async_op=True)
        while self.rank and not work.is_completed():
            time.sleep(_POLL_SECONDS)
        work.wait()
        return content


def _pickled(value: Any) -> list[bytearray | memoryview]:
    """Return a pickle, followed by the contents of large arrays, which are not copied."""
    buffers: list[pickle.PickleBuffer] = []
    text = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    contents = [buffer.raw() for buffer in buffers]
    return [bytearray(text), *(bytearray(content) if content.readonly else content for content in contents)]


def _in_thread(call: Callable[[], Any]) -> "Future[Any]":
    """Run a call that signals cannot interrupt in a daemon thread."""
    future: Future[Any] = Future()

    def work() -> None:
        try:
            future.set_result(call())
        except Exception as error:
            future.set_exception(error)

    Thread(target=work, daemon=True).start()
    return future


def _exit_code(error: BaseException | None) -> int:
    """Return the exit code of a process that raises this error."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    if isinstance(error, KeyboardInterrupt):
        return 130
    return 0 if error is None else getattr(error, "exit_code", 1)
