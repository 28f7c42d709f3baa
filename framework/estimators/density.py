"""The interface of the conditional density that `network._target_` must build."""

from typing import Protocol

from torch import Tensor


class Density(Protocol):
    """An `nn.Module` that models z (batch, latent_dim) given the summary s (batch, context_dim).

    The constructor gets `latent_dim` and `context_dim` in addition to the block's own keys. An optional
    attribute `FILES` splits the estimator's state over several files by the prefixes of its entries.
    """

    def log_prob(self, u: Tensor, s: Tensor) -> Tensor:
        """Return log q(u | s): (batch,)."""
        ...

    def sample(self, s: Tensor) -> tuple[Tensor, Tensor]:
        """Draw one u for each row of s; return (batch, latent_dim) and log q of shape (batch,)."""
        ...
