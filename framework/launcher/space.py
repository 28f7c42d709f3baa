"""What a study searches: the overrides of its command line that have several values, and the others."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, Sweep
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from framework.errors import ConfigError


class Space:
    """The distribution of each searched key, by its name as it is overridden, such as `+experiment`."""

    def __init__(self, overrides: Sequence[str], loader: Any) -> None:
        parsed = OverridesParser.create(config_loader=loader).parse_overrides(list(overrides))
        by_key = {override.get_key_element(): override for override in parsed}  # the last one for a key counts
        swept = {key: override for key, override in by_key.items() if override.is_sweep_override()}
        self.distributions = {key: _explained(override) for key, override in swept.items()}
        self._fixed = [str(override.input_line) for key, override in by_key.items() if key not in swept]
        if not swept:
            raise ConfigError(
                "hydra/sweeper=study: nothing to search; write values such as network=maf,nsf or "
                "'optimizer.lr=tag(log, interval(1e-4,1e-2))'"
            )

    def overrides(self, values: Mapping[str, Any]) -> list[str]:
        """Return the overrides of one job."""
        return [*self._fixed, *(f"{key}={value}" for key, value in values.items())]

    def corners(self) -> list[list[str]]:
        """Return jobs in which each choice and both ends of each range occur: to check before any trial."""
        ends = {key: _ends(distribution) for key, distribution in self.distributions.items()}
        jobs = range(max(map(len, ends.values())))
        return [self.overrides({key: values[i % len(values)] for key, values in ends.items()}) for i in jobs]


def _ends(distribution: BaseDistribution) -> Sequence[Any]:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    return distribution.low, distribution.high


def _explained(override: Override) -> BaseDistribution:
    try:
        return _distribution(override)
    except ValueError as error:  # Optuna's, about the limits
        raise ConfigError(f"{override.input_line}: {str(error).rstrip('.')}".replace("`", "")) from error


def _distribution(override: Override) -> BaseDistribution:
    """Return what the values of a sweep are for Optuna: a range has an order, a list of choices has none."""
    value = override.value()
    is_log = isinstance(value, Sweep) and "log" in value.tags
    if isinstance(value, IntervalSweep):
        start, end = value.start, value.end
        if isinstance(start, int) and isinstance(end, int):
            return IntDistribution(start, end, log=is_log)
        assert start is not None and end is not None, "the grammar asks for both"
        return FloatDistribution(start, end, log=is_log)
    texts = list(override.sweep_string_iterator())
    if not override.is_range_sweep() or len(texts) < 2:
        return CategoricalDistribution(texts)
    numbers = sorted(map(Decimal, texts))
    low, high = numbers[0], numbers[-1]
    step = numbers[1] - numbers[0]
    if all(number == int(number) for number in numbers):
        return IntDistribution(int(low), int(high), log=is_log, step=int(step))
    return FloatDistribution(float(low), float(high), log=is_log, step=float(step))
