"""Environment variables that libraries read while they are imported; nothing here imports one of them."""

import os


def quiet_ddp() -> None:
    """Have torch leave out a warning for programmers, which each rank would print.

    It says that DistributedDataParallel has looked for unused weights and found none.
    """
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")


def quiet_wandb() -> None:
    """Have wandb print nothing, also before its settings are read."""
    os.environ["WANDB_SILENT"] = "true"
