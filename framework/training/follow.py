"""What all ranks but the first do: train along with it, and end as it does."""

import logging
from dataclasses import replace

from framework.device import choose_device
from framework.estimators.compiled import keep_compiled_in
from framework.rng import seed_sequence, seeded
from framework.runtime import Guard, Ranks
from framework.runtime.group import End
from framework.training.lesson import Lesson


def follow(ranks: Ranks, guard: Guard) -> int:
    """Train every node that rank 0 trains; return the exit code to end with. Has no files but what it compiles."""
    logging.getLogger().handlers.clear()  # rank 0 tells it all, and has the log file
    logging.getLogger().addHandler(logging.NullHandler())
    while not isinstance(message := ranks.share(), End):
        with ranks.in_step():
            _train_along(message, ranks, guard)
    return message.exit_code


def _train_along(lesson: Lesson, ranks: Ranks, guard: Guard) -> None:
    guard.configure(replace(lesson.policy, periodic_checkpoint_every=None))  # rank 0's clock has all save
    if lesson.compiled_dir and lesson.compiled_dir.is_dir():
        keep_compiled_in(lesson.compiled_dir)
    with seeded(seed_sequence(lesson.seed, lesson.spec.node, "fit", ranks.rank)):
        trainer, _ = lesson.make_trainer(choose_device(lesson.device, ranks.local_rank), ranks)
        trainer.join()
        if trainer.progress.finished and trainer.is_done():
            return
        with ranks.reaching():
            trainer.fit(guard, save=trainer.state.gather, on_epoch=lambda record: None)
            trainer.state.gather()
