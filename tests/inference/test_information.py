"""The information gain against the mutual information of cases where that is known."""

import math

import pytest
import torch

from framework.estimators import Estimator, EstimatorSpec
from framework.inference.information import information_gain
from framework.rng import seed_sequence, seeded
from tests.support.toy_training import NETWORKS

NUM_ROWS = 5000
NORMAL = {"_target_": "framework.priors.Normal", "mean": [1.0, -2.0, 0.0], "std": [3.0, 0.5, 1.0]}
UNIFORM = {"_target_": "framework.priors.Uniform", "low": [-1.0, 2.0], "high": [1.0, 5.0]}
LOG_UNIFORM = {"_target_": "framework.priors.LogUniform", "low": 0.1, "high": 10.0}


class WithoutDensity(torch.distributions.Normal):
    """A distribution that can only be sampled, as those of some simulators."""

    def log_prob(self, value):
        raise NotImplementedError


def make(evidence_shapes, priors, dim, network="gaussian"):
    return Estimator(EstimatorSpec("z", NETWORKS[network], None, dim, evidence_shapes, priors)).eval()


def exact(evidence, priors, theta):
    """Return the exact posterior of a linear Gaussian task: a regression, and a density that adds nothing to it."""
    estimator = make({name: value.shape[1:] for name, value in evidence.items()}, priors, theta.shape[1])
    for parameter in estimator.density.parameters():
        parameter.data.zero_()
    estimator.fit_standardisation(*estimator.prepare(theta, evidence))
    return estimator


def draw(prior, num_rows):
    return make({"x": (1,)}, {"z": prior}, dim=3).prior.sample(num_rows)


@pytest.fixture(autouse=True)
def reproducible():
    with seeded(seed_sequence(0, "information")):
        yield


@pytest.mark.parametrize("noise", [3.0, 1.0, 0.01])
def test_a_linear_gaussian_task_gains_its_mutual_information(noise):
    std = torch.tensor(NORMAL["std"])
    theta = draw(NORMAL, 4 * NUM_ROWS)
    x = theta + noise * std * torch.randn_like(theta)
    estimator = exact({"x": x}, {"z": NORMAL}, theta)
    gain = information_gain(estimator, theta[:NUM_ROWS], {"x": x[:NUM_ROWS]})
    assert gain.nats == pytest.approx(1.5 * math.log(1 + 1 / noise**2), abs=4 * gain.standard_error)
    # The log ratio of a Gaussian pair has the variance of their squared correlation, for each parameter.
    assert gain.standard_error == pytest.approx(math.sqrt(3 / (1 + noise**2) / NUM_ROWS), rel=0.05)
    assert gain.note is None


def test_evidence_of_other_nodes_counts_too():
    """Who knows the offset w in x = z + w + noise learns more of z."""
    priors = {name: {"_target_": "framework.priors.Normal", "mean": 0.0, "std": 1.0} for name in ("z", "w")}
    theta, w = torch.randn(2, 4 * NUM_ROWS, 1)
    evidence = {"x": theta + w + 0.1 * torch.randn_like(theta), "w": w}
    for names, variance in ((("x",), 1.01), (("x", "w"), 0.01)):
        given = {name: evidence[name] for name in names}
        estimator = exact(given, {"z": priors["z"], **{n: priors[n] for n in names if n in priors}}, theta)
        gain = information_gain(estimator, theta[:NUM_ROWS], {name: value[:NUM_ROWS] for name, value in given.items()})
        assert gain.nats == pytest.approx(0.5 * math.log(1 + 1 / variance), abs=4 * gain.standard_error)


@pytest.mark.parametrize(("prior", "dim"), [(NORMAL, 3), (UNIFORM, 2), (LOG_UNIFORM, 1)])
def test_pure_noise_tells_nothing(prior, dim):
    estimator = make({"x": (2,)}, {"z": prior}, dim)
    theta, x = estimator.prior.sample(NUM_ROWS), torch.randn(NUM_ROWS, 2)
    gain = information_gain(exact({"x": x}, {"z": prior}, theta), theta, {"x": x})
    assert gain.nats == pytest.approx(0, abs=0.01)


def test_a_flow_that_has_not_learned_is_not_said_to_know_anything():
    estimator = make({"x": (2,)}, {"z": UNIFORM}, 2, "nsf")
    gain = information_gain(estimator, estimator.prior.sample(NUM_ROWS), {"x": torch.randn(NUM_ROWS, 2)})
    assert gain.nats < 0


def test_fixed_parameters_add_nothing():
    fixed = {"_target_": "framework.priors.Fixed", "value": 7.0}
    both = {"_target_": "framework.priors.Product", "factors": [NORMAL, fixed]}
    theta, x = draw(NORMAL, 100), torch.randn(100, 2)
    gains = []
    for prior, values in ((NORMAL, theta), (both, torch.cat([theta, torch.full((100, 1), 7.0)], dim=1))):
        with seeded(seed_sequence(1)):
            estimator = make({"x": (2,)}, {"z": prior}, values.shape[1])
        gains.append(information_gain(estimator, values, {"x": x}))
    assert gains[0].nats == pytest.approx(gains[1].nats)


def test_a_simplex_is_measured_by_its_first_coordinates():
    prior = {"_target_": "torch.distributions.Dirichlet", "concentration": [1.0, 2.0, 3.0]}
    estimator = make({"x": (2,)}, {"z": prior}, 3)
    theta, x = estimator.prior.sample(1000), {"x": torch.randn(1000, 2)}
    u = estimator.prior.to_unconstrained(theta)  # where both densities need no convention
    prior_of_u = estimator.prior.log_prob(theta) + estimator.prior.log_abs_det(u)
    with torch.no_grad():
        expected = estimator.latent_log_prob(u, x) + estimator.log_scale() - prior_of_u
    assert information_gain(estimator, theta, x).nats == pytest.approx(expected.mean().item(), rel=1e-3)


def test_the_number_of_rows_at_once_changes_nothing():
    estimator, theta, x = make({"x": (3,)}, {"z": NORMAL}, 3), draw(NORMAL, 100), torch.randn(100, 3)
    whole, parts = (information_gain(estimator, theta, {"x": x}, batch_size) for batch_size in (100, 7))
    assert parts.nats == pytest.approx(whole.nats, rel=1e-6)


def test_simulations_outside_the_prior_are_left_out_and_counted():
    estimator = make({"x": (2,)}, {"z": UNIFORM}, 2)
    theta, x = estimator.prior.sample(100), torch.randn(100, 2)
    inside = information_gain(estimator, theta[10:], {"x": x[10:]})
    theta[:10] += 5
    gain = information_gain(estimator, theta, {"x": x})
    assert (gain.nats, gain.standard_error) == pytest.approx((inside.nats, inside.standard_error))
    assert gain.note == "without the 10 of 100 simulations not trained on that lie outside the prior"
    gain = information_gain(estimator, theta[:10], {"x": x[:10]})
    assert (gain.nats, gain.note) == (None, "none of 10 simulations not trained on lies inside the prior")


def test_one_simulation_has_no_standard_error():
    gain = information_gain(make({"x": (2,)}, {"z": NORMAL}, 3), torch.zeros(1, 3), {"x": torch.zeros(1, 2)})
    assert gain.nats is not None and gain.standard_error is None


def without_prior():
    return make({"x": (2,)}, {}, 2)


def without_density():
    return make(
        {"x": (2,)}, {"z": {"_target_": "tests.inference.test_information.WithoutDensity", "loc": 0.0, "scale": 1.0}}, 1
    )


def broken():
    estimator = make({"x": (2,)}, {"z": UNIFORM}, 2)
    next(estimator.density.parameters()).data.fill_(torch.nan)
    return estimator


@pytest.mark.parametrize(
    ("estimator", "note"),
    [
        (without_prior, "there is no prior whose density it could be compared with"),
        (without_density, "the prior does not define its density (log_prob)"),
        (broken, "the estimated density is not finite at 20 of 20 simulations not trained on"),
    ],
)
def test_where_there_is_no_number_there_is_a_reason(estimator, note):
    estimator = estimator()
    theta = torch.tensor([0.0, 3.0])[: estimator.prior.dim].repeat(20, 1)
    gain = information_gain(estimator, theta, {"x": torch.randn(20, 2)})
    assert (gain.nats, gain.standard_error, gain.note) == (None, None, note)
