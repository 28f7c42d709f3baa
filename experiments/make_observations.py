"""Create the bundled observations: `python -m experiments.make_observations [experiment ...]`.

Draws theta from the priors in conf/experiment/<experiment>.yaml, runs the simulators and writes
experiments/<experiment>/observations.npz with the observed nodes and the true parameters.
"""

import argparse
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf

from framework.config.target import build
from framework.paths import BUNDLE_DIR, CONF_DIR
from framework.priors import build_prior
from framework.rng import seed_sequence, seeded

NUM_OBSERVATIONS = 10
SEED = 2024


def simulate(experiment: str, num_simulations: int = NUM_OBSERVATIONS, seed: int = SEED) -> dict[str, np.ndarray]:
    """Return float32 draws of all nodes of an experiment, by name: (num_simulations, *event_shape)."""
    config = OmegaConf.to_container(OmegaConf.load(CONF_DIR / f"experiment/{experiment}.yaml"), resolve=False)
    values: dict[str, np.ndarray] = {}
    for name, prior in config["priors"].items():
        with seeded(seed_sequence(seed, experiment, name)):
            values[name] = build_prior(prior, f"priors.{name}").sample(num_simulations).numpy()
    for name, node in config["graph"].items():  # the files list each node after its parents
        if "simulator" in node:
            parents = [values[parent] for parent in node["parents"]]
            with seeded(seed_sequence(seed, experiment, name)):
                values[name] = _call(node, name, parents, np.random.default_rng(seed_sequence(seed, experiment, name)))
    return values


def _call(node: Mapping[str, Any], name: str, parents: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    simulator = build(node["simulator"], f"graph.{name}.simulator")
    keywords = {"rng": rng} if "rng" in inspect.signature(simulator).parameters else {}
    if node.get("backend") == "torch":
        return simulator(*map(torch.from_numpy, parents), **keywords).numpy()
    if node.get("batched"):
        return np.asarray(simulator(*parents, **keywords), dtype=np.float32)
    return np.stack([simulator(*row, **keywords) for row in zip(*parents, strict=True)]).astype(np.float32)


def write(experiment: str, path: Path) -> None:
    """Write the observed nodes and the true parameters of ten simulations."""
    values = simulate(experiment)
    config = OmegaConf.load(CONF_DIR / f"experiment/{experiment}.yaml")
    kept = [name for name, node in config.graph.items() if "observed" in node or "truth" in node]
    np.savez(path, **{name: values[name] for name in kept})


def main() -> None:
    """Write the observations of the given experiments, by default of all."""
    everything = sorted(path.stem for path in (CONF_DIR / "experiment").glob("*.yaml"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiments", nargs="*", default=everything, metavar="experiment")
    for experiment in parser.parse_args().experiments:
        path = BUNDLE_DIR / "experiments" / experiment / "observations.npz"
        write(experiment, path)
        print(path)


if __name__ == "__main__":
    main()
