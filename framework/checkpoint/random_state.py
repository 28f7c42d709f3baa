"""State of the global random number generators: Python, NumPy, torch on the CPU and on every CUDA device."""

import random
from typing import Any

import numpy as np
import torch


class RandomState:
    """The process's generators as one Stateful; to be loaded last, since constructing objects draws from them."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state as JSON-compatible containers."""
        version, words, gauss = random.getstate()
        state = np.random.get_state(legacy=False)
        return {
            "python": [version, list(words), gauss],
            "numpy": {**state, "state": {**state["state"], "key": state["state"]["key"].tolist()}},
            "torch": torch.get_rng_state().numpy().tobytes().hex(),
            "cuda": [state.numpy().tobytes().hex() for state in _cuda_states()],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore all generators."""
        version, words, gauss = state_dict["python"]
        random.setstate((version, tuple(words), gauss))
        numpy_state = state_dict["numpy"]
        key = np.asarray(numpy_state["state"]["key"], dtype=np.uint32)
        np.random.set_state({**numpy_state, "state": {**numpy_state["state"], "key": key}})
        torch.set_rng_state(_bytes(state_dict["torch"]))
        for device, state in enumerate(state_dict["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(_bytes(state), device)


def _cuda_states() -> list[torch.Tensor]:
    return torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []


def _bytes(text: str) -> torch.Tensor:
    return torch.frombuffer(bytearray.fromhex(text), dtype=torch.uint8)
