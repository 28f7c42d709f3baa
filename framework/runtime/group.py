"""Several processes that train one run together, connected by torch.distributed.

What they decide and tell each other goes over the CPU (gloo), whatever device trains.
"""

import pickle
import re
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

from framework.errors import ConfigError, RankLostError
from framework.runtime.place import Place
from framework.runtime.policy import Save, StopReason
from framework.runtime.ranks import Ranks

_URGENCY = (  # the later, the more pressing
    None,
    Save.NOW,
    StopReason.OUT_OF_TIME,
    StopReason.REQUEUE,
    StopReason.TERMINATED,
    StopReason.INTERRUPTED,
)
_CONNECT = timedelta(minutes=10)  # nodes of a job do not start at once
_NO_LIMIT = timedelta(days=365)  # rank 0 may simulate for days; that a process is gone shows at once
_LOOK_SECONDS = 0.01
_OF_GLOO = "gloo/transport/"  # a source file, with which its errors begin, of no class of their own


@dataclass(frozen=True)
class End:
    """The last thing that rank 0 shares."""

    exit_code: int


class Group(Ranks):
    """The processes of a job while its context is open. Raises `ConfigError` if they do not find each other.

    While they look for each other, `check` is called again and again, and ends that by raising.
    """

    def __init__(self, place: Place, check: Callable[[], None] = lambda: None) -> None:
        self.rank, self.size, self.local_rank = place.rank, place.size, place.local_rank
        self._meeting, self._check = place.meeting, check
        self._are_waiting = True  # the others, for rank 0 to share something
        self._on_cuda: dist.ProcessGroup | None = None
        self._is_adopted = False

    @classmethod
    def adopted(cls, place: Place, check: Callable[[], None] = lambda: None) -> Self:
        """Return the processes that the script has connected itself, with any backend; they stay connected."""
        group = cls(Place(dist.get_rank(), dist.get_world_size(), place.local_rank, "their process group"), check)
        group._is_adopted = True
        return group

    def __enter__(self) -> Self:
        try:
            connecting = _in_thread(self._connect)
            while not connecting.done():
                self._check()
                time.sleep(_LOOK_SECONDS)
            self._group = connecting.result()
        except (RuntimeError, ValueError) as error:
            raise ConfigError(
                f"the {self.size} processes of this job do not find each other at {self._meeting} "
                f"({_first_line(error)}); set MASTER_ADDR to rank 0's host, MASTER_PORT to a free port there, "
                "and GLOO_SOCKET_IFNAME to the network that connects the nodes"
            ) from error
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.rank == 0 and self._are_waiting:
            with suppress(RankLostError):  # how this ends is decided
                self.share(End(_exit_code(error)))
        if error is None or isinstance(error, SystemExit):
            self._disconnect()

    def check_same(self, command: list[str]) -> None:
        """Raise `ConfigError` on rank 0 if the ranks were not given the same command line."""
        others = [given for given in self.gather(command) if given != command]
        if others:
            raise ConfigError(
                f"the {self.size} processes of this job train one run together, but were given several: "
                f"{' '.join(command)} | {' '.join(others[0])}; start each run with an srun of its own (srun --ntasks=1)"
            )

    def agree(self, asked: StopReason | Save | None) -> StopReason | Save | None:
        """Return the most pressing of what is asked for."""
        urgency = torch.tensor(_URGENCY.index(asked))
        dist.all_reduce(urgency, dist.ReduceOp.MAX, self._group)
        return _URGENCY[int(urgency)]

    def share(self, value: Any = None) -> Any:
        """Return rank 0's value on all ranks; the others wait for it as long as it takes."""
        parts = _pickled(value) if self.rank == 0 else []
        with self.reaching():
            count = int(self._broadcast(torch.tensor(len(parts))))
            sizes = self._broadcast(torch.tensor([len(part) for part in parts] or [0] * count))
            parts = parts or [bytearray(size) for size in sizes.tolist()]
            for part in filter(None, parts):
                self._broadcast(torch.frombuffer(part, dtype=torch.uint8))
        return value if self.rank == 0 else pickle.loads(parts[0], buffers=parts[1:])  # what this very job has sent

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all ranks on rank 0, nothing elsewhere."""
        values = [None] * self.size if self.rank == 0 else None
        with self.reaching():
            dist.gather_object(value, values, dst=0, group=self._group)
        return values or []

    def sum(self, number: float) -> float:
        """Return the sum over the ranks."""
        total = torch.tensor(number, dtype=torch.float64)
        dist.all_reduce(total, group=self._group)
        return total.item()

    @contextmanager
    def in_step(self) -> Iterator[None]:
        """Mark a block in which no rank waits for rank 0 to share what comes next."""
        self._are_waiting = False
        with self.reaching():
            yield
        self._are_waiting = True

    @contextmanager
    def reaching(self) -> Iterator[None]:
        """Have the block raise `RankLostError` where it cannot reach another rank."""
        try:
            yield
        except RuntimeError as error:
            if not isinstance(error, dist.DistError) and _OF_GLOO not in str(error):
                raise
            who = "the others are" if self.rank else "one of the others is"
            raise RankLostError(
                f"process {self.rank} of {self.size} on {socket.gethostname()}: {who} gone ({_first_line(error)})"
            ) from error

    def training_group(self, device: torch.device) -> dist.ProcessGroup:
        """Return what gradients are averaged with: nccl for CUDA devices, gloo for the CPU."""
        if device.type not in ("cpu", "cuda"):
            raise ConfigError(f"device={device.type}: {self.size} processes can train on cpu or cuda only")
        if device.type == "cpu":
            return self._group
        if self._on_cuda is None:
            torch.cuda.set_device(device)
            self.sum(0)  # all have come so far: a new group would wait for one that has failed
            self._on_cuda = dist.new_group(backend="nccl")  # its limit ends what waits for one that is gone
        return self._on_cuda

    def _disconnect(self) -> None:
        """Take apart what this has made: everything, or only what lies beside the script's own group."""
        if not self._is_adopted:
            dist.destroy_process_group()
            return
        for group in filter(None, (self._on_cuda, self._group)):
            dist.destroy_process_group(group)
        self._on_cuda = None
        del group, self._group  # the last references: only now the others see that this one has gone

    def _connect(self) -> dist.ProcessGroup:
        if self._is_adopted:
            dist.destroy_process_group(dist.new_group(backend="gloo", timeout=_CONNECT))  # all have come
        else:
            dist.init_process_group("gloo", self._meeting, _CONNECT, rank=self.rank, world_size=self.size)
        return dist.new_group(backend="gloo", timeout=_NO_LIMIT)

    def _broadcast(self, content: torch.Tensor) -> torch.Tensor:
        """Send rank 0's content, or wait for it in such a way that signals are seen; return it."""
        work = dist.broadcast(content, 0, self._group, async_op=True)
        while self.rank and not work.is_completed():
            time.sleep(_LOOK_SECONDS)
        work.wait()
        return content


def _pickled(value: Any) -> list[bytearray | memoryview]:
    """Return a pickle, and the contents of large arrays, which are not copied."""
    buffers: list[pickle.PickleBuffer] = []
    text = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    contents = [buffer.raw() for buffer in buffers]
    return [bytearray(text), *(bytearray(content) if content.readonly else content for content in contents)]


def _in_thread(call: Callable[[], Any]) -> "Future[Any]":
    """Start a call that does not return for signals; it does not keep the process from ending."""
    future: Future[Any] = Future()

    def work() -> None:
        try:
            future.set_result(call())
        except Exception as error:
            future.set_exception(error)

    Thread(target=work, daemon=True).start()
    return future


def _exit_code(error: BaseException | None) -> int:
    """Return the code that a process ends with which has raised this."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    if isinstance(error, KeyboardInterrupt):
        return 130
    return 0 if error is None else getattr(error, "exit_code", 1)


def _first_line(error: BaseException) -> str:
    """Return what has happened, without where in the sources and what might be typical."""
    line = (str(error).strip().splitlines() or [repr(error)])[0]
    return re.sub(r"^\[[^]]*\] ", "", line).split(". ")[0]
