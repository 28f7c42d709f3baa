"""The figures of a report: once drawn, no text overlaps another."""

import itertools

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import StepPatch

from framework.graph.layout import layout_of
from framework.inference.figures import loss_figure
from framework.inference.figures_calibration import recovery_figure, sbc_figure
from framework.inference.figures_corner import corner_figure
from framework.inference.figures_predictive import predictive_figure

EPOCHS = np.arange(60)
SCHEDULES = {
    "constant": np.full(60, 5e-4),
    "constant, one epoch": np.full(1, 1.2345e-4),
    "plateau, halved once": 5e-4 * 0.5 ** (EPOCHS // 40),
    "plateau, halved three times": 5e-4 * 0.5 ** np.minimum(EPOCHS // 15, 3),
    "plateau, a tenth twice": 1e-3 * 0.1 ** (EPOCHS // 25),
    "exponential": 5e-4 * 0.95**EPOCHS,
    "exponential, slowly": 5e-4 * 0.998**EPOCHS,
    "exponential, to almost nothing": 1e-2 * 0.6**EPOCHS,
    "cosine": 5e-4 * (1 + np.cos(np.pi * EPOCHS / 60)) / 2,
    "to zero": np.append(np.full(59, 1e-3), 0.0),
    "unknown": np.full(60, np.nan),
}


def history(rates):
    return [
        {"epoch": i + 1, "step": i, "train_loss": 3 / (i + 1), "val_loss": 3.3 / (i + 1), "lr": float(rate)}
        for i, rate in enumerate(rates)
    ]


def drawn(figure):
    FigureCanvasAgg(figure).draw()
    return figure


def boxes(texts):
    return [text.get_window_extent() for text in texts if text.get_text() and text.get_visible()]


def overlaps(texts):
    return [pair for pair in itertools.combinations(boxes(texts), 2) if pair[0].overlaps(pair[1])]


def tick_labels(axis):
    low, high = sorted(axis.get_view_interval())
    ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
    return [tick.label1 for tick in ticks if low <= tick.get_loc() <= high]


# --- training ---


@pytest.mark.parametrize("rates", SCHEDULES.values(), ids=SCHEDULES)
def test_no_tick_label_of_the_loss_figure_lies_on_another(rates):
    for axes in drawn(loss_figure(history(rates), len(rates), "z: training")).axes:
        assert not overlaps(tick_labels(axes.yaxis) + tick_labels(axes.xaxis))


@pytest.mark.parametrize(
    ("schedule", "labels"),
    [
        ("constant", ["0.0005"]),
        ("plateau, halved once", ["0.00025", "0.0005"]),
        ("plateau, halved three times", ["6.25e-05", "0.0005"]),
        ("to zero", ["0", "0.001"]),
    ],
)
def test_the_learning_rate_is_labelled_at_its_lowest_and_highest(schedule, labels):
    rate = drawn(loss_figure(history(SCHEDULES[schedule]), 60, "z: training")).axes[1]
    assert [text.get_text() for text in tick_labels(rate.yaxis) if text.get_text()] == labels


def test_epochs_are_whole_numbers_even_if_there_is_one():
    axes = drawn(loss_figure(history([1e-3]), 1, "z: training")).axes[1]
    assert [text.get_text() for text in tick_labels(axes.xaxis)] == ["1"]


def test_other_simulations_are_marked_and_the_best_loss_is_that_on_the_new_ones():
    records = history(np.full(4, 1e-3))
    records[-1]["best_loss"] = 0.5  # of the weights of epoch 2, measured again
    axes = drawn(loss_figure(records, 2, "z: training", changes=[2])).axes[0]
    labels = {line.get_label(): line.get_xdata()[0] for line in axes.lines}
    assert labels["simulations changed"] == 2.5
    assert labels["best: 0.5 at epoch 2"] == 2


# --- calibration ---


def sbc(names):
    ranks = np.random.default_rng(0).integers(101, size=(300, len(names)))
    return drawn(sbc_figure(ranks, 100, np.full(len(names), 0.02), names, "z: SBC ranks"))


def test_the_band_is_seen_through_no_bar_and_its_edges_are_on_top():
    band, bars, outline, *edges = [p for p in sbc(["z"]).axes[0].patches if isinstance(p, StepPatch)]
    assert band.get_fill() and bars.get_fill() and not outline.get_fill()
    assert bars.get_facecolor()[3] == 1 and bars.get_alpha() is None
    assert len(edges) == 2 and not any(edge.get_fill() for edge in edges)
    lower, upper = (edge.get_data().values for edge in edges)
    np.testing.assert_array_equal(band.get_data().values, upper)
    np.testing.assert_array_equal(band.get_data().baseline, lower)


LONG = [f"a_rather_long_name_of_parameters[{i}]" for i in range(12)]


@pytest.mark.parametrize("dim", [1, 3, 12])
def test_long_names_of_panels_keep_apart_and_keep_their_end(dim):
    rng = np.random.default_rng(0)
    theta, samples = rng.normal(size=(9, dim)), rng.normal(size=(9, 20, dim))
    for figure in (sbc(LONG[:dim]), drawn(recovery_figure(theta, samples, LONG[:dim], "z: recovery"))):
        titles = [axes.title for axes in figure.axes if axes.get_title()]
        assert len(titles) == min(dim, 10) and not overlaps(titles)
        assert all(f"[{i}]" in title.get_text() for i, title in enumerate(titles))


@pytest.mark.parametrize("dim", [2, 5])
def test_long_names_of_a_corner_plot_keep_apart_and_keep_their_end(dim):
    samples = 1e6 * np.random.default_rng(0).normal(size=(100, dim))
    axes = drawn(corner_figure(samples, None, LONG[:dim], "z | observation 0")).axes
    for labels in ([a.xaxis.label for a in axes[-dim:]], [a.yaxis.label for a in axes[dim::dim]]):
        assert all(f"[{dim - 1 - i}] / 1e6" in text.get_text() for i, text in enumerate(reversed(labels)))
        assert not overlaps(labels)


def test_dollars_in_a_name_are_not_mathematics():
    titles = [axes.get_title() for axes in sbc(["$\\frac{$", "price in $"]).axes]
    assert titles[0].startswith("\\$\\frac{\\$") and titles[1].startswith("price in \\$")


# --- predictions ---


@pytest.mark.parametrize(
    ("shape", "layout", "parts"),
    [
        ((1,), "numbers", (1,)),
        ((2,), "numbers", (2,)),
        ((1, 40), "numbers", (40,)),
        ((20, 2), "series", (2, 20)),
        ((3, 100), "series", (3, 100)),
        ((32, 32), "images", (1, 32, 32)),
        ((1, 32, 32), "images", (1, 32, 32)),
        ((3, 32, 48), "images", (3, 32, 48)),
        ((32, 48, 3), "images", (3, 32, 48)),
        ((8, 200), "images", (1, 8, 200)),
        ((3, 3), "flat", (9,)),
        ((3, 4, 5), "flat", (60,)),
        ((16, 16, 16), "flat", (4096,)),
    ],
)
def test_the_shape_of_an_event_says_what_it_is(shape, layout, parts):
    found, indices = layout_of(shape)
    assert (found, indices.shape) == (layout, parts)
    assert sorted(indices.reshape(-1)) == list(range(indices.size))


def test_parts_are_taken_along_the_short_axis():
    event = np.arange(40).reshape(20, 2)
    np.testing.assert_array_equal(event.reshape(-1)[layout_of((20, 2))[1]], event.T)
    event = np.arange(6 * 7 * 3).reshape(6, 7, 3)
    np.testing.assert_array_equal(event.reshape(-1)[layout_of((6, 7, 3))[1]], np.moveaxis(event, 2, 0))


def predictive(*shape, labels=(), num=40):
    samples = np.random.default_rng(0).normal(size=(num, *shape))
    observed = np.arange(np.prod(shape), dtype=float).reshape(shape)
    return samples, observed, drawn(predictive_figure(samples, observed, "x", "x: predictive", labels))


@pytest.mark.parametrize(("shape", "channels"), [((32, 32), 1), ((1, 16, 20), 1), ((3, 16, 20), 3)])
def test_an_image_is_drawn_beside_the_median_and_the_spread_of_its_predictions(shape, channels):
    samples, observed, figure = predictive(*shape)
    panels = [axes for axes in figure.axes if axes.images]
    assert len(panels) == 3 * channels and not any(axes.lines for axes in panels)
    assert [axes.get_title() for axes in panels[:3]] == ["observed", "median", "width of the 90 % interval"]
    for row in range(channels):
        first, second, third = (axes.images[0] for axes in panels[3 * row : 3 * row + 3])
        channel = observed.reshape(channels, *shape[-2:])[row]
        drawn_samples = samples.reshape(len(samples), channels, *shape[-2:])[:, row]
        low, median, high = np.quantile(drawn_samples, [0.05, 0.5, 0.95], axis=0)
        np.testing.assert_allclose(first.get_array(), channel)
        np.testing.assert_allclose(second.get_array(), median)
        np.testing.assert_allclose(third.get_array(), high - low)
        assert first.get_clim() == second.get_clim() != third.get_clim()


def test_large_images_are_thinned_and_keep_their_pixel_numbers():
    *_, figure = predictive(600, 300, num=3)
    image = figure.axes[0].images[0]
    assert image.get_array().shape == (200, 100) and image.get_extent() == [-0.5, 299.5, 599.5, -0.5]


def test_series_have_a_panel_each_and_a_line_for_the_observation():
    _, observed, figure = predictive(20, 2)
    assert [axes.get_ylabel() for axes in figure.axes] == ["x, series 0", "x, series 1"]
    np.testing.assert_array_equal(figure.axes[1].lines[1].get_ydata(), observed[:, 1])


@pytest.mark.parametrize("labels", [["mean", "spread", "skew"], ["mean count", "variance of counts", *"defghijk"]])
def test_labels_of_an_observable_stand_at_its_numbers(labels):
    *_, figure = predictive(len(labels), labels=labels)
    ticks = tick_labels(figure.axes[0].xaxis)
    assert [text.get_text() for text in ticks] == labels
    assert not overlaps(ticks) or ticks[0].get_rotation()
    *_, figure = predictive(2, labels=labels[:2])
    assert (figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()) == tuple(labels[:2])
    *_, figure = predictive(1, labels=labels[:1])
    assert figure.axes[0].get_xlabel() == labels[0]
    *_, figure = predictive(20, 2, labels=labels[:2])
    assert [axes.get_ylabel() for axes in figure.axes] == labels[:2]
    *_, figure = predictive(2, 8, 8, labels=labels[:2])
    assert [axes.get_ylabel() for axes in figure.axes[::3]] == labels[:2]


def test_an_axis_names_the_few_labels_that_fit_and_counts_others():
    *_, figure = predictive(40, labels=[f"count {i}" for i in range(40)])
    assert figure.axes[0].get_xlabel() == "index"
