"""The pages: they are short, their links lead somewhere, their maps are complete and their commands run as written."""

import os
import re
import shutil

import numpy as np
import pytest
import yaml

from tests.support.command import ROOT, TINY, run, warm_start
from tests.support.fake_slurm import FakeSlurm
from tests.support.pages import PAGES, anchors, code, commands, section, sections, text_of, without_code

MAPS = [page for page in PAGES if "Files" in sections(page)]
LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)")
FIGURE = re.compile(r"`(.+?)` \|$", re.MULTILINE)


def test_the_readme_fits_on_150_lines():
    assert len(text_of("README.md").splitlines()) <= 150


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_file_and_a_heading(page):
    for target, anchor in LINK.findall(without_code(text_of(page))):
        path = ((ROOT / page).parent / target).resolve() if target else ROOT / page
        assert path.exists(), f"{page}: {target}"
        assert not anchor or anchor in anchors(path.relative_to(ROOT)), f"{page}: {target}#{anchor}"


def test_every_page_can_be_reached_from_the_readme():
    reached, new = set(), {"README.md"}
    while new:
        page = new.pop()
        reached.add(page)
        paths = [((ROOT / page).parent / target).resolve() for target, _ in LINK.findall(without_code(text_of(page)))]
        new |= {str(path.relative_to(ROOT)) for path in paths if path.suffix == ".md"} - reached
    assert reached >= set(PAGES)


# --- maps ---


@pytest.mark.parametrize("page", MAPS)
def test_the_map_lists_exactly_the_files(page):
    folder = (ROOT / page).parent
    found = [p for pattern in ("*.py", "*.jinja") for p in folder.rglob(pattern) if p.name != "__init__.py"]
    files = {str(path.relative_to(folder)) for path in found if "__pycache__" not in path.parts}
    listed = re.findall(r"^\| `([\w./]+)` \|", section(page, "Files"), re.MULTILINE)
    whole = [name for name in listed if name.endswith("/")]  # a folder with all that is in it
    files = {next((name for name in whole if file.startswith(name)), file) for file in files}
    gone = sorted(set(listed) - files)
    missing = [f"| `{name}` | {first_line(folder / name)} |" for name in sorted(files - set(listed))]
    assert not gone and not missing, "\n".join([f"{page}: under ## Files delete {gone} and add", *missing])
    assert len(listed) == len(set(listed))


def first_line(path):
    text = path.read_text() if path.is_file() else ""
    return text.split('"""')[1].splitlines()[0].rstrip(".") if '"""' in text else "..."


def test_the_packages_with_much_to_explain_have_a_page_with_a_map():
    packages = ["runtime", "checkpoint", "resume", "launcher", "inference"]
    expected = {"experiments/README.md", "framework/README.md", *(f"framework/{name}/README.md" for name in packages)}
    assert expected <= set(MAPS)


# --- the check ---


def test_before_a_commit_the_whole_check_is_run():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    ((hook,),) = (repository["hooks"] for repository in config["repos"])
    assert (hook["entry"], hook["pass_filenames"]) == ("scripts/check", False)
    assert os.access(ROOT / hook["entry"], os.X_OK)
    assert {"python", "toml"} <= set(hook["types_or"])


# --- figures ---


def test_the_figures_of_the_readme_are_those_of_the_published_tables():
    figures, tables = FIGURE.findall(section("README.md", "Speed")), text_of("scripts/benchmarks/README.md")
    assert len(figures) == 3
    for figure in figures:
        name = re.split(r"[\d.]+(?: ns)?$", figure)[0]
        published = re.findall(rf"^[✓✗] ({re.escape(name)}[\d.]+(?: ns)?)", tables, re.MULTILINE)
        assert figure in published, (
            f"README.md, ## Speed: `{figure}` is not in the newest table, write one of {published}"
        )


# --- commands ---

CONTRIBUTING = ".github/CONTRIBUTING.md"  # its recipes are carried out by tests/integration/test_contributing.py
TESTED_ELSEWHERE = {  # whole sections
    ("README.md", "Your own simulator"): "tests/integration/test_own_simulator.py",
    ("README.md", "First job on a cluster"): "tests/slurm/test_readme_long.py",
}
NOT_RUN = {  # programs
    "./scripts/train": "python -m framework.train in an environment that it makes; the latter needs the network",
    "./scripts/test": "this suite",
    "scripts/test": "this suite",
    "scripts/check": "tests/test_code.py",
    "pip": "tests/integration/test_wheel.py installs the package",
    "pre-commit": "test_before_a_commit_the_whole_check_is_run",
    "git": "tests/slurm/test_readme_long.py, on a copy",
    "cd": "likewise",
    "source": "likewise",
    "scripts/bench": "minutes each; tests/test_bench_record.py runs what publishes them",
    "column": "reads what tests/slurm/test_readme_long.py looks at",
}
SMALLER = {"hydra.sweeper.n_trials": "2", "hydra.sweeper.n_jobs": "2", "inference.num_samples": "200"}
REFUSES = ["optimizer.lr=3e-4"]  # framework.diff says so with its exit code
SLOW = {"framework/launcher/README.md"}  # sweeps and studies start many processes


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """What a reader of the README has by now: a finished run, and another one."""
    directory = tmp_path_factory.mktemp("pages")
    result = run("framework.train", *TINY, cwd=directory)
    assert result.returncode == 0, result.stderr
    (directory / "printed").write_text(result.stdout + result.stderr)
    shutil.copytree(directory / "outputs/two_moons", directory / "outputs/other", symlinks=True)
    np.save(directory / "new_data.npy", np.zeros(2, np.float32))
    return directory


@pytest.fixture
def folder(finished, tmp_path):
    (tmp_path / "bin").mkdir()
    return shutil.copytree(finished, tmp_path / "project", symlinks=True)


def in_small(arguments):
    """Return the arguments of framework.train so that it takes seconds; what is typed stays as far as possible."""
    typed = [argument.partition("=") for argument in arguments]
    kept = [f"{key}={SMALLER[key]}" if key in SMALLER else key + equals + value for key, equals, value in typed]
    added = [override for override in TINY if override.partition("=")[0] not in {key for key, _, _ in typed}]
    submits = "hydra/launcher=slurm" in arguments and "hydra.launcher.wait=false" not in arguments
    return [*kept, *added, *(["hydra.launcher.wait=false"] if submits else [])]


def check_command(words, folder, variables):
    """Run a command as it is written; what starts other processes with `-m` is only composed."""
    if words[0] in NOT_RUN:
        return
    assert "-m" in words, f"no test runs {' '.join(words)}"
    start = words.index("-m")
    module, arguments = words[start + 1], words[start + 2 :]
    if module == "framework.train":
        arguments = in_small(arguments) + ([] if words[0] == "python" else ["--cfg=job"])
    result = warm_start(module, *arguments, cwd=folder, **variables).wait(300)
    expected = 3 if module == "framework.diff" and set(REFUSES) & set(arguments) else 0
    assert result.returncode == expected, f"{' '.join(words)}\n{result.stdout}{result.stderr}"


# --- what the pages say that commands print ---


def words_of(text):
    """Return the lines of an output without what differs from run to run: numbers and durations."""
    return {re.sub(r"-?\d[\dms.]*", "#", line).strip() for line in text.splitlines()} - {""}


def test_the_output_of_the_default_experiment_is_as_printed(finished):
    (block,) = code(section("README.md", "Two commands"), "")
    depends = ("training z", "z: stopped early", "report:")  # on how long it trains; it is tested without a report
    quoted = {line for line in words_of(block) if not line.startswith(depends)}
    assert len(quoted) > 5
    assert quoted <= words_of((finished / "printed").read_text())


def test_the_refusal_on_the_page_is_what_the_command_prints(tmp_path):
    small = [override for override in TINY if not override.startswith(("network.", "loop."))]
    first = ["network=gaussian", "network.hidden_dim=64", "loop.num_epochs=40", "loop.early_stop_patience=null"]
    assert run("framework.train", *small, *first, cwd=tmp_path).returncode == 0
    changes = ["network.hidden_dim=128", "optimizer.lr=3e-4", "loop.num_epochs=500", "+resume=true"]
    again = warm_start("framework.train", *small, first[0], first[3], *changes, cwd=tmp_path, COLUMNS="120")
    result = again.wait(120)
    (block,) = code(text_of("framework/resume/README.md"), "")
    printed = (result.stdout + result.stderr).splitlines()
    assert result.returncode == 3
    assert not [line for line in block.splitlines() if line not in printed]


# --- commands that run ---


@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=pytest.mark.campaign) if page in SLOW else page for page in PAGES]
)
def test_every_command_of_the_page_runs_as_it_is_written(page, folder, monkeypatch):
    variables = {"PATH": FakeSlurm(folder.parent / "bin").path}  # Slurm's commands are fakes here
    monkeypatch.chdir(folder)
    for title, text in sections(page).items():
        if (page, title) in TESTED_ELSEWHERE or (page == CONTRIBUTING and title.startswith("Recipe: ")):
            continue
        for words in commands(text):
            check_command(words, folder, variables)
        for block in code(text, "python"):
            if "load_run" in block:  # the others are tested with what they are about
                exec(block, {})
