"""The complete state of a node's training, as saved in checkpoints."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from framework.checkpoint import RandomState, Snapshot, Stateful, load_all, state_of
from framework.errors import CheckpointError
from framework.estimators import Estimator
from framework.training.data_parallel import BatchSlice
from framework.training.progress import Progress


class Weights:
    """A copy of an estimator's weights, as a Stateful whose memory is allocated once."""

    def __init__(self, estimator: Estimator) -> None:
        self._values = {name: value.detach().clone() for name, value in estimator.state_dict().items()}

    def state_dict(self) -> dict[str, Tensor]:
        """Return the weights without copying."""
        return dict(self._values)

    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> None:
        """Copy the weights from a state dict."""
        if unmatched := state_dict.keys() ^ self._values.keys():
            raise CheckpointError(f"weights do not match the network: {', '.join(sorted(unmatched))}")
        for name, value in state_dict.items():
            self._values[name].copy_(value)


class TrainState:
    """Current and best weights, optimizer, schedule, progress and random generators, as one Stateful.

    Each rank has its own random generators and loss. `gather` returns those of all ranks under "ranks", which
    `load_state_dict` accepts; `state_dict` returns only those of this process.
    """

    def __init__(
        self,
        estimator: Estimator,
        optimizer: Stateful,
        scheduler: Stateful,
        batch_slice: BatchSlice,
        device: torch.device,
    ) -> None:
        self.progress = Progress(loss_sum=torch.zeros((), device=device))
        self.best = Weights(estimator)
        self.parts: dict[str, Stateful] = {  # the checkpoint records their classes
            "estimator": estimator,
            "optimizer": optimizer,
            "scheduler": scheduler,
            "progress": self.progress,
            "rng": RandomState(),  # last, because restoring the others may draw random numbers
        }
        self._all = {"best": self.best, **self.parts}
        self._batch_slice = batch_slice
        self._of_ranks: list[dict[str, Any]] = []  # "ranks" of the loaded state

    def state_dict(self) -> dict[str, Any]:
        """Return the current state without copying."""
        return state_of(self._all)

    def gather(self) -> dict[str, Any]:
        """Return the current state, on rank 0 with each rank's own part; must be called by all ranks."""
        states, distributed = self.state_dict(), self._batch_slice.distributed
        if distributed.world_size > 1:
            own = {"rng": states["rng"], "loss_sum": states["progress"]["loss_sum"], "weight": self._batch_slice.weight}
            states["ranks"] = distributed.gather_object(own)
        return states

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore a state; each rank's own part is restored only if the number of ranks is unchanged.

        Raises `CheckpointError` for an entry that is missing, unknown, or cannot be loaded by its part.
        """
        states = dict(state_dict)
        self._of_ranks = states.pop("ranks", [])
        if len(self._of_ranks) == self._batch_slice.distributed.world_size:
            own = self._of_ranks[self._batch_slice.distributed.rank]
            states |= {"rng": own["rng"], "progress": {**states["progress"], "loss_sum": own["loss_sum"]}}
        elif self._of_ranks:
            mean = sum(r["weight"] * r["loss_sum"] for r in self._of_ranks) / len(self._of_ranks)
            states["progress"] = {**states["progress"], "loss_sum": mean}
        load_all(self._all, states)
        if not self.progress.batch:  # the current epoch starts again, with batches of another size
            self.progress.loss_sum.zero_()

    def join(self) -> None:
        """Broadcast rank 0's state to all ranks, with each rank's own part if the loaded state has it."""
        distributed = self._batch_slice.distributed
        if distributed.world_size > 1:
            mine = RandomState().state_dict()  # this rank's own stream, unless the state contains one
            states = distributed.broadcast_object(None if distributed.rank else self._in_main_memory())
            if distributed.rank:
                self.load_state_dict({**states, "rng": mine})

    def _in_main_memory(self) -> dict[str, Any]:
        snapshot = Snapshot()
        states: dict[str, Any] = snapshot.take({**self.state_dict(), "ranks": self._of_ranks})
        snapshot.wait()
        return states
