"""Data-parallel training: each rank processes a part of every batch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from framework.errors import ConfigError
from framework.estimators import Estimator
from framework.runtime import DistributedContext
from framework.runtime.process_group import ProcessGroupContext

Loss = Callable[[Tensor, Mapping[str, Tensor]], Tensor]


@dataclass(frozen=True)
class BatchSlice:
    """One rank's part of each batch, and the weight of its loss."""

    distributed: DistributedContext
    rows: slice  # this rank's rows of a batch
    weight: float  # of these rows' mean loss: their number divided by the average number per rank

    @classmethod
    def of_batch(cls, size: int, distributed: DistributedContext) -> Self:
        """Divide batches of `size` rows among the ranks; raises `ConfigError` if there are fewer rows than ranks."""
        if size < distributed.world_size:
            raise ConfigError(
                f"loop.batch_size: a batch of {size} cannot be divided among {distributed.world_size} processes"
            )
        rows = distributed.local_slice(size)
        return cls(distributed, rows, (rows.stop - rows.start) * distributed.world_size / size)

    def part_of(self, batches: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return this rank's rows of each batch."""
        return batches if self.distributed.world_size == 1 else [batch[self.rows] for batch in batches]

    def weighted(self, loss: Tensor) -> Tensor:
        """Return this rank's mean loss scaled so that the mean over ranks is the mean loss of the batch."""
        return loss if self.weight == 1.0 else self.weight * loss

    def mean(self, loss: float) -> float:
        """Return the mean over all rows from each rank's mean over its own rows; must be called by all ranks."""
        return self.distributed.all_reduce_sum(self.weight * loss) / self.distributed.world_size


class _Objective(nn.Module):
    """The estimator's loss as a module whose parameters are the optimised tensors."""

    def __init__(self, estimator: Estimator, parameters: Sequence[Tensor]) -> None:
        super().__init__()
        self.weights = nn.ParameterList(parameters)
        self._loss = estimator.loss

    def forward(self, u: Tensor, evidence: Mapping[str, Tensor]) -> Tensor:
        return self._loss(u, evidence)


def distributed_loss(
    estimator: Estimator, parameters: Sequence[Tensor], distributed: DistributedContext, device: torch.device
) -> Loss:
    """Return `estimator.loss`, wrapped in DDP to average gradients if there are several ranks.

    Some weights may have no gradient in a step, so DDP must search for unused parameters. That also fixes the layout
    of its buckets: with three ranks or more, another order of summation would change the last bit of a sum.
    """
    if not isinstance(distributed, ProcessGroupContext):
        return estimator.loss
    group = distributed.training_group(device)
    objective = _Objective(estimator, parameters)
    return DistributedDataParallel(
        objective, process_group=group, find_unused_parameters=True, gradient_as_bucket_view=True
    )


def broadcast_buffers(estimator: Estimator, distributed: DistributedContext, device: torch.device) -> None:
    """Broadcast the buffers of rank 0's layers, such as the running mean of a batch normalisation."""
    if isinstance(distributed, ProcessGroupContext):
        for buffer in estimator.buffers():
            torch.distributed.broadcast(buffer, 0, distributed.training_group(device))
