"""A straight line fitted by gradient descent: a plain torch loop, without inference and without Hydra."""

import torch
from torch import Tensor, nn

WEIGHTS, BIAS, NOISE = (2.0, -3.0), 0.5, 0.1
NUM_POINTS, NUM_STEPS, BATCH_SIZE = 1000, 200, 100
SEED = 0


def make_data() -> tuple[Tensor, Tensor]:
    """Return inputs (1000, 2) and noisy targets (1000, 1) of the line y = w x + b."""
    x = torch.randn(NUM_POINTS, len(WEIGHTS))
    y = x @ torch.tensor(WEIGHTS)[:, None] + BIAS
    return x, y + NOISE * torch.randn_like(y)


def train() -> nn.Linear:
    """Fit the line, print the loss from time to time and return the model."""
    torch.manual_seed(SEED)
    x, y = make_data()
    model = nn.Linear(len(WEIGHTS), 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for step in range(1, NUM_STEPS + 1):
        batch = torch.randint(NUM_POINTS, (BATCH_SIZE,))
        loss = nn.functional.mse_loss(model(x[batch]), y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            print(f"step {step:4d}  loss {loss.item():.4f}")
    return model


def main() -> None:
    """Train, then compare with the weights that made the data."""
    model = train()
    fitted = ", ".join(f"{weight:.3f}" for weight in model.weight[0].tolist())
    print(f"fitted weights {fitted}, bias {model.bias.item():.3f}; true weights {WEIGHTS}, bias {BIAS}")


if __name__ == "__main__":
    main()
