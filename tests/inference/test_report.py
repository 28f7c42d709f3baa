"""The report: its figures, its numbers and the page, also for degenerate posteriors."""

import json
import os
import re
from dataclasses import replace
from html.parser import HTMLParser

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot

from framework.inference.figures_corner import corner_figure
from framework.inference.information import InformationGain
from framework.inference.report import NodeReport, PredictiveReport, write_report

pytestmark = pytest.mark.filterwarnings("error")


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def history(num_epochs=3):
    return [
        {"epoch": i, "step": 10 * i, "train_loss": 1 / i, "val_loss": 1.1 / i, "lr": 1e-3}
        for i in range(1, num_epochs + 1)
    ]


def node_report(name="z", dim=2, num_observations=1, **changes):
    values = {
        "name": name,
        "history": [],
        "best_epoch": 3,
        "samples": normal(num_observations, 200, dim).astype(np.float32),
        "truth": np.zeros((num_observations, dim), dtype=np.float32),
    }
    return NodeReport(**values | changes)


def calibrated(dim=2):
    return {
        "calibration_theta": normal(60, dim, seed=1),
        "calibration_samples": normal(60, 50, dim, seed=2),
        "information_gain": InformationGain(1.25, 0.034),
    }


def predictive_report(*event_shape, name="x", num_observations=1):
    samples = normal(num_observations, 50, *event_shape).astype(np.float32)
    return PredictiveReport(name, samples, np.zeros((num_observations, *event_shape), dtype=np.float32))


def report_of(report_dir, *nodes, predictive=(), title="a title", run_info=None):
    return write_report(report_dir, title=title, run_info=run_info or {"seed": "0"}, nodes=nodes, predictive=predictive)


def summary_of(report_dir):
    return json.loads((report_dir / "summary.json").read_text())


class Page(HTMLParser):
    """Collects what an HTML page refers to, its tags, ids and text."""

    def __init__(self, path):
        super().__init__()
        self.references, self.tags, self.ids, self.text = [], [], [], ""
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.references += [value for key, value in attrs if key in ("src", "href", "srcset")]
        self.ids += [value for key, value in attrs if key == "id"]

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def report_dir(tmp_path_factory):
    """Return the directory of one report that has everything; its tests only read it."""
    node = node_report(history=history(), **calibrated())
    return report_of(tmp_path_factory.mktemp("report"), node, predictive=[predictive_report(5)]).parent


def test_report_writes_the_figures_the_numbers_and_the_page(report_dir):
    figures = ["loss", "corner_0", "sbc", "tarp", "recovery"]
    expected = {f"z_{figure}.png" for figure in figures} | {"x_predictive_0.png", "summary.json", "report.html"}
    assert {file.name for file in report_dir.iterdir()} == expected
    for file in report_dir.glob("*.png"):
        assert file.read_bytes().startswith(b"\x89PNG")
        assert file.stat().st_size < 300_000


def test_page_needs_no_other_file_and_no_network(report_dir):
    page = Page(report_dir / "report.html")
    assert page.tags.count("img") == 6
    assert all(reference.startswith(("data:", "#")) for reference in page.references)
    assert "script" not in page.tags
    assert not re.search(r"https?://|url\(|@import", page.source)


def test_page_has_the_run_info_and_escapes_what_users_write(tmp_path):
    run_info = {"command": "train 'name=<script>alert(1)</script>'", "a & b": "$x$ <i>"}
    node = node_report(name="<b>z</b>$_{")
    page = Page(report_of(tmp_path, node, title="<img src=http://x>", run_info=run_info))
    assert not {"script", "b", "i"} & set(page.tags)
    assert all(text in page.text for text in (*run_info, *run_info.values(), "<img src=http://x>", "<b>z</b>$_{[1]"))


def test_file_names_stay_in_the_report_directory(tmp_path):
    report_of(tmp_path / "report", node_report(name="../z", dim=1))
    assert {file.name for file in tmp_path.iterdir()} == {"report"}
    assert (tmp_path / "report" / "_z_loss.png").exists()


def test_contents_list_every_node_once_there_are_two(tmp_path):
    nodes = [node_report(name, num_observations=0) for name in ("z", "w")]
    one = Page(report_of(tmp_path / "one", nodes[0], predictive=[predictive_report(1)]))
    two = Page(report_of(tmp_path / "two", *nodes, predictive=[predictive_report(1)]))
    links = {reference[1:] for reference in two.references if reference.startswith("#")}
    assert "nav" not in one.tags
    assert links == {"node-1", "node-2", "predictive-1"} <= set(two.ids)


def test_of_many_observations_the_first_five_have_figures_and_all_have_numbers(tmp_path):
    node = node_report(dim=1, num_observations=7)
    page = Page(report_of(tmp_path, node, predictive=[predictive_report(1, num_observations=7)]))
    assert len(list(tmp_path.glob("z_corner_*.png"))) == len(list(tmp_path.glob("x_predictive_*.png"))) == 5
    assert page.text.count("first 5 of 7 observations") == 2
    assert len(summary_of(tmp_path)["nodes"]["z"]["observations"]) == 7
    assert len(summary_of(tmp_path)["predictive"]["x"]) == 7


def test_summary_holds_the_numbers_of_the_page(report_dir):
    summary = summary_of(report_dir)
    node = summary["nodes"]["z"]
    assert (summary["title"], summary["facts"]) == ("a title", {"seed": "0"})
    assert (node["best_epoch"], node["information_gain"], node["num_samples"]) == (3, 1.25, 200)
    assert (node["information_gain_standard_error"], node["information_gain_note"]) == (0.034, None)
    assert node["best_val_loss"] == pytest.approx(1.1 / 3)
    assert [row["parameter"] for row in node["observations"][0]] == ["z[0]", "z[1]"]
    assert abs(node["observations"][0][1]["z_score"]) < 0.5
    assert node["calibration"]["sbc_p_values"].keys() == {"z[0]", "z[1]"}
    assert not node["calibration"]["is_suspicious"]
    assert summary["predictive"]["x"] == [{"num_finite": 50, "fraction_in_50": 1.0, "fraction_in_90": 1.0}]


@pytest.mark.parametrize(
    ("gain", "text"),
    [
        (InformationGain(7.5588, 0.1512), "7.56 ± 0.15 nats"),
        (InformationGain(-0.000312, 0.0034), "−0.0003 ± 0.0034 nats"),
        (InformationGain(312.4, 12.3), "312 ± 12 nats"),
        (InformationGain(1.5), "1.50 nats"),
        (InformationGain(1.5, 0.0), "1.50 nats"),
        (InformationGain(note="no prior is given"), "Information gain of z: no prior is given."),
        (InformationGain(0.5, 0.1, "without the 3 outside"), "Information gain of z: without the 3 outside."),
    ],
)
def test_the_information_gain_comes_with_its_error_or_the_reason_for_its_absence(tmp_path, gain, text):
    page = Page(report_of(tmp_path, node_report(num_observations=0, information_gain=gain)))
    assert text in page.text
    assert ("Information gain of z" in page.text) is (gain.note is not None)


def test_an_overconfident_posterior_is_called_miscalibrated(tmp_path):
    node = node_report(dim=1, **calibrated(1) | {"calibration_samples": 0.1 * normal(60, 50, 1)})
    assert "no sign of miscalibration" not in Page(report_of(tmp_path, node)).text
    assert summary_of(tmp_path)["nodes"]["z"]["calibration"]["is_suspicious"]


def test_one_parameter_has_the_name_of_its_node():
    assert node_report(dim=1).parameter_names == ["z"]


def test_labels_are_the_names_of_the_parameters_everywhere(tmp_path):
    labels = ["rate", "half-life <$_{s}>"]
    node = node_report(labels=labels, **calibrated())
    page = Page(report_of(tmp_path, node, predictive=[replace(predictive_report(2), labels=["mean", "spread"])]))
    assert all(label in page.text for label in labels) and "z[0]" not in page.text
    named = (tmp_path / "x_predictive_0.png").read_bytes()
    report_of(tmp_path, node, predictive=[predictive_report(2)])
    assert (tmp_path / "x_predictive_0.png").read_bytes() != named
    numbers = summary_of(tmp_path)["nodes"]["z"]
    assert [row["parameter"] for row in numbers["observations"][0]] == labels
    assert list(numbers["calibration"]["sbc_p_values"]) == labels


def test_without_an_observation_the_report_is_of_training_and_calibration(tmp_path):
    node = node_report(history=history(), num_observations=0, **calibrated())
    page = Page(report_of(tmp_path, node, run_info={"observations": "none"}))
    assert "No observation: nothing was sampled" in page.text and "Corner plot" not in page.source
    assert page.tags.count("img") == len(list(tmp_path.glob("*.png"))) == 4
    assert (tmp_path / "z_sbc.png").exists()
    assert summary_of(tmp_path)["nodes"]["z"]["observations"] == []


def test_the_same_input_gives_the_same_files(tmp_path):
    node = node_report(dim=1, **calibrated(dim=1))
    first, second = report_of(tmp_path / "first", node), report_of(tmp_path / "second", node)
    assert first.read_bytes() == second.read_bytes()


def test_a_second_report_replaces_the_first(tmp_path):
    report_of(tmp_path, node_report(dim=1), title="the first")
    page = Page(report_of(tmp_path, node_report(dim=1), title="the second"))
    assert "the second" in page.text
    assert "the first" not in page.text
    assert not list(tmp_path.glob("*.tmp"))


def test_nothing_of_matplotlib_is_changed_for_others(tmp_path):
    before = dict(matplotlib.rcParams)
    report_of(tmp_path, node_report())
    assert dict(matplotlib.rcParams) == before
    assert pyplot.get_fignums() == []


def constant(value=0.3):
    return {
        "samples": np.full((1, 200, 2), value),
        "calibration_theta": np.full((60, 2), value),
        "calibration_samples": np.full((60, 50, 2), value),
    }


def half_fixed():
    values = calibrated() | {"samples": normal(1, 200, 2)}
    for key in ("samples", "calibration_theta", "calibration_samples"):
        values[key][..., 1] = 0.3
    return values


def one_outlier():
    samples = np.zeros((1, 200, 2))
    samples[0, 0] = 1.0
    return samples


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(constant(), id="all parameters fixed"),
        pytest.param(half_fixed(), id="one parameter fixed"),
        pytest.param({"samples": np.full((1, 200, 2), np.nan)}, id="all samples NaN"),
        pytest.param({"samples": np.zeros((1, 0, 2))}, id="no samples"),
        pytest.param({"samples": normal(1, 25, 2)}, id="few samples"),
        pytest.param({"samples": normal(1, 200, 2).round()}, id="discrete samples"),
        pytest.param({"samples": one_outlier()}, id="all samples but one equal"),
        pytest.param({"samples": 1e-20 * normal(1, 200, 2)}, id="tiny values"),
        pytest.param({"samples": 1e20 * normal(1, 200, 2)}, id="huge values"),
        pytest.param({"truth": None}, id="no truth"),
        pytest.param({"truth": np.array([[np.nan, 1e6]])}, id="truth unknown and far away"),
        pytest.param({"history": history(1), "best_epoch": 1}, id="one epoch"),
        pytest.param({"history": [history(1)[0] | {"val_loss": None, "lr": None}]}, id="no validation"),
        pytest.param({"history": [history(1)[0] | {"train_loss": np.inf, "val_loss": np.nan}]}, id="infinite loss"),
        pytest.param({"calibration_samples": np.full((60, 50, 2), np.nan)}, id="NaN calibration samples"),
        pytest.param(calibrated() | {"calibration_theta": np.zeros((0, 2))}, id="no calibration simulations"),
    ],
)
def test_degenerate_nodes_have_a_report_and_valid_numbers(tmp_path, changes):
    values = {"calibration_theta": normal(60, 2)}
    report_of(tmp_path, node_report(**values | changes))
    assert (tmp_path / "z_corner_0.png").exists()
    assert "NaN" not in (tmp_path / "summary.json").read_text()


def test_more_parameters_than_fit_are_cut_with_a_note():
    names = [f"z[{i}]" for i in range(11)]
    figure = corner_figure(normal(200, 11), truth=None, names=names, title="z")
    assert len(figure.axes) == 10 * 10
    assert figure.legends[0].get_title().get_text() == "the first 10 of 11 parameters"


@pytest.mark.parametrize("event_shape", [(1,), (2,), (3,), (200,), (20, 2), (3, 4, 5), (70, 70)])
def test_predictions_of_any_shape_have_a_figure(tmp_path, event_shape):
    report_of(tmp_path, predictive=[predictive_report(*event_shape)])
    assert (tmp_path / "x_predictive_0.png").exists()


@pytest.mark.parametrize("value", [0.0, np.nan])
@pytest.mark.parametrize("event_shape", [(1,), (2,), (5,)])
def test_equal_and_missing_predictions_have_a_figure(tmp_path, event_shape, value):
    observed = np.ones((1, *event_shape))
    predictive = PredictiveReport("x", np.full((1, 10, *event_shape), value), observed)
    report_of(tmp_path, predictive=[predictive])
    assert (tmp_path / "x_predictive_0.png").exists()
    assert "NaN" not in (tmp_path / "summary.json").read_text()


def test_nothing_is_written_through_a_link_and_no_rest_of_a_killed_write_stays(tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (tmp_path / "report").mkdir()
    for name in ("report.html.tmp", "report.html", "summary.json.tmp", "summary.json", "z_loss.png"):
        (tmp_path / "report" / name).symlink_to(precious)
    (tmp_path / "report/.report.html.0123456789abcdef.tmp").write_text("half")
    page = report_of(tmp_path / "report", node_report())
    assert precious.read_text() == "precious"
    assert page.read_text().startswith("<!") and summary_of(tmp_path / "report")["title"] == "a title"
    assert not list((tmp_path / "report").glob(".*"))


def test_a_report_is_durable(tmp_path, monkeypatch):
    synced = set()
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.add(os.fstat(descriptor).st_ino))
    report_of(tmp_path / "report", node_report())
    assert {path.stat().st_ino for path in [tmp_path, *tmp_path.rglob("*")]} <= synced
