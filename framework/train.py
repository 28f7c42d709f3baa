"""Command line: compose the configuration, then train."""

from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from framework.cli import exit_codes, run_command
from framework.launcher.names import register_folder_names
from framework.loading import load
from framework.paths import CONF_DIR, register_bundle
from framework.resume import plan_attempt
from framework.run_directory import RunDirectory
from framework.runtime import Guard, ignore_signals

register_bundle()
register_folder_names()


@hydra.main(version_base="1.3", config_path=str(CONF_DIR), config_name="config")
def main(cfg: DictConfig) -> float | None:
    """Train one run; the returned validation loss is what sweepers minimise."""
    with exit_codes(), Guard() as guard:  # before the rest loads, so that no signal is ever missed
        directory = RunDirectory(Path(HydraConfig.get().runtime.output_dir))
        plan = plan_attempt(directory, cfg, HydraConfig.get())
        load("framework.run")  # torch, too; only now, so that --help, mistakes in the config and refusals come at once
        from framework.run import run_training

        return run_training(plan, directory, guard)


def command() -> None:
    """Run as `framework-train`, the same with shell completion."""
    try:
        run_command(main)
    finally:
        ignore_signals()  # the last moments of the process are no part of the run


if __name__ == "__main__":
    command()
