"""When a run saves and stops: the clock is a fake one, the signals are real."""

import os
import signal

import pytest

from framework.runtime import Guard, StopReason


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def test_without_a_budget_it_never_stops():
    clock = Clock()
    guard = Guard(clock=clock)
    clock.now += 1e9
    assert guard.poll() is None
    assert not guard.save_is_due()


def test_it_stops_the_margin_before_the_budget_ends():
    clock = Clock()
    guard = Guard(budget_seconds=100, margin_seconds=30, clock=clock)
    clock.now += 69
    assert guard.poll() is None
    clock.now += 1
    assert guard.poll() is StopReason.OUT_OF_TIME


def test_a_periodic_save_is_due_once_in_each_period():
    clock = Clock()
    guard = Guard(save_every_seconds=10, clock=clock)
    due = []
    for _ in range(35):
        clock.now += 1
        due.append(guard.save_is_due())
    assert [i + 1 for i, is_due in enumerate(due) if is_due] == [10, 20, 30]


@pytest.mark.parametrize(
    ("number", "reason"), [(signal.SIGINT, StopReason.INTERRUPTED), (signal.SIGTERM, StopReason.TERMINATED)]
)
def test_a_signal_asks_for_a_stop_and_gives_the_handlers_back(number, reason):
    before = signal.getsignal(number)
    with Guard() as guard:
        assert guard.poll() is None
        os.kill(os.getpid(), number)
        assert guard.poll() is reason
        assert signal.getsignal(number) is before
    assert signal.getsignal(number) is before


def test_a_second_interrupt_acts_as_if_there_were_no_guard():
    with pytest.raises(KeyboardInterrupt), Guard():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
