"""What `framework/compat/hydra.py` expects of Hydra's loader, jobs and messages."""

import os
import sys
from argparse import ArgumentParser

import hydra
import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.utils import get_object
from omegaconf import OmegaConf

from framework.compat import hydra as compat

CONFIG = "defaults: [_self_, network: nsf, own]\nnum_epochs: 3\n"
OWN = "# @package _global_\nnetwork: {width: 7}\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "network").mkdir()
    (tmp_path / "network/nsf.yaml").write_text("name: nsf\n")
    (tmp_path / "network/maf.yaml").write_text("name: maf\n")
    (tmp_path / "config.yaml").write_text(CONFIG)
    (tmp_path / "own.yaml").write_text(OWN)
    return tmp_path


def composed(folder, *overrides):
    with initialize_config_dir(str(folder), version_base="1.3"):
        return compose("config", overrides=list(overrides), return_hydra_config=True)


def test_files_are_edited_before_they_are_merged(folder, monkeypatch):
    """If this fails, an experiment's own block is merged into what the command line chooses instead of replaced.

    Look for where Hydra's `ConfigLoaderImpl` loads the files of a defaults list now, and call `edit` there.
    """
    seen = []

    def edit(files, chosen):
        seen.append((len(files), chosen))
        files[chosen["network"]].network.name = "edited"

    monkeypatch.setattr("hydra._internal.hydra.ConfigLoaderImpl", None)  # put back afterwards
    compat.edit_files_before_merging(edit)
    config = composed(folder, "network=maf")
    assert config.network == {"name": "edited", "width": 7}
    ((number, chosen),) = [(number, chosen) for number, chosen in seen if chosen]
    assert number >= 3 and chosen.keys() == {"network"}


def test_groups_are_known_and_values_are_applied_as_hydra_does(folder):
    """If this fails, `SweepLoader` cannot compose without reading files: have it call Hydra's loader for every job."""
    with initialize_config_dir(str(folder), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        assert compat.has_group(loader, "network") and not compat.has_group(loader, "num_epochs")
        overrides = OverridesParser.create(config_loader=loader).parse_overrides(["num_epochs=5", "+loop.x=[1]"])
        config = composed_within(overrides=[])
        compat.apply_values(overrides, config)
        whole = composed_within(overrides=["num_epochs=5", "+loop.x=[1]"])
    assert (config.num_epochs, config.loop.x) == (5, [1])
    assert compat.override_dirname(overrides, whole) == whole.hydra.job.override_dirname == "+loop.x=[1],num_epochs=5"


def composed_within(overrides):
    return compose("config", overrides=overrides, return_hydra_config=True)


def test_interpolations_of_hydra_refer_to_the_current_config():
    """If this fails, the run directories of a sweep are those of its first job: see how `HydraConfig` is set now."""
    before = HydraConfig.instance().cfg
    config = OmegaConf.create({"hydra": {"job": {"num": 3}}, "name": "${hydra:job.num}"})
    with compat.current_config(config):
        assert config.name == 3
    assert HydraConfig.instance().cfg is before


def test_a_task_is_run_in_its_directory_and_its_error_is_raised(folder, tmp_path):
    """If this fails, see how Hydra's own launcher (`hydra/_internal/core_plugins`) runs a job now."""
    config = composed(folder)
    OmegaConf.set_readonly(config, False)
    OmegaConf.set_struct(config, False)
    config.hydra.job.name = "canary"
    config.hydra.runtime.output_dir = str(tmp_path / "run")
    config.hydra.output_subdir = None
    config.hydra.job_logging = config.hydra.hydra_logging = {
        "version": 1,
        "root": None,
        "disable_existing_loggers": False,
    }
    compat.run_task(lambda cfg: None, config)
    assert (tmp_path / "run").is_dir()

    def fail(cfg):
        raise LookupError(f"after {cfg.num_epochs}")

    with pytest.raises(LookupError, match="after 3"):
        compat.run_task(fail, config)


def test_the_error_of_a_job_is_read_and_not_raised(capsys):
    """If this fails, catch what `JobReturn.return_value` raises instead, and keep it from printing."""
    returned = JobReturn(overrides=["seed=1"], status=JobStatus.FAILED)
    returned.return_value = LookupError("no such thing")
    assert str(compat.error_of(returned)) == "no such thing" and not capsys.readouterr().err


def message_of(folder, *overrides):
    with pytest.raises(Exception) as raised:
        composed(folder, *overrides)
    return raised.value


@pytest.mark.parametrize("override", ["num_epoch=4", "~num_epoch"])
def test_a_key_that_is_unknown_is_found_in_the_message(folder, override):
    """If this fails, `no such key; did you mean` has gone: match the new text in `unknown_key`."""
    assert compat.unknown_key(str(message_of(folder, override))) == "num_epoch"
    assert compat.unknown_key("something else") is None


def test_an_option_that_is_unknown_is_found_in_the_message_with_those_there_are(folder):
    """If this fails, `expected one of` has gone: match the new text in `unknown_option`."""
    message = str(message_of(folder, "network=spline"))
    assert compat.unknown_option(message) == ("network", "spline", ["maf", "nsf"])
    assert compat.unknown_option("something else") is None


def test_a_value_for_a_group_is_told_from_other_errors(folder):
    """If this fails, match the new text in `is_value_for_group`."""
    assert compat.is_value_for_group(message_of(folder, "network=3"))
    assert not compat.is_value_for_group(ValueError("something else"))


def test_errors_are_raised_and_wrong_options_shown_in_one_line(tmp_path, monkeypatch, capsys):
    """If this fails, Hydra has another switch than HYDRA_FULL_ERROR, or makes its parser in another way."""
    monkeypatch.setattr(ArgumentParser, "error", ArgumentParser.error)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    shown = []

    def show(message):
        shown.append(message)
        sys.exit(2)

    compat.show_option_errors(show)
    compat.raise_errors()

    @hydra.main(version_base="1.3", config_path=None)
    def main(cfg):
        raise LookupError("of the task")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["main", "--no-such-option"])
    with pytest.raises(SystemExit):
        main()
    assert "--no-such-option" in shown[0] and not capsys.readouterr().err
    assert os.environ.pop("HYDRA_FULL_ERROR") == "1"


def test_the_configuration_to_run_again_is_found_among_hydras_options():
    """If this fails, the option of Hydra has another name: see `python -m framework.train --hydra-help`."""
    arguments = ["-m", "--experimental-rerun", "config.pickle", "seed=1"]
    assert get_args_parser().parse_known_args(arguments)[0].experimental_rerun == "config.pickle"
    assert compat.rerun_of(arguments) == "config.pickle" and compat.rerun_of(["seed=1"]) is None


def test_what_cannot_be_imported_is_not_logged(caplog):
    """If this fails, Hydra logs under another name, and each misspelt `_target_` is reported twice."""
    compat.log_no_failed_imports()
    with pytest.raises(Exception, match="no_such_module"):
        get_object("no_such_module.thing")
    assert not caplog.records
