"""Data-parallel training: each rank takes a part of every batch."""

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
    """One rank's part of each batch, and what its loss counts."""

    distributed: DistributedContext
    rows: slice  # of a batch
    weight: float  # of the mean loss of these rows: their number, in units of a fair part

    @classmethod
    def of_batch(cls, size: int, distributed: DistributedContext) -> Self:
        """Divide batches of `size` rows; raises `ConfigError` where there are not enough for all."""
        if size < distributed.world_size:
            raise ConfigError(
                f"loop.batch_size: a batch of {size} cannot be shared among {distributed.world_size} processes"
            )
        rows = distributed.local_slice(size)
        return cls(distributed, rows, (rows.stop - rows.start) * distributed.world_size / size)

    def part_of(self, batches: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return this rank's rows of each batch."""
        return batches if self.distributed.world_size == 1 else [batch[self.rows] for batch in batches]

    def weighted(self, loss: Tensor) -> Tensor:
        """Return what this rank's mean loss counts in that of the whole batch, in units of its fair part."""
        return loss if self.weight == 1.0 else self.weight * loss

    def mean(self, loss: float) -> float:
        """Return the mean over all rows of what each rank has the mean of over its own; called by all ranks."""
        return self.distributed.all_reduce_sum(self.weight * loss) / self.distributed.world_size


class _Objective(nn.Module):
    """The estimator's loss as a module whose parameters are the tensors that are optimised."""

    def __init__(self, estimator: Estimator, parameters: Sequence[Tensor]) -> None:
        super().__init__()
        self.weights = nn.ParameterList(parameters)
        self._loss = estimator.loss

    def forward(self, u: Tensor, evidence: Mapping[str, Tensor]) -> Tensor:
        return self._loss(u, evidence)


def distributed_loss(
    estimator: Estimator, parameters: Sequence[Tensor], distributed: DistributedContext, device: torch.device
) -> Loss:
    """Return `estimator.loss`; of several ranks, one that leaves each with the mean of all ranks' gradients.

    Not every weight need have a gradient in every step, so DDP looks for those without. It then also keeps to one
    layout of its messages: with three ranks or more, another order of addends would change a sum's last bit.
    """
    if not isinstance(distributed, ProcessGroupContext):
        return estimator.loss
    group = distributed.training_group(device)
    objective = _Objective(estimator, parameters)
    return DistributedDataParallel(
        objective, process_group=group, find_unused_parameters=True, gradient_as_bucket_view=True
    )


def broadcast_buffers(estimator: Estimator, distributed: DistributedContext, device: torch.device) -> None:
    """Give all ranks what rank 0's layers have counted, such as the running mean of a batch normalisation."""
    if isinstance(distributed, ProcessGroupContext):
        for buffer in estimator.buffers():
            torch.distributed.broadcast(buffer, 0, distributed.training_group(device))
