"""The main loop of every rank except rank 0: train the same nodes and end with the same exit code."""

import logging
from dataclasses import replace

from framework.device import choose_device
from framework.estimators.compiled import keep_compiled_in
from framework.rng import seed_sequence, seeded
from framework.runtime import DistributedContext, Guard
from framework.runtime.process_group import Shutdown
from framework.training.train_task import TrainTask


def run_worker(distributed: DistributedContext, guard: Guard) -> int:
    """Train every node that rank 0 trains; return the exit code. Writes no files except compiled code."""
    logging.getLogger().handlers.clear()  # rank 0 logs everything
    logging.getLogger().addHandler(logging.NullHandler())
    while not isinstance(message := distributed.broadcast_object(), Shutdown):
        with distributed.training():
            _train_node(message, distributed, guard)
    return message.exit_code


def _train_node(task: TrainTask, distributed: DistributedContext, guard: Guard) -> None:
    guard.configure(replace(task.policy, periodic_checkpoint_every=None))  # rank 0 times the checkpoints for all
    if task.compiled_dir and task.compiled_dir.is_dir():
        keep_compiled_in(task.compiled_dir)
    with seeded(seed_sequence(task.seed, task.spec.node, "fit", distributed.rank)):
        trainer, _ = task.make_trainer(choose_device(task.device, distributed.local_rank), distributed)
        trainer.join()
        if trainer.progress.finished and trainer.is_done():
            return
        with distributed.detect_lost_ranks():
            trainer.fit(guard, save=trainer.state.gather, on_epoch=lambda record: None)
            trainer.state.gather()
