"""A batch shared among the processes that train together."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from framework.errors import ConfigError
from framework.estimators import Estimator
from framework.runtime import Ranks
from framework.runtime.group import Group

Loss = Callable[[Tensor, Mapping[str, Tensor]], Tensor]


class _Objective(nn.Module):
    """The estimator's loss as a module whose parameters are the tensors that are optimised."""

    def __init__(self, estimator: Estimator, parameters: Sequence[Tensor]) -> None:
        super().__init__()
        self.weights = nn.ParameterList(parameters)
        self._loss = estimator.loss

    def forward(self, u: Tensor, evidence: Mapping[str, Tensor]) -> Tensor:
        return self._loss(u, evidence)


def shared_loss(estimator: Estimator, parameters: Sequence[Tensor], ranks: Ranks, device: torch.device) -> Loss:
    """Return `estimator.loss`; of several ranks, one that leaves each with the mean of all ranks' gradients.

    Not every weight need have a gradient in every step, so DDP looks for those without. It then also keeps to one
    layout of its messages: with three ranks or more, another order of addends would change a sum's last bit.
    """
    if not isinstance(ranks, Group):
        return estimator.loss
    group = ranks.training_group(device)
    objective = _Objective(estimator, parameters)
    return DistributedDataParallel(
        objective, process_group=group, find_unused_parameters=True, gradient_as_bucket_view=True
    )


def part_of_batches(rows: Sequence[Tensor], ranks: Ranks) -> tuple[Sequence[Tensor], float]:
    """Return this rank's rows of each batch, and the weight of its mean loss: its rows, in units of a fair share.

    Raises `ConfigError` where there are not enough for all.
    """
    if ranks.size == 1:
        return rows, 1.0
    size = len(rows[0])
    if size < ranks.size:
        raise ConfigError(f"loop.batch_size: a batch of {size} cannot be shared among {ranks.size} processes")
    part = ranks.part(size)
    return [batch[part] for batch in rows], (part.stop - part.start) * ranks.size / size


def lead_buffers(estimator: Estimator, ranks: Ranks, device: torch.device) -> None:
    """Give all ranks what rank 0's layers have counted, such as the running mean of a batch normalisation."""
    if isinstance(ranks, Group):
        for buffer in estimator.buffers():
            torch.distributed.broadcast(buffer, 0, ranks.training_group(device))
