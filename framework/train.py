"""Command line: compose the configuration, then train."""

import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from framework.cli import exit_codes, run_command
from framework.compat.hydra import rerun_of
from framework.config.options import prefer_command_line
from framework.imports import import_without_gc
from framework.launcher.names import register_folder_names
from framework.paths import CONF_DIR, register_bundle, work_in
from framework.resume import plan_attempt
from framework.rundir.directory import RunDirectory
from framework.rundir.listing import refresh_listings
from framework.runtime import Guard, connect_processes

register_bundle()
prefer_command_line()
register_folder_names()


@hydra.main(version_base="1.3", config_path=str(CONF_DIR), config_name="config")
def main(cfg: DictConfig) -> float | None:
    """Train one run; return the validation loss, which sweepers minimise."""
    work_in(HydraConfig.get().runtime.cwd)  # hydra.job.chdir=true changes it
    command = HydraConfig.get().overrides.task
    with (
        exit_codes(),
        Guard() as guard,
        connect_processes(command, guard) as distributed,
    ):  # opened early so that no signal is missed
        if distributed.rank:
            import_without_gc("framework.training.worker")
            from framework.training.worker import run_worker

            if code := run_worker(distributed, guard):
                sys.exit(code)
            return None
        directory = RunDirectory(Path(HydraConfig.get().runtime.output_dir))
        if rerun_of(sys.argv[1:]):  # such a command takes no +resume=true
            directory.path.mkdir(parents=True, exist_ok=True)
            cfg.resume = directory.holds_work()
        refresh_listings(directory.path)
        directory.refuse_links()
        plan = plan_attempt(directory, cfg, HydraConfig.get())
        # imports torch: only now, so that --help, config mistakes and refusals respond quickly
        import_without_gc("framework.attempt")
        from framework.attempt import Attempt

        with Attempt(plan, directory, guard, distributed) as attempt:
            return attempt.run()
    return None  # never reached: the attempt exits the process


def command() -> None:
    """Entry point of `framework-train`, which also has shell completion."""
    run_command(main)


if __name__ == "__main__":
    command()
