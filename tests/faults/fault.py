"""What is to happen to a process at one of its calls."""

import errno
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.faults.calls import Call

BEFORE, TORN, AFTER = "before", "torn", "after"


@dataclass(frozen=True)
class Fault:
    """What happens at the call of that number, the first is 0: an error, a kill, or `meanwhile` is called.

    A kill or an error comes `before` the call, `after` it, or when half of it is written. `recorded` is the call as it
    was without a fault: those before it are then let go without a look.
    """

    number: int
    error: int = 0
    when: str = BEFORE
    meanwhile: Callable[[], None] | None = None
    recorded: Call | None = field(default=None, repr=False)

    def is_at(self, number: int, call: Call) -> bool:
        """Tell whether this is the call, the `number`-th that was looked at."""
        return call.kind == self.recorded.kind.removeprefix("failed ") if self.recorded else number == self.number

    def __str__(self) -> str:
        what = errno.errorcode[self.error] if self.error else "meanwhile" if self.meanwhile else "killed"
        return f"{what} {self.when} call {self.number}"
