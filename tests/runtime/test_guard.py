"""When a run saves and stops: the clock is a fake one, the signals are real."""

import os
import signal
import subprocess
import sys
import time

import pytest

from framework.runtime import Budget, BudgetReader, Guard, Policy, Save, Stopped, StopReason
from framework.runtime.timing import Recent, save_period


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


class Reader(BudgetReader):
    """Tells an end that many seconds from now, as a scheduler would."""

    def __init__(self, seconds):
        super().__init__(None)
        self.seconds = seconds

    def read(self, fresh=False):
        return Budget(time.time(), time.time() + self.seconds, "test") if self.seconds else None


def guard_with(clock, budget_seconds=None, **policy):
    guard = Guard(Policy(**policy), clock)
    guard.limit(Reader(budget_seconds))
    return guard


def work(guard, clock, num_steps, seconds=1.0):
    """Take steps as a training loop does; return the answer that ended them and the steps taken."""
    for step in range(num_steps):
        if (asked := guard.poll()) and asked is not Save.NOW:
            return asked, step
        clock.now += seconds
    return None, num_steps


# The deadline


def test_without_a_budget_it_never_stops():
    clock = Clock()
    guard = guard_with(clock)
    clock.now += 1e9
    assert guard.poll() is None
    guard.check()


def test_it_stops_the_asked_time_before_the_end():
    clock = Clock()
    guard = guard_with(clock, 100, checkpoint_before_end=30.0)
    assert work(guard, clock, 200) == (StopReason.OUT_OF_TIME, 70)
    with pytest.raises(Stopped) as stopped:
        guard.check()
    assert stopped.value.reason is StopReason.OUT_OF_TIME


def test_it_stops_earlier_where_a_step_or_a_save_was_measured_to_take_longer():
    clock = Clock()
    guard = guard_with(clock, 1000, checkpoint_before_end=5.0)
    work(guard, clock, 10, seconds=20.0)
    with guard.saving():
        clock.now += 40
    assert guard.margin_seconds == pytest.approx(20 + 1.5 * 40)
    assert work(guard, clock, 100, seconds=20.0) == (StopReason.OUT_OF_TIME, 34)  # at 920 of 1000


def test_auto_adds_to_what_is_measured_for_the_schedulers_clock_but_little_of_a_short_budget():
    clock = Clock()
    assert guard_with(clock, 86_400).margin_seconds == pytest.approx(60 + 1.5)
    assert guard_with(clock, 100).margin_seconds == pytest.approx(5 + 1.5, abs=0.1)


def test_a_write_in_the_background_counts_as_long_as_it_takes():
    clock = Clock()
    guard = guard_with(clock, 1000, checkpoint_before_end=5.0)
    with guard.saving():
        clock.now += 0.1
    guard.learn_write(20.0)
    assert guard.margin_seconds == 30.0


def test_what_came_before_the_first_step_is_no_step():
    clock = Clock()
    guard = guard_with(clock, 10_000, checkpoint_before_end=5.0)
    clock.now += 5_000  # simulating
    work(guard, clock, 10)
    assert guard.margin_seconds == 5.0


class Limit(Reader):
    """An allocation whose end is moved by an administrator while it is used."""

    def __init__(self, clock, seconds):
        super().__init__(seconds)
        self.clock, self.end, self.asked_at = clock, clock.now + seconds, []

    def read(self, fresh=False):
        if fresh:
            self.asked_at.append(self.clock.now - 1000)
        return Budget(time.time() - 1, time.time() + self.end - self.clock.now, "test")


def limited(seconds, **policy):
    """Return a guard whose thread is called by hand, its clock and its limit."""
    clock = Clock()
    guard, limit = Guard(Policy(**policy), clock), Limit(clock, seconds)
    guard.limit(limit)
    return guard, clock, limit


def work_beside_the_thread(guard, clock, num_epochs, num_steps):
    for _ in range(num_epochs):
        guard._reread()
        guard.begin_epoch(num_steps)
        for _ in range(num_steps):
            guard._reread()
            if guard.poll() not in (None, Save.NOW):
                return clock.now - 1000
            clock.now += 1
    return None


def test_a_raised_limit_is_applied_without_notification():
    guard, clock, limit = limited(300, checkpoint_before_end=30.0)
    limit.end += 300
    assert work_beside_the_thread(guard, clock, 1, 1000) == pytest.approx(570, abs=1)
    assert limit.asked_at == pytest.approx([255, 555], abs=1)  # shortly before each stop, and no more


def test_with_drain_epoch_the_limit_is_asked_before_the_last_epoch_that_fits():
    guard, clock, limit = limited(300, checkpoint_before_end=30.0, drain="epoch")
    limit.end += 300
    assert work_beside_the_thread(guard, clock, 20, 50) == pytest.approx(550, abs=1)


def test_far_from_its_end_the_limit_is_asked_every_ten_minutes():
    guard, clock, limit = limited(10_000)
    limit.end = clock.now + 2000
    assert work_beside_the_thread(guard, clock, 1, 5000) == pytest.approx(2000 - guard.margin_seconds, abs=1)
    assert limit.asked_at == pytest.approx([601, 1202, 1803, 2000 - guard.margin_seconds - 15], abs=2)


# Periodic saves


def test_a_periodic_save_is_due_once_in_each_period():
    clock = Clock()
    guard = guard_with(clock, periodic_checkpoint_every=10.0)
    due = []
    for _ in range(35):
        clock.now += 1
        due.append(guard.poll())
    assert [i + 1 for i, answer in enumerate(due) if answer is Save.NOW] == [10, 20, 30]


def test_the_period_counts_from_the_end_of_the_save():
    clock = Clock()
    guard = guard_with(clock, periodic_checkpoint_every=10.0)
    with guard.saving():
        clock.now += 100
    assert work(guard, clock, 9) == (None, 9)
    clock.now += 1
    assert guard.poll() is Save.NOW


def test_auto_saves_soon_then_by_what_a_save_costs():
    clock = Clock()
    guard = guard_with(clock, periodic_checkpoint_every="auto")
    clock.now += 60
    assert guard.poll() is Save.NOW
    with guard.saving():
        clock.now += 0.5
    clock.now += 293  # sqrt(2 * 0.5 * 86400) = 293.9
    assert guard.poll() is None
    clock.now += 1
    assert guard.poll() is Save.NOW


def test_the_period_is_youngs_and_costs_at_most_one_percent():
    assert save_period(0.5) == pytest.approx(293.9, abs=0.1)
    assert save_period(60.0) == 6000.0
    assert save_period(0.0) == 30.0


def test_p99_leaves_out_one_in_a_hundred():
    steps = Recent(1000)
    for seconds in range(1, 101):
        steps.add(float(seconds))
    assert (steps.p99(), steps.mean()) == (99, 50.5)
    assert Recent(3).p99(default=7.0) == 7.0


# Draining an epoch


def train(guard, clock, num_epochs, on_step=lambda epoch, step: None):
    """Run epochs of ten steps of one second and two seconds of validation; return where it stopped, and why."""
    for epoch in range(num_epochs):
        guard.begin_epoch(10)
        for step in range(10):
            if asked := guard.poll():
                return asked, epoch, step
            on_step(epoch, step)
            clock.now += 1
        clock.now += 2
    return None


def ask(number, at):
    return lambda epoch, step: os.kill(os.getpid(), number) if (epoch, step) == at else None


def test_a_stop_is_at_the_next_step():
    clock = Clock()
    with guard_with(clock) as guard:
        assert train(guard, clock, 9, ask(signal.SIGTERM, (3, 4))) == (StopReason.TERMINATED, 3, 5)


def test_with_drain_epoch_a_stop_is_at_the_end_of_an_epoch_that_fits_into_the_grace():
    clock = Clock()
    with guard_with(clock, drain="epoch", grace=15.0) as guard:
        assert train(guard, clock, 9, ask(signal.SIGTERM, (3, 4))) == (StopReason.TERMINATED, 4, 0)


def test_with_drain_epoch_a_stop_is_at_the_next_step_where_the_epoch_does_not_fit():
    clock = Clock()
    with guard_with(clock, drain="epoch", grace=10.0) as guard:
        assert train(guard, clock, 9, ask(signal.SIGTERM, (3, 4))) == (StopReason.TERMINATED, 3, 5)


def test_a_person_at_the_terminal_has_time_for_the_epoch_unless_asking_again():
    clock = Clock()
    with guard_with(clock, drain="epoch", grace=0.0) as guard:
        assert train(guard, clock, 9, ask(signal.SIGINT, (0, 4))) == (StopReason.INTERRUPTED, 1, 0)
    with guard_with(clock, drain="epoch", second_signal_window=2.0) as guard:
        twice = {(3, 1), (3, 6)}
        answer = train(guard, clock, 9, lambda *at: os.kill(os.getpid(), signal.SIGINT) if at in twice else None)
        assert answer == (StopReason.INTERRUPTED, 3, 7)


def test_with_drain_epoch_no_epoch_is_begun_that_would_not_fit_before_the_end():
    clock = Clock()
    guard = guard_with(clock, 45, drain="epoch", checkpoint_before_end=5.0)
    assert train(guard, clock, 9) == (StopReason.OUT_OF_TIME, 3, 0)  # 36 of 40 seconds are over


def test_an_epoch_longer_than_the_allocation_is_stopped_within():
    clock = Clock()
    guard = guard_with(clock, 8, drain="epoch", checkpoint_before_end=5.0)
    assert train(guard, clock, 9) == (StopReason.OUT_OF_TIME, 0, 3)


def test_outside_of_training_there_is_nothing_to_drain():
    clock = Clock()
    with guard_with(clock, drain="epoch") as guard:
        train(guard, clock, 1)
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Stopped):
            guard.check()


# Signals


@pytest.fixture
def hangup_is_heard():
    """SIGHUP as it is at a terminal, also where the tests run under nohup."""
    inherited = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, inherited)


@pytest.mark.usefixtures("hangup_is_heard")
@pytest.mark.parametrize(
    ("number", "reason", "exit_code"),
    [
        (signal.SIGINT, StopReason.INTERRUPTED, 130),
        (signal.SIGTERM, StopReason.TERMINATED, 99),
        (signal.SIGUSR2, StopReason.REQUEUE, 99),
        (signal.SIGHUP, StopReason.TERMINATED, 99),
    ],
)
def test_a_signal_asks_for_a_stop(number, reason, exit_code):
    def before(number, frame):
        pass

    inherited = signal.signal(number, before)
    with Guard() as guard:
        assert guard.poll() is None
        guard.check()
        os.kill(os.getpid(), number)
        assert guard.poll() is reason
        assert guard.poll() is reason
        with pytest.raises(Stopped):
            guard.check()
        assert guard.exit_code(reason) == exit_code
        assert guard.previous_handler(number) is before
    assert signal.getsignal(number) is before
    signal.signal(number, inherited)


def test_nohup_is_respected():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Guard() as guard:
            os.kill(os.getpid(), signal.SIGHUP)
            assert guard.poll() is None
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_usr1_asks_for_one_save():
    with Guard() as guard:
        os.kill(os.getpid(), signal.SIGUSR1)
        assert [guard.poll(), guard.poll()] == [Save.NOW, None]
        os.kill(os.getpid(), signal.SIGUSR1)
        guard.check()  # in a phase that has nothing to save
        assert guard.poll() is None


def test_cont_is_ignored():
    with Guard() as guard:
        os.kill(os.getpid(), signal.SIGCONT)
        assert guard.poll() is None


def test_a_request_that_arrives_twice_at_once_is_one():
    with Guard() as guard:  # `timeout` signals its child, then its group with the child
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert guard.poll() is StopReason.TERMINATED


def test_exit_code_of_a_stop_is_configurable_but_not_that_of_an_interruption():
    guard = Guard(Policy(exit_code=85))
    assert [guard.exit_code(reason) for reason in StopReason] == [130, 85, 85, 85]


PROGRAM = """
import os, signal, sys, time
from framework.runtime import Budget, BudgetReader, Guard, Policy

class Reader(BudgetReader):
    def read(self, fresh=False):
        return Budget(time.time(), time.time() + 1.5, "test")

def send(number, after=0.1):
    os.kill(os.getpid(), number)
    time.sleep(after)

"""


def run(body):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    environment.pop("SLURM_JOB_ID", None)
    return subprocess.run(
        [sys.executable, "-c", PROGRAM + body], env=environment, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize(
    ("first", "second", "exit_code"),
    [("SIGINT", "SIGINT", 130), ("SIGTERM", "SIGTERM", 99), ("SIGTERM", "SIGINT", 130)],
)
def test_a_second_signal_within_the_window_ends_the_process_at_once(first, second, exit_code):
    result = run(f"""
with Guard():
    try:
        send(signal.{first})
        send(signal.{second})
    finally:
        print("nothing more is written")
""")
    assert (result.returncode, result.stdout) == (exit_code, "")
    assert "Second signal: exiting immediately; the last committed checkpoint is intact" in result.stderr


def test_in_a_job_a_second_sigterm_is_the_schedulers_own():
    result = run("""
os.environ["SLURM_JOB_ID"] = "7"
with Guard() as guard:
    send(signal.SIGTERM), send(signal.SIGTERM)
    print(guard.poll(), flush=True)
    send(signal.SIGINT)
""")
    assert (result.returncode, result.stdout) == (130, "StopReason.TERMINATED\n")


def test_a_second_signal_after_the_window_is_a_first_one():
    result = run("""
with Guard(Policy(second_signal_window=0.08)) as guard:
    send(signal.SIGINT), send(signal.SIGINT)
    print(guard.poll())
""")
    assert (result.returncode, result.stdout) == (0, "StopReason.INTERRUPTED\n")


def test_a_forked_child_leaves_the_signals_to_its_parent_but_can_be_terminated():
    result = run("""
with Guard() as guard:
    if not (child := os.fork()):
        send(signal.SIGINT), send(signal.SIGINT), send(signal.SIGUSR2), send(signal.SIGTERM)
        os._exit(1)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), guard.poll())
""")
    assert result.stdout == f"{-signal.SIGTERM} None\n", result.stderr


def test_a_main_thread_stuck_in_a_long_call_is_ended_resumably_before_the_allocation_is():
    result = run("""
with Guard(Policy(checkpoint_before_end=0.4)) as guard:
    guard.limit(Reader(None))
    time.sleep(60)
""")
    assert result.returncode == 99
    assert "Out of time in a long call: exiting with the last committed checkpoint" in result.stderr


def test_after_sigterm_a_stuck_main_thread_is_ended_within_the_grace():
    result = run("""
with Guard(Policy(grace=0.5)):
    send(signal.SIGTERM, after=60)
""")
    assert result.returncode == 99


@pytest.mark.parametrize(
    ("last", "exit_code"),
    [("print(reason, flush=True)", 99), ("sys.exit(1)", 1), ("sys.exit('no number')", 99), ("1 / 0", 99)],
    ids=["says", "exits", "exits without a code", "fails"],
)
def test_what_is_to_be_done_before_a_stuck_process_ends_is_done_and_cannot_keep_it(last, exit_code):
    result = run(f"""
def say(reason):
    {last}

with Guard(Policy(checkpoint_before_end=0.4)) as guard:
    guard.on_stuck = say
    guard.limit(Reader(None))
    time.sleep(60)
""")
    assert result.returncode == exit_code
    assert result.stdout == ("StopReason.OUT_OF_TIME\n" if "print" in last else "")
    assert ("ZeroDivisionError" in result.stderr) == ("/" in last)


def test_a_stuck_process_ends_for_the_reason_for_which_it_was_asked_to():
    result = run("""
with Guard(Policy(grace=0.5)) as guard:
    guard.on_stuck = lambda reason: print(reason, flush=True)
    send(signal.SIGTERM, after=60)
""")
    assert (result.returncode, result.stdout) == (99, "StopReason.TERMINATED\n")


def test_a_save_under_way_is_not_cut_short_by_the_watchdog():
    result = run("""
with Guard(Policy(grace=0.3)) as guard:
    send(signal.SIGTERM, after=0)
    with guard.saving():
        time.sleep(1)
        print("saved", flush=True)
""")
    assert result.stdout == "saved\n"


def test_the_package_loads_without_torch():
    assert run("sys.exit(any(name in sys.modules for name in ('torch', 'numpy', 'hydra')))").returncode == 0


def test_the_end_is_read_again_on_sigterm():
    result = run("""
class Moving(Reader):
    end = 1000
    def read(self, fresh=False):
        print("fresh" if fresh else "first", flush=True)
        return Budget(time.time(), time.time() + (3 if fresh else 1000), "test")

with Guard(Policy(checkpoint_before_end=0.1)) as guard:
    guard.limit(Moving(None))
    send(signal.SIGTERM, after=1)
""")
    assert result.stdout == "first\nfresh\n"
