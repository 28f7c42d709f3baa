"""Errors that a user can act on: each has an exit code and a message of one or two lines."""


class FrameworkError(Exception):
    """Shown as its message alone, without a traceback; the process ends with `exit_code`."""

    exit_code = 1


class ConfigError(FrameworkError, ValueError):
    """The configuration or an input file is wrong; the message names the key or file."""

    exit_code = 2


class SimulationError(FrameworkError, RuntimeError):
    """The simulator failed too often, or simulations could not be stored."""

    exit_code = 2


class TrainingError(FrameworkError, RuntimeError):
    """Training cannot go on."""


class ResumeRefusedError(FrameworkError):
    """Going on would overwrite or break an existing run."""

    exit_code = 3


class CheckpointError(FrameworkError):
    """No usable checkpoint where one is needed."""

    exit_code = 4
