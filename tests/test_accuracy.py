"""The accuracy benchmark: the classifier two-sample test against cases with a known answer."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from framework.paths import CONF_DIR


@pytest.fixture(scope="module")
def accuracy() -> ModuleType:
    pytest.importorskip("sklearn")
    path = Path(__file__).parents[1] / "scripts" / "benchmarks" / "accuracy.py"
    spec = importlib.util.spec_from_file_location("accuracy", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("shift", "expected"), [(0.0, 0.5), (1.0, 0.691), (20.0, 1.0)])
def test_c2st_is_the_best_classifiers_accuracy(accuracy, shift, expected):
    """For two unit Gaussians at distance d that is Phi(d / 2)."""
    rng = np.random.default_rng(0)
    reference, samples = rng.standard_normal((2, 1000, 2))
    samples[:, 0] += shift
    # In other units: the z-scoring takes scale and offset away.
    assert accuracy.c2st(100 * reference + 7, 100 * samples + 7) == pytest.approx(expected, abs=0.04)


def test_the_gaussian_mixture_is_compared_with_the_corrected_task(accuracy):
    """The benchmark's rerun, and not the paper's column, which is of the task before sbibm 1.1.0."""
    assert accuracy.PAPER["gaussian_mixture"] == {1_000: 0.716, 10_000: 0.615, 100_000: 0.548}
    fetch = (Path(__file__).parents[1] / "scripts" / "fetch-sbibm").read_text()
    assert 'PACKAGE = "sbibm==1.1.0"' in fetch


def test_accuracy_knows_an_experiment_for_every_task(accuracy):
    assert set(accuracy.PAPER) <= {path.stem for path in (CONF_DIR / "experiment").glob("*.yaml")}
