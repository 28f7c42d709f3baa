"""Filling the store with simulations, in this process or in several."""

import os
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import wait

from framework.errors import SimulationError
from framework.graph import Graph
from framework.simulation.draw import Failure
from framework.simulation.shard import Report, simulate_shard, unit_of
from framework.simulation.store import SimulationStore
from framework.simulation.work import Work
from framework.simulation.worker import Worker, WorkerDiedError

OnProgress = Callable[[int, int], None]

_TICK_SECONDS = 0.5
_STOP_SECONDS = 5.0  # how long workers have to finish a call of the simulator; what they hold beyond it is lost
_NUM_SHOWN = 3


def run_simulations(
    build: Callable[[], Graph],
    store: SimulationStore,
    num_simulations: int,
    seed: int,
    workers: int | str,
    max_invalid_fraction: float,
    on_progress: OnProgress | None = None,
) -> None:
    """Draw what is missing of the simulations below `num_simulations`, in parallel.

    `build` makes the graph, once here and once in each worker, so it must be picklable.
    `workers` is a number or "auto". `on_progress(done, invalid)` is called after every piece of work
    and twice a second with the numbers on disk; it may raise to end the phase, after what is
    finished has been committed. Raises `SimulationError` for too many invalid simulations, a worker that dies, and a
    full disk; going on later gives the same simulations as if nothing had happened.
    """
    assert seed == store.seed, "the store was made for another seed"
    graph = build()
    store.remove_leftovers()
    progress = _Progress(store, num_simulations, max_invalid_fraction, on_progress)
    try:
        work = Work(store.missing(num_simulations), unit_of(graph), store.dtype.itemsize, _num_workers(workers))
        if work.num_workers > 1:
            _run_in_workers(build, store, work, progress)
        else:
            _run_here(graph, store, work, progress)
        progress.tick()
    except (WorkerDiedError, OSError) as error:
        raise SimulationError(f"{store.directory}: {error}; {store.safe()}") from error


def _run_here(graph: Graph, store: SimulationStore, work: Work, progress: "_Progress") -> None:
    interruption: list[BaseException] = []

    def should_stop() -> bool:
        try:
            progress.tick()
        except BaseException as error:  # raised again once the shard is committed
            interruption.append(error)
        return bool(interruption)

    while task := work.take():
        report = simulate_shard(graph, store, *task, should_stop)
        if interruption:
            raise interruption[0]
        work.learn(report)
        progress.add(report)


def _run_in_workers(build: Callable[[], Graph], store: SimulationStore, work: Work, progress: "_Progress") -> None:
    context = get_context("spawn")
    workers: list[Worker] = []
    try:
        for _ in range(work.num_workers):
            workers.append(Worker(context, build, store))
            workers[-1].assign(work.take())
        while busy := [worker for worker in workers if worker.task]:
            ready = wait([worker.pipe for worker in busy], timeout=_TICK_SECONDS)
            for worker in busy:
                if worker.pipe in ready or worker.has_ended():
                    report = worker.receive()
                    work.learn(report)
                    progress.add(report)
                    worker.assign(work.take())
            progress.tick()
    finally:
        _end(workers)


def _end(workers: list[Worker]) -> None:
    deadline = time.monotonic() + _STOP_SECONDS
    for worker in workers:
        worker.ask_to_stop()
    try:
        for worker in workers:
            worker.end(max(0.0, deadline - time.monotonic()))
    finally:  # a second Ctrl+C
        for worker in workers:
            worker.process.kill()


class _Progress:
    """The numbers of simulations on disk, and the limit on the invalid ones."""

    def __init__(
        self, store: SimulationStore, num_simulations: int, max_invalid_fraction: float, on_progress: OnProgress | None
    ) -> None:
        self._num_simulations = num_simulations
        self._max_invalid_fraction = max_invalid_fraction
        self._on_progress = on_progress
        self._failures: list[Failure] = []
        num_valid, self._num_invalid = store.counts(num_simulations)
        self._num_done = num_valid + self._num_invalid
        self._check()

    def add(self, report: Report) -> None:
        """Count a committed range; raise `SimulationError` once too many simulations are invalid."""
        self._num_done += report.stop - report.start
        self._num_invalid += report.num_invalid
        self._failures += report.failures[: _NUM_SHOWN - len(self._failures)]
        self._check()

    def tick(self) -> None:
        """Tell `on_progress` the numbers."""
        if self._on_progress:
            self._on_progress(self._num_done, self._num_invalid)

    def _check(self) -> None:
        if self._num_invalid <= self._max_invalid_fraction * self._num_simulations:
            return
        failures = "; ".join(f"simulation {f.index}, node {f.node}: {f.message}" for f in self._failures)
        raise SimulationError(
            f"simulation.max_invalid_fraction={self._max_invalid_fraction}: {self._num_invalid} of "
            f"{self._num_simulations} simulations are invalid; mend the simulator and start a new run, or raise this"
            + (f"\nFirst failures: {failures}" if failures else "")
        )


def _num_workers(workers: int | str) -> int:
    return len(os.sched_getaffinity(0)) if workers == "auto" else int(workers)
