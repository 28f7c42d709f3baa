"""Samples and densities given any data: shapes, what they follow, and how mistakes are named."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from framework.errors import ConfigError
from framework.estimators import Estimator, EstimatorSpec
from framework.inference.node_posterior import NodePosterior
from framework.inference.posterior import Posterior
from framework.rng import seed_sequence, seeded
from tests.support.toy_training import NETWORKS

OBSERVED = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]], np.float32)
ROWS = np.array([[-3.0, 3.0], [0.0, 0.0], [5.0, -5.0]], np.float32)


def make(node, evidence_shapes, dim=2, network="gaussian"):
    return Estimator(EstimatorSpec(node, NETWORKS[network], None, dim, evidence_shapes))


@pytest.fixture(scope="module")
def joint():
    """A chain: w is inferred from x, z from x and w; they depend on both strongly."""
    with seeded(seed_sequence(3)):
        estimators = [make("w", {"x": (2,)}, dim=1), make("z", {"x": (2,), "w": (1,)})]
        for estimator in estimators:
            for weight in estimator.density.mean.parameters():
                weight.data *= 2
    return Posterior(estimators, {"x": OBSERVED}, seed=0)


@pytest.fixture
def w(joint):
    return NodePosterior(joint, "w")


@pytest.fixture
def z(joint):
    return NodePosterior(joint, "z")


def alone(evidence_shapes, dim=2, network="gaussian", observed=None):
    with seeded(seed_sequence(3)):
        return NodePosterior(Posterior([make("z", evidence_shapes, dim, network)], observed or {}, seed=0), "z")


# --- shapes ---


@pytest.mark.parametrize("as_x", [np.asarray, torch.as_tensor, np.ndarray.tolist, lambda a: {"x": a}])
def test_rows_of_x_give_samples_for_each_and_one_observation_gives_them_alone(w, as_x):
    assert w.sample(7, x=as_x(ROWS)).shape == (3, 7, 1)
    assert w.sample(7, x=as_x(ROWS[0])).shape == (7, 1)
    assert w.sample(7, x=as_x(ROWS[:1])).shape == (1, 7, 1)
    assert w.sample(7, observation=1).shape == w.sample(7).shape == (7, 1)


def test_log_prob_agrees_with_sample_in_shape_and_value(w):
    theta = w.sample(7, x=ROWS)
    log_prob = w.log_prob(theta, x=ROWS)
    assert log_prob.shape == (3, 7)
    for row in range(3):
        torch.testing.assert_close(w.log_prob(theta[row], x=ROWS[row]), log_prob[row])
    assert w.log_prob(theta[:1], x=ROWS[:1]).shape == (1, 7)


def test_the_same_thetas_are_measured_given_every_observation(w):
    theta = w.sample(7)
    log_prob = w.log_prob(theta, x=ROWS)
    assert log_prob.shape == (3, 7)
    torch.testing.assert_close(log_prob, w.log_prob(theta.expand(3, 7, 1), x=ROWS))
    assert w.log_prob(theta[0], x=ROWS).shape == (3, 1)


def test_a_theta_for_each_observation_is_one_sample_of_each(z):
    theta = torch.randn(3, 1, 2)
    log_prob = z.log_prob(theta, x={"x": ROWS, "w": np.arange(3)})
    assert log_prob.shape == (3, 1)
    alone = z.log_prob(theta[2], x={"x": ROWS[2], "w": 2})
    torch.testing.assert_close(log_prob[2], alone)


@pytest.mark.parametrize("event_shape", [(1,), (2, 3), (1, 4, 4)])
def test_observations_of_any_event_shape(event_shape):
    posterior, rows = alone({"x": event_shape}), torch.randn(3, *event_shape)
    theta = posterior.sample(5, x=rows)
    assert theta.shape == (3, 5, 2)
    assert posterior.sample(5, x=rows[0]).shape == (5, 2)
    torch.testing.assert_close(posterior.log_prob(theta, x=rows)[1], posterior.log_prob(theta[1], x=rows[1]))


def test_single_numbers_need_no_axis():
    posterior = alone({"x": (1,)}, dim=1)
    theta = posterior.sample(5, x=0.5)
    assert theta.shape == (5, 1)
    torch.testing.assert_close(theta, posterior.sample(5, x=[0.5]))
    assert posterior.sample(5, x=[0.5, 1.5, 2.5]).shape == (3, 5, 1)
    assert posterior.log_prob(theta[:, 0], x=0.5).shape == (5,)


def test_one_value_goes_with_all_rows_of_another(z):
    theta = z.sample(5, x={"x": ROWS[0], "w": [[0.0], [1.0], [2.0]]})
    assert theta.shape == (3, 5, 2)
    repeated = {"x": ROWS[:1].repeat(3, 0), "w": [[0.0], [1.0], [2.0]]}
    log_prob = z.log_prob(theta, x={"x": ROWS[0], "w": [[0.0], [1.0], [2.0]]})
    torch.testing.assert_close(log_prob, z.log_prob(theta, x=repeated))


# --- what the samples follow ---


def test_samples_of_every_row_follow_the_density_given_that_row():
    posterior = alone({"x": (2,)}, dim=1, network="nsf")
    theta = posterior.sample(2000, x=4 * ROWS)
    for row, samples in zip(4 * ROWS, theta[..., 0].numpy(), strict=True):
        grid = torch.linspace(samples.min().item() - 1, samples.max().item() + 1, 5001)
        cdf = torch.cumulative_trapezoid(posterior.log_prob(grid, x=row).exp().double(), grid.double())
        assert stats.kstest(samples, lambda t, g=grid, c=cdf: np.interp(t, g[1:], c)).pvalue > 0.001


def test_other_inferred_nodes_are_drawn_along_unless_given(z, w):
    """The mean of z moves with w, so that its samples show which w they were drawn with."""
    drawn = z.sample(4000, x={"x": ROWS})
    given = z.sample(1, x={"x": ROWS[1], "w": w.sample(1000, x=ROWS[1])})[:, 0]
    assert (drawn[1].mean(0) - given.mean(0)).abs().max() < 5 * given.std(0).max() / math.sqrt(1000)
    fixed = z.sample(1000, x={"x": ROWS, "w": 20.0})
    assert (fixed[1].mean(0) - drawn[1].mean(0)).abs().max() > 1


def test_rows_far_apart_are_not_mixed_up(z):
    x = {"x": 100 * ROWS}
    together = z.sample(500, x=x).mean(1)
    for row in range(3):
        one = z.sample(500, x={"x": x["x"][row]})
        assert (together[row] - one.mean(0)).abs().max() < 6 * one.std(0).max() / math.sqrt(500)


def test_an_observation_gives_what_x_lacks(z, w):
    from_run = z.log_prob(torch.zeros(4, 2), observation=2, x={"w": 1.0})
    torch.testing.assert_close(from_run, z.log_prob(torch.zeros(4, 2), x={"x": OBSERVED[2], "w": 1.0}))
    assert torch.equal(z.sample(5, observation=2, x={"w": 1.0}), z.sample(5, x={"x": OBSERVED[2], "w": 1.0}))


def test_the_same_arguments_give_the_same_samples_and_other_data_independent_ones():
    posterior = alone({"x": (2,)})
    for parameter in posterior.estimator.density.parameters():
        parameter.data.zero_()  # the evidence changes nothing, so that equal noise would show
    state = torch.get_rng_state()
    first, again, other = (posterior.sample(50, x=x) for x in (ROWS, ROWS, ROWS + 1e-3))
    assert torch.equal(first, again)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.isclose(first, other).any() and not torch.isclose(first[0], first[1]).any()
    assert not torch.isclose(posterior.sample(50, x=ROWS[0]), posterior.sample(50, x=ROWS[1])).any()


def test_more_samples_given_one_observation_begin_with_the_first(w):
    assert torch.equal(w.sample(30, x=ROWS[0], batch_size=10)[:20], w.sample(20, x=ROWS[0], batch_size=10))


# --- memory ---


class Counting(Estimator):
    def __init__(self, spec):
        super().__init__(spec)
        self.most = 0

    def sample(self, evidence, num_samples=1):
        theta, log_prob = super().sample(evidence, num_samples)
        self.most = max(self.most, len(theta))
        return theta, log_prob

    def log_prob(self, theta, evidence):
        self.most = max(self.most, len(theta), *map(len, evidence.values()))
        return super().log_prob(theta, evidence)


@pytest.mark.parametrize(("num_rows", "num_samples"), [(1, 95), (95, 1), (12, 7), (3, 25)])
def test_no_more_than_a_batch_is_in_memory_at_once(num_rows, num_samples):
    estimator = Counting(EstimatorSpec("z", NETWORKS["gaussian"], None, 2, {"x": (2,)}))
    posterior = NodePosterior(Posterior([estimator], {}, seed=0), "z")
    x = torch.randn(num_rows, 2)
    theta = posterior.sample(num_samples, x=x, batch_size=20)
    log_prob = posterior.log_prob(theta, x=x, batch_size=20)
    assert (theta.shape, log_prob.shape) == ((num_rows, num_samples, 2), (num_rows, num_samples))
    assert 0 < estimator.most <= 20
    torch.testing.assert_close(log_prob, posterior.log_prob(theta, x=x))


# --- mistakes ---


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (
            np.zeros(4),
            r"x\['x'\]: value has shape \(4,\), expected \(num_observations, 2\): a simulation has shape \(2,",
        ),
        (np.zeros((3, 3)), r"x\['x'\]: value has shape \(3, 3\), expected \(num_observations, 2\)"),
        (np.zeros((0, 2)), r"x\['x'\]: 0 observations"),
        ([[1.0, np.nan], [np.inf, 0.0]], r"x\['x'\]: 2 of 4 values are NaN or infinite; expected numbers only"),
        ([1e300, 0.0], r"x\['x'\]: 1 of 2 values are NaN or infinite"),
        ([[1.0, 2.0], [3.0]], r"x\['x'\]: cannot be converted to an array"),
        (["a", "b"], r"x\['x'\]=\['a', 'b'\]: expected numbers"),
        ({"y": [1.0, 2.0]}, r"x\['y'\]: not an evidence node, only x, w"),
        ({}, r"x: no value for x, evidence for w; add it, or pass observation=<number>"),
    ],
)
def test_a_mistake_in_x_is_named(w, x, message):
    for call in (lambda: w.sample(5, x=x), lambda: w.log_prob([[0.0]], x=x)):
        with pytest.raises(ConfigError, match=message):
            call()


def test_an_array_is_refused_where_it_could_be_the_value_of_several_nodes(z):
    with pytest.raises(
        ConfigError, match=r"x: a ndarray, expected a value for each evidence node, {'x': ..., 'w': ...}"
    ):
        z.sample(5, x=ROWS)


def test_numbers_of_rows_that_differ_are_refused(z):
    with pytest.raises(ConfigError, match=r"x\['w'\]: 2 observations, x\['x'\] has 3; expected the same number"):
        z.sample(5, x={"x": ROWS, "w": [[0.0], [1.0]]})


def test_the_density_needs_the_values_of_all_evidence(z):
    with pytest.raises(ConfigError, match="x: no value for w, evidence for z"):
        z.log_prob([[0.0, 0.0]], x={"x": ROWS})
    with pytest.raises(ConfigError, match="x: no value for w, evidence for z"):
        z.log_prob([[0.0, 0.0]], observation=1)


@pytest.mark.parametrize(
    ("shape", "x", "expected"),
    [
        ((4,), ROWS[0], r"\(num_samples, 2\)"),
        ((5, 3), ROWS[0], r"\(num_samples, 2\)"),
        ((3, 5, 2), ROWS[0], r"\(num_samples, 2\)"),
        ((2, 5, 2), ROWS, r"\(num_samples, 2\) or \(3, num_samples, 2\)"),
        ((), ROWS, r"\(num_samples, 2\) or \(3, num_samples, 2\)"),
    ],
)
def test_theta_of_another_shape_is_refused(shape, x, expected):
    with pytest.raises(
        ConfigError, match=rf"theta: has shape \({', '.join(map(str, shape))},?\), expected {expected}$"
    ):
        alone({"x": (2,)}).log_prob(np.zeros(shape), x=x)


@pytest.mark.parametrize("keys", [{"num_samples": 0}, {"num_samples": 5, "batch_size": 0}])
def test_numbers_below_one_are_refused(w, keys):
    with pytest.raises(ConfigError, match=r"num_samples=0|batch_size=0: expected at least 1"):
        w.sample(**keys)


@pytest.mark.parametrize("index", [3, -1])
def test_an_observation_that_is_not_there_is_refused(w, index):
    with pytest.raises(ConfigError, match=f"observation {index}: expected 0 to 2"):
        w.sample(5, observation=index)
    with pytest.raises(ConfigError, match=r"the run has no observation; give your own"):
        alone({"x": (2,)}).sample(5)


def test_observed_nodes_with_different_numbers_of_observations_are_refused(joint):
    with pytest.raises(ConfigError, match=r"numbers of observations differ: x has 3, y has 10; expected the same"):
        Posterior(list(joint.estimators.values()), {"x": OBSERVED, "y": np.zeros((10, 1))}, seed=0)
