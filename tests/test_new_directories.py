"""Directories made for a command that fails are removed again."""

import pytest

from framework.errors import ConfigError
from framework.new_directories import NewDirectories, refuse_links


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Return directories that are noted as new, and made."""
    monkeypatch.chdir(tmp_path)
    new = NewDirectories(tmp_path / "outputs/mine", ".hydra")
    (tmp_path / "outputs/mine/.hydra").mkdir(parents=True)
    return new


def test_what_is_empty_goes_and_what_hydra_has_written_with_it(made, tmp_path):
    for name in ("train.log", "multirun.yaml", ".hydra/config.yaml", ".hydra/overrides.yaml"):
        (tmp_path / "outputs/mine" / name).touch()
    made.remove_if_unused()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["config.yaml", "run.json", "lease/000001.json", "notes.txt"])
def test_what_a_run_has_written_stays_with_all_the_rest(made, tmp_path, name):
    path = tmp_path / "outputs/mine" / name
    path.parent.mkdir(exist_ok=True)
    path.touch()
    (tmp_path / "outputs/mine/train.log").touch()
    made.remove_if_unused()
    assert path.exists() and (tmp_path / "outputs/mine/train.log").exists()


def test_what_was_there_before_stays(tmp_path):
    (tmp_path / "outputs").mkdir()
    new = NewDirectories(tmp_path / "outputs/mine")
    (tmp_path / "outputs/mine").mkdir()
    new.remove_if_unused()
    assert [path.name for path in tmp_path.iterdir()] == ["outputs"]
    NewDirectories(tmp_path / "outputs").remove_if_unused()
    assert (tmp_path / "outputs").is_dir()


@pytest.mark.parametrize(
    "name", ["train.log", ".hydra", ".hydra/hydra.yaml", "config.yaml", "metrics.jsonl", "multirun.yaml", "jobs"]
)
def test_a_file_that_would_be_written_through_a_link_is_refused(tmp_path, name):
    refuse_links(tmp_path / "new", "train", ".hydra")
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=f"{path}: is a link, .*remove it"):
        refuse_links(tmp_path, "train", ".hydra")


def test_the_way_to_a_directory_may_have_links(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    refuse_links(tmp_path / "link", "train", None)
