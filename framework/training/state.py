"""All of a node's training that must survive."""

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
    """A copy of an estimator's weights, in memory that is allocated once; a Stateful."""

    def __init__(self, estimator: Estimator) -> None:
        self._values = {name: value.detach().clone() for name, value in estimator.state_dict().items()}

    def state_dict(self) -> dict[str, Tensor]:
        """Return the weights, not copied."""
        return dict(self._values)

    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> None:
        """Copy these weights."""
        if unmatched := state_dict.keys() ^ self._values.keys():
            raise CheckpointError(f"weights do not match the network: {', '.join(sorted(unmatched))}")
        for name, value in state_dict.items():
            self._values[name].copy_(value)


class TrainState:
    """The weights, the best ones, optimizer, schedule, progress and random generators, as one Stateful.

    Of several ranks each has random generators and a loss of its own. `gather` returns those of all under "ranks",
    which `load_state_dict` takes too; `state_dict` has those of this process alone.
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
        self.parts: dict[str, Stateful] = {  # of classes that a checkpoint names
            "estimator": estimator,
            "optimizer": optimizer,
            "scheduler": scheduler,
            "progress": self.progress,
            "rng": RandomState(),  # last: restoring the others may draw from it
        }
        self._all = {"best": self.best, **self.parts}
        self._batch_slice = batch_slice
        self._of_ranks: list[dict[str, Any]] = []  # in the state that was loaded

    def state_dict(self) -> dict[str, Any]:
        """Return the state as it is now; nothing is copied."""
        return state_of(self._all)

    def gather(self) -> dict[str, Any]:
        """Return the state as it is now, on rank 0 with what each of several ranks has of its own; all call it."""
        states, distributed = self.state_dict(), self._batch_slice.distributed
        if distributed.world_size > 1:
            own = {"rng": states["rng"], "loss_sum": states["progress"]["loss_sum"], "weight": self._batch_slice.weight}
            states["ranks"] = distributed.gather_object(own)
        return states

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go back to a state; what was a rank's own is taken where as many ranks have saved it as there are now.

        Raises `CheckpointError` for an entry that is missing, unknown, or nothing that its part can load.
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
        if not self.progress.batch:  # the epoch under way begins again, with batches of another size
            self.progress.loss_sum.zero_()

    def join(self) -> None:
        """Have all ranks go on from rank 0's state, each with what is its own where the state has that."""
        distributed = self._batch_slice.distributed
        if distributed.world_size > 1:
            mine = RandomState().state_dict()  # a stream of this rank's own, unless the state has one
            states = distributed.broadcast_object(None if distributed.rank else self._in_main_memory())
            if distributed.rank:
                self.load_state_dict({**states, "rng": mine})

    def _in_main_memory(self) -> dict[str, Any]:
        snapshot = Snapshot()
        states: dict[str, Any] = snapshot.take({**self.state_dict(), "ranks": self._of_ranks})
        snapshot.wait()
        return states
