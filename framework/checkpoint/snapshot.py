"""What saving costs the training thread: a copy of the state into memory that is allocated once."""

import copy
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor

_CONSTANTS = frozenset({int, float, str, bool, bytes, complex, type(None), torch.dtype, torch.Size, torch.device})
_Pool = dict[tuple[Any, ...], list[Tensor]]


class Snapshot:
    """Copies nested containers of tensors and plain values; tensors go to reusable buffers in main memory.

    What `take` returns stays as it is while training changes the originals, until the next `take`. Buffers
    are pinned when the tensor is on a CUDA device; that copy is done when `wait` returns.
    """

    def __init__(self) -> None:
        self._free: _Pool = {}
        self._used: _Pool = {}
        self._pairs: dict[torch.device, tuple[list[Tensor], list[Tensor]]] = {}
        self._streams: dict[torch.device, torch.cuda.Stream] = {}

    def take(self, content: Any) -> Any:
        """Return a copy of `content`, in the buffers of the copy before where shapes agree."""
        self._free, self._used = self._used, {}
        copied = self._copy(content)
        for device, (buffers, sources) in self._pairs.items():
            if device.type == "cuda":
                self._copy_beside(device, buffers, sources)
            else:
                with torch.no_grad():
                    torch._foreach_copy_(buffers, sources)
        self._free, self._pairs = {}, {}
        return copied

    def wait(self) -> None:
        """Wait until copies from CUDA devices have arrived; may be called from another thread."""
        for stream in self._streams.values():
            stream.synchronize()

    def _copy(self, value: Any) -> Any:
        kind = type(value)
        if kind in _CONSTANTS:
            return value
        if isinstance(value, Tensor):
            return self._buffer(value)
        if kind is dict:
            return {key: self._copy(item) for key, item in value.items()}
        if kind is list or kind is tuple:
            return kind([item if type(item) in _CONSTANTS else self._copy(item) for item in value])
        if kind is OrderedDict:  # a module's state_dict, which has its version numbers as an attribute
            copied = OrderedDict((key, self._copy(item)) for key, item in value.items())
            vars(copied).update(self._copy(vars(value)))
            return copied
        return copy.deepcopy(value)

    def _buffer(self, source: Tensor) -> Tensor:
        """Return a buffer for `source`, which the end of `take` fills."""
        on_cuda = source.is_cuda
        key = (source.shape, source.dtype, source.stride(), on_cuda)
        free = self._free.get(key)
        buffer = free.pop() if free else torch.empty_like(source.detach(), device="cpu", pin_memory=on_cuda)
        self._used.setdefault(key, []).append(buffer)
        buffers, sources = self._pairs.setdefault(source.device, ([], []))
        buffers.append(buffer)
        sources.append(source)
        return buffer

    def _copy_beside(self, device: torch.device, buffers: list[Tensor], sources: list[Tensor]) -> None:
        """Copy on a stream of its own; only the device waits for it, before anything that could change the sources."""
        stream = self._streams.setdefault(device, torch.cuda.Stream(device))
        current = torch.cuda.current_stream(device)
        stream.wait_stream(current)
        with torch.cuda.stream(stream), torch.no_grad():
            for buffer, source in zip(buffers, sources, strict=True):
                buffer.copy_(source, non_blocking=True)
        current.wait_stream(stream)
