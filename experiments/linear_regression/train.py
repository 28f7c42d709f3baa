"""Fit a straight line in a plain torch loop that can be stopped at any moment and resumed bit for bit."""

import argparse
import logging
import sys

import torch

from framework.checkpoint import CheckpointStore, CheckpointWriter, RandomState, load_all, state_of
from framework.runtime import BudgetReader, Guard, Policy, Save, StopReason

WEIGHTS = torch.tensor([[2.0], [-3.0]])
BIAS = 0.5
NOISE = 0.1
NUM_POINTS = 1000
BATCH_SIZE = 100
NUM_STEPS = 300


def train(store: CheckpointStore, guard: Guard) -> StopReason | None:
    """Fit the line, resuming from the newest checkpoint if there is one; return the reason if stopped early."""
    torch.manual_seed(0)
    x = torch.randn(NUM_POINTS, 2)
    y = x @ WEIGHTS + BIAS + NOISE * torch.randn(NUM_POINTS, 1)
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.5)
    parts = {"model": model, "optimizer": optimizer, "rng": RandomState()}  # everything that training changes
    start = 0
    if newest := store.latest():
        load_all(parts, newest.load("state.pth"))
        start = newest.manifest["step"]
        logging.info("↻ Resuming from step %d/%d", start, NUM_STEPS)
    with CheckpointWriter(store, guard) as writer:  # writes in a thread; leaving the block waits for the last save
        for step in range(start, NUM_STEPS):
            if asked := guard.poll():  # a signal, the end of the budget, or a periodic save
                writer.save({"state.pth": state_of(parts)}, {"step": step})
                if asked is not Save.NOW:
                    return asked
            epoch, batch = divmod(step, NUM_POINTS // BATCH_SIZE)
            order = torch.randperm(NUM_POINTS, generator=torch.Generator().manual_seed(epoch))
            rows = order.split(BATCH_SIZE)[batch]  # depends only on the step
            jitter = 0.01 * torch.randn(BATCH_SIZE, 2)  # depends on the generator, whose state is saved
            loss = torch.nn.functional.mse_loss(model(x[rows] + jitter), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if (step + 1) % 25 == 0:
                logging.info("step %d/%d  loss %.4f", step + 1, NUM_STEPS, loss.item())
        writer.save({"state.pth": state_of(parts)}, {"step": NUM_STEPS})
    return None


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run_dir", nargs="?", default="outputs/linear_regression")
    parser.add_argument("--budget", help="auto asks the scheduler; or a duration such as 23h30m")
    arguments = parser.parse_args()
    with Guard(Policy(periodic_checkpoint_every="auto")) as guard:
        logging.info(guard.limit(BudgetReader(arguments.budget, setting="--budget")))
        if reason := train(CheckpointStore(arguments.run_dir), guard):
            logging.warning("⚠ %s — saved to %s; run the same command to resume", reason.word, arguments.run_dir)
            sys.exit(guard.exit_code(reason))
