"""Environment variables that libraries read while they are imported; nothing here imports one of them."""

import os


def quiet_ddp() -> None:
    """Suppress torch's warning that DistributedDataParallel found no unused weights, which each rank would print."""
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")


def quiet_wandb() -> None:
    """Keep wandb from printing anything, also before its settings are read."""
    os.environ["WANDB_SILENT"] = "true"
