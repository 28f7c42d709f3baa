"""The contenders of training.py. Each runs in a process of its own, with the interpreter that has what it imports.

Started with a contender, a family and the settings as JSON. It trains two epochs and writes one line of JSON when it
is ready, then one with the seconds taken for every number of epochs that it reads.
"""

import contextlib
import dataclasses
import json
import sys
import time
import warnings
from typing import Any, Protocol

import torch


@dataclasses.dataclass(frozen=True)
class Settings:
    num_simulations: int
    batch_size: int
    threads: int
    hidden: tuple[int, ...] = (50, 50)
    transforms: int = 5
    bins: int = 10
    lr: float = 5e-4


class Contender(Protocol):
    num_parameters: int

    def train(self, num_epochs: int) -> float:
        """Train, validating after every epoch; return the seconds that the epochs took."""
        ...


def simulate(num_simulations: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return theta, uniform in [-1, 1]^2, and x of two dimensions."""
    generator = torch.Generator().manual_seed(0)
    theta = 2 * torch.rand(num_simulations, 2, generator=generator) - 1
    noise = 0.1 * torch.randn(num_simulations, 2, generator=generator)
    return theta, theta.flip(1) + theta.square() * torch.tensor([1.0, 0.5]) + noise


class Bare:
    """The shortest loop over zuko's flow that trains and validates: a floor for the cost of a framework."""

    def __init__(self, family: str, settings: Settings) -> None:
        import zuko

        options = {"bins": settings.bins} if family == "NSF" else {}
        constructor = getattr(zuko.flows, family)
        self.flow = constructor(2, 2, transforms=settings.transforms, hidden_features=settings.hidden, **options)
        self.num_parameters = count(self.flow)
        self.optimizer = torch.optim.Adam(self.flow.parameters(), lr=settings.lr, fused=True)
        data = [(value - value.mean(0)) / value.std(0) for value in simulate(settings.num_simulations)]
        num_train = int(0.9 * settings.num_simulations)
        self.theta, self.x = (value[:num_train] for value in data)
        self.val_theta, self.val_x = (value[num_train:] for value in data)
        self.batch_size = settings.batch_size

    def train(self, num_epochs: int) -> float:
        start_seconds = time.perf_counter()
        for _ in range(num_epochs):
            order = torch.randperm(len(self.theta))
            for start in range(0, len(order) - self.batch_size + 1, self.batch_size):
                rows = order[start : start + self.batch_size]
                loss = -self.flow(self.x[rows]).log_prob(self.theta[rows]).mean()
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
            with torch.no_grad():
                self.flow(self.val_x).log_prob(self.val_theta).mean().item()
        return time.perf_counter() - start_seconds


class Framework:
    """This framework's trainer, with the defaults of its configuration."""

    def __init__(self, family: str, settings: Settings, compile_loss: bool = False) -> None:
        import yaml

        from framework.config.schema import LoopConfig
        from framework.estimators import Estimator, EstimatorSpec
        from framework.paths import CONF_DIR
        from framework.training import Trainer, TrainingData
        from framework.training.data import held_out_rows

        def read(path: str) -> dict[str, Any]:
            return yaml.safe_load((CONF_DIR / path).read_text())

        network, optimizer = read(f"network/{family.lower()}.yaml"), read("optimizer/adam.yaml")
        optimizer |= {"scheduler": read("optimizer/scheduler/plateau.yaml"), "lr": settings.lr}
        prior = {"_target_": "framework.priors.Uniform", "low": [-1, -1], "high": [1, 1]}
        theta, x = simulate(settings.num_simulations)
        estimator = Estimator(EstimatorSpec("z", network, None, 2, {"x": (2,)}, {"z": prior}))
        self.num_parameters = count(estimator.density.get_submodule("conditional"))
        u, evidence = estimator.prepare(theta, {"x": x})
        held_out = held_out_rows(torch.arange(len(u)), 0.1, 0, "z")
        data = TrainingData.split(u, evidence, held_out, torch.device("cpu"))
        estimator.fit_standardisation(u[data.train_rows], {"x": x[data.train_rows]})
        loop = LoopConfig(num_epochs=0, early_stop_patience=None, batch_size=settings.batch_size, compile=compile_loss)
        self.trainer = Trainer(estimator, data, loop, optimizer, 0)

    def train(self, num_epochs: int) -> float:
        from framework.runtime import Guard

        self.trainer.loop.num_epochs += num_epochs
        start_seconds = time.perf_counter()
        self.trainer.fit(Guard(), lambda: None, lambda record: None)
        return time.perf_counter() - start_seconds


class Sbi:
    """sbi's NPE, as its users call it."""

    def __init__(self, model: str, settings: Settings) -> None:
        from sbi.inference import NPE
        from sbi.neural_nets import posterior_nn
        from sbi.utils import BoxUniform

        # sbi's own builders take one width, those for zuko's flows a list.
        hidden = settings.hidden if model.startswith("zuko") else settings.hidden[0]
        options = {"num_bins": settings.bins} if model.endswith("nsf") else {}
        builder = posterior_nn(model, hidden_features=hidden, num_transforms=settings.transforms, **options)
        theta, x = simulate(settings.num_simulations)
        self.num_parameters = count(builder(theta, x))
        prior = BoxUniform(-torch.ones(2), torch.ones(2))
        self.inference = NPE(prior=prior, density_estimator=builder, show_progress_bars=False)
        self.inference.append_simulations(theta, x)
        self.arguments = {"training_batch_size": settings.batch_size, "learning_rate": settings.lr}
        self.epochs_done = 0

    def train(self, num_epochs: int) -> float:
        resume, self.epochs_done = self.epochs_done > 0, self.epochs_done + num_epochs
        last = self.epochs_done - 1  # sbi trains one epoch more than the maximum that it is given
        self.inference.train(max_num_epochs=last, stop_after_epochs=10**9, resume_training=resume, **self.arguments)
        return sum(self.inference.summary["epoch_durations_sec"][-num_epochs:])


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def make(contender: str, family: str, settings: Settings) -> Contender:
    if contender == "bare":
        return Bare(family, settings)
    if contender == "sbi":
        return Sbi(family.lower(), settings)
    if contender == "sbi-zuko":
        return Sbi(f"zuko_{family.lower()}", settings)
    return Framework(family, settings, compile_loss=contender == "compiled")


def main() -> None:
    warnings.simplefilter("ignore")
    replies, commands = sys.stdout, sys.stdin
    settings = Settings(**json.loads(sys.argv[3]))
    torch.set_num_threads(settings.threads)
    with contextlib.redirect_stdout(sys.stderr):  # what libraries print is not for the benchmark to read
        start_seconds = time.perf_counter()
        contender = make(sys.argv[1], sys.argv[2], settings)
        contender.train(2)  # the fewest that sbi can
        ready = {"start_seconds": time.perf_counter() - start_seconds, "num_parameters": contender.num_parameters}
        print(json.dumps(ready), file=replies, flush=True)
        for line in commands:
            print(json.dumps(contender.train(int(line))), file=replies, flush=True)


if __name__ == "__main__":
    main()
