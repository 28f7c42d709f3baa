"""The launchers as Hydra wants them: imported at every start of every command, so nothing heavy is loaded here."""

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class SlurmLauncher(Launcher):
    """`hydra/launcher=slurm`: the jobs of a sweep as one job array."""

    kind = "slurm"

    def __init__(self, **settings: Any) -> None:
        self._settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Check the settings; the command line has been composed, nothing else has happened."""
        from framework.launcher.loader import SweepLoader
        from framework.launcher.sweep import Sweep

        context: Any = hydra_context  # Hydra's types allow only its own loader
        loader = context.config_loader = SweepLoader(context.config_loader)  # the sweeper's, too
        self._sweep = Sweep(self.kind, self._settings, loader, task_function, config)

    def check(self, job_overrides: Sequence[Sequence[str]]) -> None:
        """Raise `ConfigError` if anything is wrong with these jobs."""
        self._sweep.check(job_overrides)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run those of these jobs that have not finished."""
        return self._sweep.launch(job_overrides, initial_job_idx)


class LocalLauncher(SlurmLauncher):
    """`hydra/launcher=slurm_local`: the same as processes of this machine, a few at once."""

    kind = "slurm_local"
