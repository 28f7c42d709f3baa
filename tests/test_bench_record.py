"""Publishing benchmarks: `--record` replaces one section of their page and keeps the raw log."""

import re
import shutil
import subprocess
import sys

import pytest

from tests.support.pages import ROOT

PAGE = (ROOT / "scripts/benchmarks/README.md").read_text()
FAKE = """
import sys
print("ours / bare =", sys.argv[1], flush=True)
print("made in", __file__, file=sys.stderr)
sys.exit(int(sys.argv[2]) if len(sys.argv) > 2 else 0)
"""


@pytest.fixture
def project(tmp_path):
    """A project with two benchmarks, of which one was recorded before."""
    benchmarks = tmp_path / "scripts/benchmarks"
    benchmarks.mkdir(parents=True)
    shutil.copy(ROOT / "scripts/benchmarks/record.py", benchmarks)
    (benchmarks / "fake.py").write_text(FAKE)
    (benchmarks / "other.py").write_text(FAKE)
    (benchmarks / "README.md").write_text("# Benchmarks\n\nAbout them.\n")
    assert record(tmp_path, "other", "1.375").returncode == 0
    return tmp_path


def record(project, *arguments):
    command = [sys.executable, project / "scripts/benchmarks/record.py", *arguments, "--record"]
    return subprocess.run(command, cwd=project, capture_output=True, text=True)


def page(project):
    return (project / "scripts/benchmarks/README.md").read_text()


def test_a_section_holds_the_table_with_date_machine_versions_and_command(project):
    result = record(project, "fake", "0.97")
    assert (result.returncode, result.stdout) == (0, "ours / bare = 0.97\n")
    _, _, section = page(project).partition("## fake\n")
    assert re.search(
        r"^\d{4}-\d\d-\d\d · \d+ cores, .+ · Python 3\.\d+\.\d+, torch \d.+, zuko \d", section, re.MULTILINE
    )
    assert "    scripts/bench fake 0.97\n" in section
    assert "```\nours / bare = 0.97\n```" in section


def test_the_raw_log_holds_all_that_was_printed_and_no_path_of_the_machine(project):
    record(project, "fake", "0.97")
    (linked,) = re.findall(r"\[raw log\]\((records/[\d-]+-fake\.log)\)", page(project))
    lines = (project / "scripts/benchmarks" / linked).read_text().splitlines()
    assert lines[0] == "$ scripts/bench fake 0.97"
    assert sorted(lines[1:]) == ["made in scripts/benchmarks/fake.py", "ours / bare = 0.97"]


def test_recording_again_replaces_the_section_and_leaves_the_others(project):
    record(project, "fake", "0.97")
    before = page(project)
    record(project, "other", "1.25")
    assert page(project) == before.replace("1.375", "1.25")
    assert page(project).startswith("# Benchmarks\n\nAbout them.\n\n## other\n")


def test_a_benchmark_that_fails_records_nothing(project):
    before = page(project)
    result = record(project, "fake", "0.97", "3")
    assert result.returncode == 3
    assert page(project) == before
    assert not list((project / "scripts/benchmarks/records").glob("*fake*"))


def test_every_benchmark_that_the_command_lists_is_a_file_and_on_the_page():
    listed = re.findall(r"^#   scripts/bench (\w+)  ", (ROOT / "scripts/bench").read_text(), re.MULTILINE)
    assert len(listed) == 5
    for name in listed:
        assert (ROOT / f"scripts/benchmarks/{name}.py").is_file()
        assert f"    scripts/bench {name} " in PAGE


def test_every_log_that_the_page_links_to_is_there():
    for log in re.findall(r"\]\((records/.+?)\)", PAGE):
        assert (ROOT / "scripts/benchmarks" / log).is_file()
