"""The real command with W&B: an interrupted run is one run there; offline, the default, needs no network."""

import json
import signal

import pytest

from tests.support.command import train
from tests.support.fake_wandb import FakeWandb
from tests.support.slow_project import SlowProject

WANDB = ["tracking=[jsonl,wandb]", "tracking.wandb.mode=online"]


@pytest.fixture
def server(monkeypatch):
    fake = FakeWandb()
    monkeypatch.setenv("WANDB_BASE_URL", fake.url)
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    monkeypatch.setenv("WANDB__FILE_STREAM_TRANSMIT_INTERVAL", "1")
    yield fake
    fake.stop()


@pytest.mark.campaign
def test_an_interrupted_run_is_one_run_at_wandb_with_each_step_once_and_the_report(server, tmp_path):
    project = SlowProject(tmp_path)
    result = project.stop("training", signal.SIGTERM, *WANDB)
    assert result.returncode == 99, result.stderr
    result = project.run(*WANDB, "+resume=true")
    assert result.returncode == 0, result.stderr
    run_id = json.loads((project.run_dir / "run.json").read_text())["run_id"]
    assert list(server.history) == [run_id]
    rows = [json.loads(line) for line in (project.run_dir / "metrics.jsonl").read_text().splitlines()]
    sent = [row for row in server.rows(run_id) if "trainer/global_step" in row]
    assert [row["trainer/global_step"] for row in sent] == [row["step"] for row in rows]
    assert [row["z/val_loss"] for row in sent] == [row["val_loss"] for row in rows]
    assert {"report/z_loss", "report/z_posterior"} <= server.rows(run_id)[-1].keys()
    assert any(name.startswith("media/images/report/z_loss") for name in server.files)


def test_wandb_is_offline_by_default_and_needs_neither_login_nor_network(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:1")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    result = train("tracking=wandb", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "W&B" not in result.stdout + result.stderr
    assert len(list((tmp_path / "outputs/two_moons/wandb").glob("offline-run-*/*.wandb"))) == 1
    assert (tmp_path / "outputs/two_moons/metrics.jsonl").exists()
