"""A trainer's state as the files of one node in a checkpoint, and back."""

from typing import Any

from framework.checkpoint import Generation
from framework.estimators.files import INIT_FILE, read_weights, weight_files
from framework.training.trainer import Trainer


def node_files(trainer: Trainer, initial: dict[str, Any]) -> dict[str, Any]:
    """Return {path below the generation: content} with everything that the node needs to go on."""
    states = {name: part.state_dict() for name, part in trainer.parts.items()}
    files: dict[str, Any] = weight_files(trainer.estimator, states.pop("estimator"))
    files |= weight_files(trainer.estimator, trainer.best, "_best")
    files[INIT_FILE] = initial
    files["optimizer.pth"] = {"optimizer": states.pop("optimizer"), "scheduler": states.pop("scheduler")}
    files["checkpoint.json"] = states
    return {f"{trainer.node}/{name}": content for name, content in files.items()}


def restore(trainer: Trainer, generation: Generation) -> None:
    """Bring the trainer to the state in the checkpoint."""
    states = generation.load(f"{trainer.node}/checkpoint.json")
    states |= generation.load(f"{trainer.node}/optimizer.pth")
    states["estimator"] = read_weights(trainer.estimator, generation)
    trainer.load_state(states, best=read_weights(trainer.estimator, generation, "_best"))
