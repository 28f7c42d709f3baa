"""A node's training data as tensors, and the order of its batches."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from framework.errors import ConfigError
from framework.rng import seed_sequence, torch_generator

Batch = tuple[Tensor, dict[str, Tensor]]

_GATHERED_BYTES = 2**22  # fits into the processor's cache


@dataclass(frozen=True)
class TrainingData:
    """Training and validation rows of one node: u (num_rows, latent_dim) and evidence {name: (num_rows, ...)}."""

    u: Tensor
    evidence: dict[str, Tensor]
    train_rows: Tensor
    val_rows: Tensor
    device: torch.device

    @classmethod
    def split(cls, u: Tensor, evidence: Mapping[str, Tensor], val_rows: Tensor, device: torch.device) -> "TrainingData":
        """Hold out `val_rows` and train on the others; the data are moved to `device` if they fit."""
        held_out = torch.zeros(len(u), dtype=torch.bool)
        held_out[val_rows] = True
        train_rows = torch.arange(len(u))[~held_out]
        place = device if _fits([u, *evidence.values()], device) else torch.device("cpu")
        moved = {name: value.to(place) for name, value in evidence.items()}
        return cls(u.to(place), moved, train_rows.to(place), val_rows.to(place), device)

    def num_batches(self, batch_size: int) -> int:
        """Return the number of batches per epoch; an incomplete last one is dropped, to keep shapes constant."""
        return max(len(self.train_rows) // batch_size, 1)

    def batch_rows(self, seed: int, node: str, epoch: int, batch_size: int) -> list[Tensor]:
        """Return the rows of each batch of `epoch`: a pure function of its arguments and the data's length."""
        generator = torch_generator(seed_sequence(seed, node, "batches", epoch))
        order = torch.randperm(len(self.train_rows), generator=generator).to(self.train_rows.device)
        return list(self.train_rows[order].split(batch_size)[: self.num_batches(batch_size)])

    def batches(self, rows: Sequence[Tensor]) -> Iterator[Batch]:
        """Yield the data of each batch of rows; small batches are gathered together, which is faster."""
        row_bytes = sum(value[:1].nbytes for value in (self.u, *self.evidence.values()))
        size = max(map(len, rows), default=1)
        at_once = max(_GATHERED_BYTES // (size * row_bytes), 1)
        for start in range(0, len(rows), at_once):
            group = list(rows[start : start + at_once])
            u, evidence = self.take(torch.cat(group))
            for i in range(len(group)):
                part = slice(i * size, (i + 1) * size)
                yield u[part], {name: value[part] for name, value in evidence.items()}

    def take(self, rows: Tensor) -> Batch:
        """Return the given rows on the training device."""
        evidence = {name: value.index_select(0, rows) for name, value in self.evidence.items()}
        u = self.u.index_select(0, rows)
        if u.device == self.device:
            return u, evidence
        moved = {name: value.to(self.device, non_blocking=True) for name, value in evidence.items()}
        return u.to(self.device, non_blocking=True), moved


def held_out_rows(
    ids: Tensor, fraction: float, seed: int, node: str, before: Mapping[str, Tensor] | None = None
) -> Tensor:
    """Return the validation rows of a node, a `fraction` of all rows: a pure function of the arguments.

    `ids` (num_rows,) are the simulations' ids. `before` has the ids for "training" and "validation" of the weights
    from which training resumes: rows held out then are held out again, and rows trained on are chosen last, so that
    the weights are validated on simulations that they have not been trained on.
    """
    preference = torch.ones(len(ids), dtype=torch.uint8)
    if before is not None:
        preference[torch.isin(ids, before["validation"])] = 0
        preference[torch.isin(ids, before["training"])] = 2
    order = torch.randperm(len(ids), generator=torch_generator(seed_sequence(seed, node, "split")))
    order = order[preference[order].argsort(stable=True)]
    return order[: num_held_out(len(ids), fraction)].sort().values


def num_held_out(num_rows: int, fraction: float) -> int:
    """Return how many rows are held out; raises `ConfigError` if none are left to train on."""
    num = max(round(fraction * num_rows), 1)
    if num >= num_rows:
        raise ConfigError(
            f"simulation.num_simulations: {num_rows} valid simulations leave nothing to train on with "
            f"loop.validation_fraction={fraction}; simulate more"
        )
    return num


def _fits(tensors: list[Tensor], device: torch.device) -> bool:
    """Return whether the tensors take less than half of the free memory on `device`."""
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return sum(t.numel() * t.element_size() for t in tensors) < free / 2
