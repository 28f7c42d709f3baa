"""The number of simulations requested for a resumed run."""

from collections.abc import Mapping, Sequence

from framework.config.parse import node_settings
from framework.config.schema import Config
from framework.errors import ConfigError
from framework.resume.differences import Change

KEY = "simulation.num_simulations"


def check_simulations(changes: Sequence[Change], epochs: Mapping[str, int], config: Config) -> None:
    """Raise `ConfigError` if more simulations are requested and no node has an epoch left to train on them.

    `epochs` is the epoch that each node has reached.
    """
    change = next((change for change in changes if change.key == KEY), None)
    if change is None or change.verdict == "refused" or change.new < change.old:
        return
    keys = []
    reached = []
    for name in (name for name, node in config.graph.items() if node.evidence):
        settings = node_settings(config, name)
        if epochs.get(name, 0) < settings.loop.num_epochs:
            return
        keys.append(settings.key_of(name, "loop.num_epochs"))
        reached.append(f"{name} has finished its {settings.loop.num_epochs} epochs")
    raise ConfigError(
        f"{KEY}={change.new}: no node would train on the new simulations ({', '.join(reached)}); "
        f"increase {' and '.join(dict.fromkeys(keys))} too"
    )
