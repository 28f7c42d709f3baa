"""Command line: compose the configuration, then train."""

import hydra
from omegaconf import DictConfig

from framework.cli import exit_codes, run_command
from framework.config.parse import from_container, resolve
from framework.loading import load
from framework.paths import CONF_DIR, register_bundle
from framework.runtime import Guard, ignore_signals

register_bundle()


@hydra.main(version_base="1.3", config_path=str(CONF_DIR), config_name="config")
def main(cfg: DictConfig) -> float | None:
    """Train one run; the returned validation loss is what sweepers minimise."""
    with exit_codes(), Guard() as guard:  # before the rest loads, so that no signal is ever missed
        container = resolve(cfg)
        config = from_container(container)
        load("framework.run")  # torch, too; only now, so that --help and mistakes in the config answer at once
        from framework.run import run_training

        return run_training(config, container, guard)


def command() -> None:
    """Run as `framework-train`, the same with shell completion."""
    try:
        run_command(main)
    finally:
        ignore_signals()  # the last moments of the process are no part of the run


if __name__ == "__main__":
    command()
