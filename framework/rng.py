"""Reproducible random streams, each identified by a path and isolated from the caller's generators."""

import random
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def seed_sequence(seed: int, *path: int | str) -> np.random.SeedSequence:
    """Return the stream at `path` below `seed`, for example `seed_sequence(3, "prior", "z", 7)`.

    Streams at different paths are independent; the same path always gives the same stream.
    """
    entropy = [zlib.crc32(part.encode()) if isinstance(part, str) else part for part in path]
    return np.random.SeedSequence([seed, *entropy])


def torch_generator(sequence: np.random.SeedSequence) -> torch.Generator:
    """Return a CPU generator seeded with the start of the stream."""
    return torch.Generator().manual_seed(_torch_seed(sequence))


@contextmanager
def seeded(sequence: np.random.SeedSequence) -> Iterator[None]:
    """Run the block with the global Python, NumPy and torch generators at the start of the stream.

    The caller's generator states are restored afterwards, so code in the block that draws
    from the global generators is reproducible and does not affect other code.
    """
    python_state, numpy_state = random.getstate(), np.random.get_state()
    # If CUDA is unused there is no state to restore, and querying it would create a context in every worker.
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=list(devices)):
        python_seed, numpy_seed = sequence.generate_state(2)
        random.seed(int(python_seed))
        np.random.seed(int(numpy_seed))
        torch.manual_seed(_torch_seed(sequence))
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)


def _torch_seed(sequence: np.random.SeedSequence) -> int:
    # torch accepts any 64-bit seed, but manual_seed on some devices requires a positive one.
    return int(sequence.generate_state(1, np.uint64)[0] >> 1)
