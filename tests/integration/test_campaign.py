"""Two hundred interruptions at random moments, and an allocation that ends: the same run as without them.

A failure names its seed and tells every attempt; `scripts/test -m campaign -k flow-3` makes the same choices again.
"""

import itertools
import math
import random
import re
import signal
import time
from pathlib import Path

import pytest

from framework.checkpoint import CheckpointStore
from tests.support.command import cold_start, warm_start
from tests.support.slow_project import SlowProject, handlers_are_installed, same_run, until

pytestmark = pytest.mark.campaign

NUM_INTERRUPTIONS = 20
EXIT_CODES = {signal.SIGTERM: 99, signal.SIGINT: 130, signal.SIGUSR2: 99, signal.SIGKILL: -9}
GAUSSIAN = ["~network.family", "~network.num_transforms", "~network.options"]
RUNS = {
    "gaussian": ["network._target_=framework.estimators.Gaussian", *GAUSSIAN, "loop.num_epochs=150"],
    "flow": ["network=maf", "loop.num_epochs=100"],
    "chain": ["experiment=chain", "loop.num_epochs=50"],
    "workers": ["simulation.workers=2", "loop.num_epochs=80"],
}
CASES = [("gaussian", 1), ("gaussian", 2), ("flow", 3), ("flow", 4), ("flow", 5)]
CASES += [("chain", 6), ("chain", 7), ("chain", 8), ("workers", 9), ("workers", 10)]
SLOW = {"SIMULATION_SECONDS": "0.002"}


@pytest.fixture(scope="module")
def wholes(tmp_path_factory):
    """Return a function that gives an uninterrupted run of a kind and how long it took; each is made once."""
    made = {}

    def whole(kind):
        if kind not in made:
            project, started = SlowProject(tmp_path_factory.mktemp(kind)), time.monotonic()
            result = project.run(*RUNS[kind], **SLOW)
            assert result.returncode == 0, result.stderr
            made[kind] = project, time.monotonic() - started
        return made[kind]

    return whole


class Campaign:
    """Attempts at one run, each interrupted; whatever is chosen is a function of the seed."""

    def __init__(self, directory, overrides, seed, whole_seconds):
        self.project, self.overrides = SlowProject(directory), [*overrides, "runtime.periodic_checkpoint_every=0.3s"]
        self.random, self.max_seconds = random.Random(seed), whole_seconds / 6
        self.log = []  # one line for each attempt: enough to see what was done when something goes wrong

    def begin(self, start, *overrides):
        resume = ["+resume=true"] if (self.project.run_dir / "config.yaml").exists() else []
        return self.project.start(*self.overrides, *resume, *overrides, start=start, **SLOW)

    def interrupt(self):
        """Start, wait for a random time, send a random signal; return the signal and the result."""
        number, drain = self.random.choice(list(EXIT_CODES)), self.random.choice(["step", "epoch"])
        start = cold_start if self.random.random() < 0.05 else warm_start
        early, delay = self.random.random() < 0.2, self.random.uniform(0, self.max_seconds)
        attempts = len(self.attempts)
        process = self.begin(start, f"runtime.drain={drain}")
        if number != signal.SIGKILL:
            until(lambda: handlers_are_installed(process), process)  # before that nothing is there to be saved
        if not early:
            until(lambda: len(self.attempts) > attempts, process)
        deadline = time.monotonic() + delay
        while time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.002)
        if process.poll() is None:
            process.send(number)
        result = process.wait()
        when = f"{'start' if early else 'attempt'} + {delay:.2f} s, drain={drain}, {start.__name__}"
        self.log.append(f"{signal.Signals(number).name} at {when}: {result.returncode}, step {self.step}")
        return number, result

    @property
    def attempts(self):
        return list(self.project.run_dir.glob("attempts/*.json"))

    @property
    def positions(self):
        """The progress of every node in the newest checkpoint."""
        newest = CheckpointStore(self.project.run_dir / "checkpoints").latest()
        nodes = newest.manifest["nodes"] if newest else []
        return {node: newest.load(f"{node}/checkpoint.json")["progress"] for node in nodes}

    @property
    def step(self):
        """The training steps that a resumed run need not take again."""
        return sum(progress["step"] for progress in self.positions.values())

    def left_over(self):
        """Return the processes that are still at work in the project's directory."""
        return [path.parent.name for path in Path("/proc").glob("[0-9]*/cwd") if self._is_here(path)]

    def _is_here(self, path):
        try:
            return path.readlink() == self.project.directory
        except OSError:  # it has ended
            return False


def is_interrupted(campaign, whole):
    """Interrupt once and check what that leaves; tell whether it was in time, before the run had finished."""
    positions, first, num_recorded = campaign.positions, campaign.step, len(campaign.project.steps)
    number, result = campaign.interrupt()
    story = "\n".join([*campaign.log, result.stdout, result.stderr])
    assert result.returncode in (0, EXIT_CODES[number]), story
    assert "Traceback" not in result.stdout + result.stderr, story
    until(lambda: not campaign.left_over())
    resumed = dict(re.findall(r"↻ Resuming (\w+) from epoch (\d+)/", result.stdout))
    assert all(int(epoch) == epoch_under_way(positions[node]) for node, epoch in resumed.items()), story
    trained = campaign.project.steps[num_recorded:]
    assert trained == whole.steps[first : first + len(trained)], story
    num_lost = first + len(trained) - campaign.step
    assert num_lost == 0 or (number == signal.SIGKILL and 0 < num_lost <= len(trained)), story
    return result.returncode != 0


def epoch_under_way(progress):
    return progress["epoch"] + (progress["batch"] > 0)


@pytest.mark.parametrize(("kind", "seed"), CASES, ids=[f"{kind}-{seed}" for kind, seed in CASES])
def test_interrupted_at_random_moments_a_run_ends_as_if_nothing_had_happened(wholes, tmp_path, kind, seed):
    """A run that has finished is followed by another one, until all interruptions are done."""
    whole, seconds = wholes(kind)
    num_left = NUM_INTERRUPTIONS
    for number in itertools.count(1):
        (tmp_path / str(number)).mkdir()
        campaign = Campaign(tmp_path / str(number), RUNS[kind], f"{seed}-{number}", seconds)
        while num_left and is_interrupted(campaign, whole):
            num_left -= 1
        result = campaign.begin(warm_start).wait()
        print(*campaign.log, sep="\n")
        assert result.returncode == 0, result.stdout + result.stderr
        assert same_run(campaign.project.run_dir, whole.run_dir)
        if not num_left:
            return


def test_the_checkpoint_is_committed_thirty_seconds_before_the_allocation_ends(tmp_path):
    """And every ten seconds until then, which does not end the training."""
    project, started = SlowProject(tmp_path), time.time()
    end = math.ceil(started) + 90
    settings = ["runtime.wall_clock_budget=auto", "runtime.checkpoint_before_end=30s", "loop.num_epochs=100000"]
    settings += ["runtime.periodic_checkpoint_every=10s", "runtime.keep=100"]
    variables = {"SLURM_JOB_END_TIME": str(end), "STEP_SECONDS": "0.02"}
    result = project.run(*settings, start=cold_start, **variables)
    ended = time.time()
    assert result.returncode == 99, result.stderr
    assert "⚠ Out of time at epoch" in result.stdout + result.stderr
    *periodic, last = sorted(path.stat().st_mtime for path in project.run_dir.glob("checkpoints/0*/manifest.json"))
    assert 60 <= last - started <= 65 and ended < end
    assert len(periodic) >= 4
    assert all(9.5 <= later - earlier <= 15 for earlier, later in itertools.pairwise(periodic))
