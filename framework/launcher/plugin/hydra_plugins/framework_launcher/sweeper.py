"""The sweeper as Hydra wants it: imported at every start of every command, so nothing heavy is loaded here."""

from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from hydra_plugins.framework_launcher.launcher import SlurmLauncher
from omegaconf import DictConfig


class StudySweeper(Sweeper):
    """`hydra/sweeper=study`: a search by Optuna."""

    def __init__(self, **settings: Any) -> None:
        self._settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Check the settings and the launcher's; nothing else has happened."""
        from framework.errors import ConfigError
        from framework.imports import missing_package
        from framework.launcher.compose import sweep_dir
        from framework.launcher.launcher_config import parse_study

        self._config = parse_study(self._settings)
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )
        if not isinstance(launcher, SlurmLauncher):  # Hydra's own would end with the first job that fails
            raise ConfigError("hydra/sweeper=study: write hydra/launcher=slurm_local as well, or hydra/launcher=slurm")
        try:
            from framework.launcher.study import Study
        except ModuleNotFoundError as error:
            if not (missing := missing_package(error)):
                raise
            raise ConfigError(f"hydra/sweeper=study: {missing}") from error
        self._loader = hydra_context.config_loader
        self._check = launcher.check
        self._study = Study(self._config, sweep_dir(config), launcher.launch)

    def sweep(self, arguments: list[str]) -> None:
        """Run the trials; `hydra.sweeper.params` are overrides that come before those of the command line."""
        from framework.launcher.space import Space

        declared = [f"{key}={value}" for key, value in self._config.params.items()]
        space = Space([*declared, *arguments], self._loader)
        self._check(space.corners())  # a misspelt choice would stay in the study for good
        self._study.run(space)
