"""The bundled experiments: simulators against exact answers, and the configuration."""

import inspect
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from experiments import make_observations
from experiments.gaussian_linear import simulator as gaussian_linear
from experiments.gaussian_mixture import simulator as gaussian_mixture
from experiments.lotka_volterra import simulator as lotka_volterra
from experiments.signal_chain import simulator as signal_chain
from experiments.sir import simulator as sir
from experiments.slcp import simulator as slcp
from experiments.two_moons import simulator as two_moons
from framework.config.target import build
from framework.paths import BUNDLE_DIR, CONF_DIR
from framework.priors import build_prior
from framework.rng import seed_sequence, seeded

EXPERIMENTS = sorted(path.stem for path in (CONF_DIR / "experiment").glob("*.yaml"))
SHAPES = {
    "two_moons": {"z": (2,), "x": (2,)},
    "gaussian_linear": {"z": (10,), "x": (10,)},
    "gaussian_mixture": {"z": (2,), "x": (2,)},
    "slcp": {"z": (5,), "x": (8,)},
    "sir": {"z": (2,), "x": (10,)},
    "lotka_volterra": {"z": (4,), "x": (20,)},
    "signal_chain": {
        "source": (3,),
        "calibration": (2,),
        "signal": (128,),
        "response": (128,),
        "data": (128,),
        "witness": (1,),
    },
}


def draw(simulate: Callable[[torch.Tensor], torch.Tensor], theta: list[float], num_draws: int) -> torch.Tensor:
    with seeded(seed_sequence(0, "test")):
        return simulate(torch.tensor([theta]).expand(num_draws, -1))


# Configuration and bundled observations


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_target_builds(experiment):
    config = OmegaConf.to_container(OmegaConf.load(CONF_DIR / f"experiment/{experiment}.yaml"))
    assert config["name"] == experiment
    for name, prior in config["priors"].items():
        assert build_prior(prior, f"priors.{name}").dim == SHAPES[experiment][name][0]
    for name, node in config["graph"].items():
        assert {"evidence", "simulator"} & node.keys()
        if "simulator" in node:
            simulator = build(node["simulator"], f"graph.{name}.simulator")
            positional = [p for p in inspect.signature(simulator).parameters if p != "rng"]
            assert len(positional) == len(node["parents"])


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_shapes_and_no_invalid_simulation(experiment):
    values = make_observations.simulate(experiment, num_simulations=300)
    assert {name: array.shape[1:] for name, array in values.items()} == SHAPES[experiment]
    assert all(array.dtype == np.float32 and np.isfinite(array).all() for array in values.values())


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_simulations_follow_the_seed(experiment):
    first, again, other = (make_observations.simulate(experiment, 20, seed) for seed in (1, 1, 2))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not any(np.array_equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_bundled_observations_come_from_the_simulator(experiment):
    simulated = make_observations.simulate(experiment)
    with np.load(BUNDLE_DIR / "experiments" / experiment / "observations.npz") as bundled:
        for name in bundled:
            np.testing.assert_allclose(bundled[name], simulated[name], rtol=1e-4, atol=1e-5)


def test_every_folder_has_a_readme_with_the_command_to_run():
    for experiment in EXPERIMENTS:
        readme = (BUNDLE_DIR / "experiments" / experiment / "README.md").read_text()
        assert f"python -m framework.train experiment={experiment}" in readme


# The benchmark's four tasks with a simple likelihood


def test_two_moons_is_a_half_circle_of_radius_a_tenth():
    offset = draw(two_moons.simulate, [0.0, 0.0], 40_000) - torch.tensor([0.25, 0.0])
    radius, angle = offset.norm(dim=1), torch.atan2(offset[:, 1], offset[:, 0])
    assert radius.mean() == pytest.approx(0.1, abs=3e-4)
    assert radius.std() == pytest.approx(0.01, abs=3e-4)
    assert angle.abs().max() <= math.pi / 2
    assert angle.var() == pytest.approx(math.pi**2 / 12, rel=0.02)


def test_two_moons_are_moved_by_theta_and_blind_to_the_sign_of_its_sum():
    origin = draw(two_moons.simulate, [0.0, 0.0], 100)
    moved = draw(two_moons.simulate, [0.7, 0.1], 100)
    mirrored = draw(two_moons.simulate, [-0.1, -0.7], 100)
    expected = torch.tensor([-0.8, -0.6]).expand(100, 2) / math.sqrt(2)
    torch.testing.assert_close(moved - origin, expected)
    torch.testing.assert_close(mirrored, moved)


def test_gaussian_linear_has_mean_theta_and_variance_a_tenth():
    theta = torch.linspace(-1, 1, 10)
    x = draw(gaussian_linear.simulate, theta.tolist(), 40_000)
    torch.testing.assert_close(x.mean(0), theta, rtol=0, atol=0.01)
    torch.testing.assert_close(x.T.cov(), 0.1 * torch.eye(10), rtol=0, atol=0.005)


def test_gaussian_mixture_is_broad_or_narrow_in_both_dimensions_at_once():
    squared = (draw(gaussian_mixture.simulate, [3.0, -2.0], 100_000) - torch.tensor([3.0, -2.0])).square()
    assert squared.mean() == pytest.approx((1 + 0.01) / 2, rel=0.03)
    assert (squared[:, 0] * squared[:, 1]).mean() == pytest.approx((1 + 0.01**2) / 2, rel=0.05)


def test_gaussian_mixture_chooses_independently_for_every_simulation_of_a_batch():
    """As corrected in sbibm 1.1.0: before, a batch was broad or narrow as a whole."""
    for seed in range(20):
        x = make_observations.simulate("gaussian_mixture", 1000, seed)
        is_far = np.abs(x["x"] - x["z"]).max(1) > 0.4  # four times the narrow scale; nine in ten of the broad ones
        assert is_far.mean() == pytest.approx(0.5 * (1 - math.erf(0.4 / math.sqrt(2)) ** 2), abs=0.08)


def test_slcp_points_have_the_mean_and_covariance_of_theta():
    theta = [1.0, -2.0, -1.2, 0.8, 0.5]
    points = draw(slcp.simulate, theta, 50_000).reshape(-1, 4, 2)
    std_1, std_2, correlation = 1.44, 0.64, math.tanh(0.5)
    between = correlation * std_1 * std_2
    expected = torch.tensor([[std_1**2, between], [between, std_2**2]])
    torch.testing.assert_close(points.mean((0, 1)), torch.tensor([1.0, -2.0]), rtol=0, atol=0.02)
    torch.testing.assert_close(points.flatten(0, 1).T.cov(), expected, rtol=0.02, atol=0)
    assert points[:, :, 0].T.corrcoef().fill_diagonal_(0).abs().max() < 0.02, "the four points are independent"


def test_slcp_survives_a_singular_covariance():
    theta = torch.tensor([[0.0, 0.0, 0.0, 0.0, 3.0], [0.0, 0.0, 3.0, -3.0, 3.0], [0.0, 0.0, 3.0, 1e-4, -3.0]])
    factor = slcp.cholesky(theta)
    covariance = factor @ factor.transpose(1, 2)
    assert factor.isfinite().all()
    torch.testing.assert_close(covariance[0], 1e-6 * torch.eye(2))
    torch.testing.assert_close(covariance[1, 0, 1], torch.tensor(81 * math.tanh(3)))


# Differential equations


def sir_prior() -> np.ndarray:
    return make_observations.simulate("sir", num_simulations=256)["z"]


def lotka_volterra_prior() -> np.ndarray:
    return make_observations.simulate("lotka_volterra", num_simulations=256)["z"]


def test_sir_batch_agrees_with_single_solutions_to_within_one_person():
    theta = sir_prior()
    batch = sir.solve(theta, sir.SURVEY_DAYS)
    for row in range(0, 256, 16):
        single = sir.solve(theta[row : row + 1], sir.SURVEY_DAYS, rtol=1e-12)
        np.testing.assert_allclose(batch[:, row], single[:, 0], rtol=0, atol=1.0)


def test_sir_neither_loses_nor_gains_people_and_keeps_its_invariant():
    theta = sir_prior()
    susceptible, infected, recovered = sir.solve(theta, sir.SURVEY_DAYS)
    np.testing.assert_allclose(susceptible + infected + recovered, sir.POPULATION, rtol=1e-12)
    # dS/dR = -b S / (g N), so that log S + b R / (g N) stays what it was.
    contact_rate, recovery_rate = theta.astype(np.float64).T[:, :, None]
    invariant = np.log(susceptible) + contact_rate * recovered / (recovery_rate * sir.POPULATION)
    np.testing.assert_allclose(invariant, np.log(sir.POPULATION - 1), rtol=0, atol=1e-4)


def test_sir_surveys_are_binomial():
    theta = np.repeat([[0.6, 0.15]], 20_000, axis=0)
    x = sir.simulate(theta, rng=np.random.default_rng(0))
    share = sir.solve(theta[:1], sir.SURVEY_DAYS)[1, 0] / sir.POPULATION
    np.testing.assert_allclose(x.mean(0), 1000 * share, atol=0.6)
    np.testing.assert_allclose(x.var(0), 1000 * share * (1 - share), rtol=0.05, atol=0.05)


def test_lotka_volterra_batch_agrees_with_single_solutions():
    theta = lotka_volterra_prior()
    batch = lotka_volterra.solve(theta, lotka_volterra.COUNT_TIMES)
    for row in range(0, 256, 16):
        single = lotka_volterra.solve(theta[row : row + 1], lotka_volterra.COUNT_TIMES, rtol=1e-12)
        np.testing.assert_allclose(batch[:, row], single[:, 0], rtol=0, atol=1e-3)


def test_lotka_volterra_keeps_its_invariant():
    theta = lotka_volterra_prior()
    log_prey, log_predators = lotka_volterra.solve(theta, lotka_volterra.COUNT_TIMES)
    a, b, c, d = theta.astype(np.float64).T[:, :, None]
    invariant = d * np.exp(log_prey) - c * log_prey + b * np.exp(log_predators) - a * log_predators
    np.testing.assert_allclose(invariant, np.repeat(invariant[:, :1], 10, axis=1), rtol=1e-4, atol=1e-3)


def test_lotka_volterra_counts_are_lognormal_around_prey_then_predators():
    theta = np.repeat([[0.7, 0.05, 0.9, 0.05]], 20_000, axis=0)
    x = lotka_volterra.simulate(theta, rng=np.random.default_rng(0))
    clean = lotka_volterra.solve(theta[:1], lotka_volterra.COUNT_TIMES)[:, 0].ravel()
    assert clean[[0, 10]] == pytest.approx(np.log([30.0, 1.0]))
    np.testing.assert_allclose(np.log(x).mean(0), clean, rtol=0, atol=0.004)
    np.testing.assert_allclose(np.log(x).std(0), 0.1, rtol=0.03)


# Signal chain


def test_signal_is_a_damped_oscillation():
    signal = signal_chain.signal(np.array([2.0, 8.0, 0.5]))
    assert signal[3] == pytest.approx(2 * math.exp(-2 / 32), rel=1e-12), "the first crest, at a quarter of 1/8 s"
    assert signal[63] == pytest.approx(0.0, abs=1e-12), "four whole periods at 1/2 s"


def test_response_to_a_step_approaches_the_gain_with_the_lag_as_time_constant():
    step = np.ones((2, 128))
    calibration = np.array([[1.5, 0.05], [0.8, 0.2]])
    gain, lag = calibration.T[:, :, None]
    expected = gain * (1 - np.exp(-signal_chain.TIMES / lag))
    np.testing.assert_allclose(signal_chain.response(step, calibration), expected, rtol=1e-12)


def test_noise_of_data_and_witness():
    signals = np.ones((50_000, 128))
    recorded = signal_chain.data(signals, rng=np.random.default_rng(0))
    power = signal_chain.witness(2 * signals, rng=np.random.default_rng(0))
    assert recorded.std(0).mean() == pytest.approx(0.05, rel=0.01)
    assert (power.mean(), power.std()) == pytest.approx((2.0, 0.1), rel=0.01)
