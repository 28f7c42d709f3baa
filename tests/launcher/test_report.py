"""The results of a sweep: table, best run, CSV and the page."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

from framework.launcher.row import Row, _last_error
from framework.launcher.sweep_page import parallel_figure
from framework.launcher.sweep_summary import best_run, varied_keys, write_summary
from framework.rundir.run_status import RunState


def row(status="finished", loss=-1.0, reason="", by_node=None, **values):
    values = {key.replace("__", "."): str(value) for key, value in values.items()}
    name = ",".join(f"{k}={v}" for k, v in values.items())
    return Row(name, values, RunState(status), reason, 10, loss, by_node or {"z": loss}, 61.0, Path("multirun") / name)


ROWS = [row(loss=-1.0, seed=0, network="maf", n=5), row(loss=-2.5, seed=1, network="nsf", n=5)]
FAILED = row("failed", float("nan"), "out of <memory>", seed=2, network="nsf", n=5)


def test_the_best_run_is_the_finished_one_with_the_lowest_loss():
    assert best_run([*ROWS, row("stopped", -9.0, seed=3)]) is ROWS[1]
    assert best_run([FAILED]) is None


def test_only_keys_that_vary_are_shown():
    assert varied_keys([*ROWS, FAILED]) == ["network", "seed"]


def test_the_table_is_in_order_of_the_loss_and_the_csv_holds_everything(tmp_path, capsys):
    write_summary(tmp_path, [FAILED, *ROWS])
    shown = capsys.readouterr().out
    assert shown.index("-2.5000") < shown.index("-1.0000") < shown.index("failed")
    rows = list(csv.DictReader((tmp_path / "sweep.csv").open()))
    assert [r["best_loss"] for r in rows] == ["-2.5", "-1.0", "nan"]
    assert (rows[2]["state"], rows[2]["reason"], rows[2]["n"]) == ("failed", "out of <memory>", "5")


def test_the_losses_of_several_nodes_stand_beside_their_sum(tmp_path, capsys):
    write_summary(tmp_path, [row(loss=-3.5, by_node={"a": -4.0, "b": 0.5}, seed=0)])
    assert "-3.5000" in (shown := capsys.readouterr().out) and "a -4.0000, b 0.5000" in shown
    (written,) = csv.DictReader((tmp_path / "sweep.csv").open())
    assert (written["best_loss"], written["best_loss.a"], written["best_loss.b"]) == ("-3.5", "-4.0", "0.5")
    assert "a -4.0000, b 0.5000" in (tmp_path / "sweep.html").read_text()


def test_one_node_is_not_listed_twice(tmp_path, capsys):
    write_summary(tmp_path, ROWS)
    assert "by node" not in capsys.readouterr().out + (tmp_path / "sweep.html").read_text()
    assert "best_loss.z" not in (tmp_path / "sweep.csv").read_text()


def test_the_page_needs_no_other_file_and_escapes_what_it_shows(tmp_path):
    write_summary(tmp_path, [FAILED, *ROWS])
    page = (tmp_path / "sweep.html").read_text()
    assert "data:image/svg+xml;base64," in page
    assert "http" not in page
    assert "out of &lt;memory&gt;" in page
    assert "<strong>seed=1,network=nsf,n=5</strong>" in page


def test_a_sweep_without_a_finished_run_has_a_page_without_a_picture(tmp_path):
    write_summary(tmp_path, [FAILED])
    assert "<img" not in (tmp_path / "sweep.html").read_text()


def test_each_run_is_one_line_over_an_axis_for_each_key_and_one_for_the_loss():
    figure = parallel_figure([["32", "maf"], ["64", "nsf"], ["128", "nsf"]], ["dim", "network"], [0.5, -1.0, 2.0])
    lines = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 3]
    heights = {tuple(line.get_ydata()) for line in lines}
    assert heights == {(0.0, 0.25, 0.5), (1 / 3, 0.75, 0.0), (1.0, 0.75, 1.0)}
    assert lines[-1].get_ydata()[2] == pytest.approx(0.0)  # the best is drawn last


def test_a_key_with_one_value_and_equal_losses_are_drawn_in_the_middle():
    figure = parallel_figure([["1"], ["1"]], ["seed"], [3.0, 3.0])
    assert {tuple(line.get_ydata()) for line in figure.axes[0].lines if list(line.get_xdata()) == [0, 1]} == {
        (0.5, 0.5)
    }


def test_a_launcher_waits_for_its_jobs_without_torch():
    modules = ("sweep", "slurm_executor", "local_executor", "sweep_page", "sweep_summary")
    imports = "; ".join(f"import framework.launcher.{module}" for module in modules)
    subprocess.run([sys.executable, "-c", f"{imports}; import sys; assert 'torch' not in sys.modules"], check=True)


def test_the_files_of_a_sweep_are_not_written_through_links(tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("precious")
    for name in ("sweep.tmp", "sweep.csv", "sweep.html"):
        (tmp_path / name).symlink_to(precious)
    write_summary(tmp_path, ROWS)
    assert precious.read_text() == "precious" and "<html" in (tmp_path / "sweep.html").read_text()
    assert len(list(csv.DictReader((tmp_path / "sweep.csv").open()))) == 2


def test_of_a_log_only_the_end_is_read_and_nothing_through_a_link(tmp_path):
    log = tmp_path / "7.out"
    log.write_text("x" * 10**6 + "\n✗ early\n" + "y" * 30_000 + "\n✗ late\nsubmitit INFO\n")
    assert _last_error(log) == "late"
    (tmp_path / "link").symlink_to(log)
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "link", tmp_path / "pipe", tmp_path, tmp_path / "none", Path("a\0b"), Path("/dev/zero")):
        assert _last_error(path) == ""
