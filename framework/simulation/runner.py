"""Filling the store with simulations, in this process or in parallel workers."""

import os
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import wait

from framework.errors import SimulationError
from framework.graph import Graph
from framework.simulation.block import Failure, simulate_block
from framework.simulation.shard import Report, simulate_shard, unit_of
from framework.simulation.store import SimulationStore
from framework.simulation.work import Work
from framework.simulation.worker import Worker, WorkerDiedError

OnProgress = Callable[[int, int], None]

_TICK_SECONDS = 0.5
_STOP_SECONDS = 5.0  # time for workers to finish a call of the simulator before they are killed
_NUM_SHOWN = 3


def run_simulations(
    build: Callable[[], Graph],
    store: SimulationStore,
    num_simulations: int,
    seed: int,
    workers: int | str,
    max_invalid_fraction: float,
    on_progress: OnProgress | None = None,
    num_signals: Callable[[], int] = lambda: 0,
) -> None:
    """Draw the missing simulations below `num_simulations` in parallel.

    `build` makes the graph, once here and once in each worker, so it must be picklable.
    `workers` is a number or "auto". `on_progress(done, invalid)` is called after every piece of work and twice a
    second with the numbers on disk; it may raise to end the phase, after finished simulations have been committed.
    `num_signals` returns how many signals this process has received. Raises `SimulationError` for too many invalid
    simulations, a worker that dies, and a full disk; resuming later gives the same simulations as an uninterrupted
    run.
    """
    assert seed == store.seed, "the store was made for another seed"
    graph = build()
    store.remove_leftovers()
    progress = _Progress(graph, store, num_simulations, max_invalid_fraction, on_progress)
    try:
        work = Work(store.missing(num_simulations), unit_of(graph), store.dtype.itemsize, _num_workers(workers))
        if work.num_workers > 1:
            _run_in_workers(build, store, work, progress)
        else:
            _run_here(graph, store, work, progress, num_signals)
        progress.tick()
    except (WorkerDiedError, OSError) as error:
        raise SimulationError(f"{store.directory}: {error}; {store.resume_hint()}") from error


def _run_here(
    graph: Graph, store: SimulationStore, work: Work, progress: "_Progress", num_signals: Callable[[], int]
) -> None:
    interruption: list[BaseException] = []

    def should_stop() -> bool:
        try:
            progress.tick()
        except BaseException as error:  # raised again once the shard is committed
            interruption.append(error)
        return bool(interruption)

    while task := work.take():
        report = simulate_shard(graph, store, *task, should_stop, num_signals)
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
    """Counts of the simulations on disk, and the limit on invalid ones."""

    def __init__(
        self,
        graph: Graph,
        store: SimulationStore,
        num_simulations: int,
        max_invalid_fraction: float,
        on_progress: OnProgress | None,
    ) -> None:
        self._graph = graph
        self._store = store
        self._num_simulations = num_simulations
        self._max_invalid_fraction = max_invalid_fraction
        self._on_progress = on_progress
        self._failures: dict[int, Failure] = {}  # failures of this attempt, by index
        num_valid, self._num_invalid = store.counts(num_simulations)
        self._num_done = num_valid + self._num_invalid
        self._check()

    def add(self, report: Report) -> None:
        """Count a committed range; raise `SimulationError` once too many simulations are invalid."""
        self._num_done += report.stop - report.start
        self._num_invalid += report.num_invalid
        self._failures |= {failure.index: failure for failure in report.failures}
        self._check()

    def tick(self) -> None:
        """Call `on_progress` with the current counts."""
        if self._on_progress:
            self._on_progress(self._num_done, self._num_invalid)

    def _check(self) -> None:
        """Raise `SimulationError` at the same simulation with the same text, independent of order and attempts."""
        limit = int(self._max_invalid_fraction * self._num_simulations)
        if self._num_invalid <= limit:
            return
        missing = self._store.missing(self._num_simulations)
        invalid = self._store.invalid(missing[0][0] if missing else self._num_simulations)
        if len(invalid) <= limit:  # `invalid` only covers the simulations before the first missing one
            return
        failures = [self._failure(index) for index in invalid[:_NUM_SHOWN].tolist()]
        shown = "; ".join(f"simulation {f.index}, node {f.node}: {f.message}" for f in failures if f)
        raise SimulationError(
            f"simulation.max_invalid_fraction={self._max_invalid_fraction}: {limit + 1} of the first "
            f"{invalid[limit] + 1} of {self._num_simulations} simulations are invalid; fix the simulator and start a "
            "new run, or raise this" + (f"\nFirst failures: {shown}" if shown else "")
        )

    def _failure(self, index: int) -> Failure | None:
        """Return why a simulation is invalid, drawing it again if an earlier attempt simulated it."""
        if index not in self._failures:
            return next(iter(simulate_block(self._graph, self._store.seed, index, index + 1).failures), None)
        return self._failures[index]


def _num_workers(workers: int | str) -> int:
    return len(os.sched_getaffinity(0)) if workers == "auto" else int(workers)
