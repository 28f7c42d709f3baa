"""What the command line prints without running anything."""

import os
import subprocess
import sys
from pathlib import Path

import yaml

from tests.support.command import cold_start, environment

BIN = Path(sys.executable).parent


def test_help_lists_the_groups_and_examples(tmp_path):
    out = cold_start("framework.train", "--help", cwd=tmp_path).wait().stdout
    assert "python -m framework.train experiment=slcp network=maf seed=3" in out
    assert "network: bpf, cnf, gaussian" in out
    assert "early_stop_patience: 20" in out
    assert not list(tmp_path.iterdir())


def test_cfg_job_shows_the_complete_composed_configuration(tmp_path):
    out = cold_start("framework.train", "--cfg", "job", "experiment=slcp", "seed=3", cwd=tmp_path).wait().stdout
    config = yaml.safe_load(out)
    assert (config["name"], config["seed"]) == ("slcp", 3)
    assert config["graph"]["z"]["evidence"] == ["x"]


def test_options_may_stand_anywhere_among_the_overrides(tmp_path):
    out = cold_start("framework.train", "seed=3", "--cfg", "job", "name=other", cwd=tmp_path).wait().stdout
    assert yaml.safe_load(out)["name"] == "other"


def test_the_shell_completes_groups_options_and_keys():
    script = """
    eval "$(framework-train --shell-completion install=bash)"
    for line in "framework-train network=n" "framework-train loop.num"; do
        COMP_LINE="$line" COMP_WORDS=($line) COMP_CWORD=1 COMP_POINT=${#line}
        hydra_bash_completion
        echo "${COMPREPLY[@]}"
    done
    """
    path = f"{BIN}:{os.environ['PATH']}"
    out = subprocess.run(["bash", "-c", script], env={**environment(), "PATH": path}, capture_output=True, text=True)
    assert out.stdout.splitlines() == ["network=naf network=nice network=nsf", "loop.num_epochs="], out.stderr
