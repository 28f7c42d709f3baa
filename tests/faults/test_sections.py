"""Each call of each operation on a run directory: killed there, failed there, and with a power cut."""

import pytest

from tests.faults import sections_light, sections_run, sections_stores
from tests.faults.fault import BEFORE
from tests.faults.section import Bench, problems_of

SECTIONS = [*sections_light.SECTIONS, *sections_stores.SECTIONS, *sections_run.SECTIONS]
SUITE, CAMPAIGN = 2, 60  # points of each kind of each section
MOST_FAILURES = 1000  # of each section, even if all is asked for

pytestmark = pytest.mark.usefixtures("ptrace")

all_sections = pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.name.replace(" ", "-"))


@pytest.fixture(autouse=True)
def without_git(monkeypatch):
    """Programs count as little as what they do: attempts record the commit."""
    monkeypatch.setenv("PATH", "")


def every_point(section, directory, limit, counted):
    bench = Bench(section, directory)
    problems = []
    for what, points, do, most in [
        ("kill points", bench.kills(), bench.kill, None),
        ("failed calls", bench.failures(), bench.fail, MOST_FAILURES),
        ("power cuts", bench.cut_power(limit(1, 1, 3)), bench.start_after, None),
    ]:
        chosen = bench.sample(points, limit(SUITE, CAMPAIGN, most))
        problems += problems_of(bench, chosen, do)
        counted(what, len(chosen))
    assert not problems, f"{len(problems)} problems:\n" + "\n".join(problems[:20])


@all_sections
def test_whatever_ends_it_the_next_start_continues(section, memory_path, limit, counted):
    every_point(section, memory_path / "bench", limit, counted)


def test_a_save_that_is_killed_before_a_change_leaves_a_whole_checkpoint(memory_path, counted):
    bench = Bench(sections_stores.RESUMED, memory_path / "bench")
    changes = [fault for fault in bench.kills() if fault.when == BEFORE and bench.calls[fault.number].changes]
    points = bench.sample(changes, 60)
    cuts = bench.sample(bench.cut_power(), 40)
    counted("kill points", len(points))
    counted("power cuts", len(cuts))
    problems = problems_of(bench, points, bench.kill) + problems_of(bench, cuts, bench.start_after)
    assert not problems, "\n".join(problems[:20])


@pytest.mark.campaign
@all_sections
def test_whatever_ends_it_at_any_call_the_next_start_continues(section, memory_path, limit, counted):
    every_point(section, memory_path / "bench", limit, counted)
