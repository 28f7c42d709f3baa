"""Copy of the state into memory that is allocated once: the only cost of saving for the training thread."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor

from framework.checkpoint.content import TorchCopier, copy_files, is_plain
from framework.compat.torch import copy_all

T = TypeVar("T")
_Pool = dict[tuple[Any, ...], list[Tensor]]


class Snapshot:
    """Copier of nested containers of tensors and plain values; tensors go to reusable buffers in main memory.

    A copy returned by `take` is valid until the next `take`, while training changes the originals. Buffers of
    tensors on a CUDA device are pinned; their content is complete when `wait` returns.
    """

    def __init__(self) -> None:
        self._free: _Pool = {}
        self._used: _Pool = {}
        self._pairs: dict[torch.device, tuple[list[Tensor], list[Tensor]]] = {}
        self._streams: dict[torch.device, torch.cuda.Stream] = {}

    def take(self, content: Any) -> Any:
        """Return a copy of `content`, in the previous copy's buffers where shapes agree.

        Raises `StateError` for values that a checkpoint cannot hold.
        """
        return self._take_with(lambda: TorchCopier(self._buffer).copy(content))

    def take_files(
        self, files: Mapping[str, Any], metadata: Mapping[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return copies of the arguments of `CheckpointStore.commit`, like `take`."""
        return self._take_with(lambda: copy_files(files, metadata, TorchCopier(self._buffer)))

    def wait(self) -> None:
        """Wait until copies from CUDA devices are complete; may be called from another thread."""
        for stream in self._streams.values():
            stream.synchronize()

    def _take_with(self, copy: Callable[[], T]) -> T:
        self._free, self._used = self._used, {}
        try:
            copied = copy()
            for device, (buffers, sources) in self._pairs.items():
                if device.type == "cuda":
                    self._copy_on_stream(device, buffers, sources)
                else:
                    copy_all(buffers, sources)
        finally:
            self._free, self._pairs = {}, {}
        return copied

    def _buffer(self, source: Tensor) -> Tensor | None:
        """Return a buffer for `source`, which is filled at the end of `take`; None if `source` is not plain."""
        device = source.device
        try:
            key = (source.shape, source.dtype, source.stride(), device)
        except RuntimeError:  # it has no strides
            return None
        if free := self._free.get(key):
            buffer = free.pop()
        elif is_plain(source):
            buffer = torch.empty_like(source.detach(), device="cpu", pin_memory=source.is_cuda)
        else:
            return None
        self._used.setdefault(key, []).append(buffer)
        buffers, sources = self._pairs.setdefault(device, ([], []))
        buffers.append(buffer)
        sources.append(source)
        return buffer

    def _copy_on_stream(self, device: torch.device, buffers: list[Tensor], sources: list[Tensor]) -> None:
        """Copy on a separate stream; only the device waits for it, before it can change the sources."""
        stream = self._streams.setdefault(device, torch.cuda.Stream(device))
        current = torch.cuda.current_stream(device)
        stream.wait_stream(current)
        with torch.cuda.stream(stream), torch.no_grad():
            for buffer, source in zip(buffers, sources, strict=True):
                buffer.copy_(source, non_blocking=True)
        current.wait_stream(stream)
