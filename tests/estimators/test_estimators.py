"""Densities over the user's parameters: they integrate to one, and samples follow them."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from framework.checkpoint import CheckpointStore
from framework.errors import CheckpointError, ConfigError
from framework.estimators import Estimator, EstimatorSpec
from framework.estimators.flow import FAMILIES
from framework.estimators.weight_files import init_parameters, load_estimator, read_weights, weight_files
from framework.rng import seed_sequence, seeded

UNIFORM = {"_target_": "framework.priors.Uniform", "low": [-1.0, 2.0], "high": [1.0, 5.0]}
GAUSSIAN = {"_target_": "framework.estimators.Gaussian", "hidden_dim": 16, "num_layers": 1}


def flow(family, **keys):
    return {"_target_": "framework.estimators.Flow", "family": family, "hidden_dim": 16, "num_transforms": 2, **keys}


def make(network, prior=None, dim=2, embedding=None, seed=0):
    """Return an estimator whose weights are far from their initial near-identity."""
    priors = {} if prior is None else {"z": prior}
    with seeded(seed_sequence(seed)):
        estimator = Estimator(EstimatorSpec("z", network, embedding, dim, {"x": (3,)}, priors)).eval()
        for parameter in estimator.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
        estimator.standardize.fit(torch.randn(100, estimator.prior.latent_dim) * 0.4 + 0.3)
    return estimator


def network_of(family):
    return flow(family, num_transforms=None) if family == "CNF" else flow(family)


X = {"x": torch.tensor([[0.3, -0.7, 1.1]])}


@pytest.mark.parametrize("network", [GAUSSIAN, {**GAUSSIAN, "covariance": "conditional"}, flow("NSF"), flow("MAF")])
def test_the_density_integrates_to_one_over_the_support(network):
    estimator, n = make(network, UNIFORM), 600
    a, b = (np.linspace(low, high, n, endpoint=False) + (high - low) / n / 2 for low, high in ((-1, 1), (2, 5)))
    grid = torch.tensor(np.stack(np.meshgrid(a, b), -1).reshape(-1, 2), dtype=torch.float32)
    cell = (2 / n) * (3 / n)
    assert estimator.log_prob(grid, X).double().exp().sum().item() * cell == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(
    "prior",
    [
        {"_target_": "framework.priors.LogUniform", "low": 0.1, "high": 10.0},
        {"_target_": "framework.priors.Sine"},
        {"_target_": "torch.distributions.Gamma", "concentration": 2.0, "rate": 1.0},
    ],
)
def test_the_density_integrates_to_one_for_other_priors(prior):
    estimator = make(flow("NSF"), prior, dim=1)
    with seeded(seed_sequence(4)):
        samples, _ = estimator.sample(X, 20_000)
    low, high = samples.min().item(), samples.max().item()
    theta = torch.linspace(low, high, 200_001)[:, None]
    density = estimator.log_prob(theta, X).double().exp()
    assert torch.trapezoid(density, theta[:, 0].double()).item() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_log_density_returned_with_a_sample_is_the_density_of_that_sample(family):
    estimator = make(network_of(family), UNIFORM)
    with seeded(seed_sequence(2)):  # some families are inverted numerically, and now and then not well
        theta, log_prob = estimator.sample(X, 200)
    assert theta.shape == (200, 2)
    assert ((theta[:, 0].abs() < 1) & (theta[:, 1] > 2) & (theta[:, 1] < 5)).all()
    torch.testing.assert_close(estimator.log_prob(theta, X), log_prob, atol=0.05, rtol=0.01)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_can_learn(family):
    estimator = make(network_of(family), UNIFORM).train()
    u, evidence = torch.randn(64, 2), {"x": torch.randn(64, 3)}
    estimator.loss(u, evidence).backward()
    assert all(p.grad is not None for p in estimator.density.parameters() if p.requires_grad)


def test_samples_follow_the_density():
    estimator = make(flow("NSF"), {"_target_": "framework.priors.Uniform", "low": -1, "high": 1}, dim=1)
    with seeded(seed_sequence(1)):
        samples, _ = estimator.sample(X, 5_000)
    grid = torch.linspace(-0.99999, 0.99999, 20_001)
    cdf = torch.cumulative_trapezoid(estimator.log_prob(grid[:, None], X).double().exp(), grid.double())
    result = stats.kstest(samples[:, 0].numpy(), lambda t: np.interp(t, grid[1:], cdf))
    assert result.pvalue > 0.001


def test_outside_the_support_the_density_is_zero():
    estimator = make(GAUSSIAN, UNIFORM)
    assert estimator.log_prob(torch.tensor([[1.5, 3.0], [0.0, 6.0]]), X).tolist() == [-math.inf, -math.inf]


def test_a_gaussian_is_the_multivariate_normal_of_its_moments():
    estimator = make(GAUSSIAN)
    density = estimator.density
    mean, factor = density._moments(estimator.embedding(X))
    z = torch.randn(20, 2)
    expected = stats.multivariate_normal(mean[0].detach().numpy(), (factor @ factor.mT)[0].detach().numpy())
    actual = density.log_prob(z, estimator.embedding(X).expand(20, -1)).detach()
    np.testing.assert_allclose(actual, expected.logpdf(z.numpy()), rtol=1e-4)


def test_samples_of_one_row_of_evidence_stay_together():
    estimator = make({**GAUSSIAN, "hidden_dim": 32}, UNIFORM)
    rows = {"x": torch.tensor([[9.0, 9, 9], [-9, -9, -9]])}
    with seeded(seed_sequence(3)):
        theta, log_prob = estimator.sample(rows, 300)
    for row, part in enumerate((slice(0, 300), slice(300, 600))):
        one = {"x": rows["x"][row : row + 1]}
        torch.testing.assert_close(estimator.log_prob(theta[part], one), log_prob[part], atol=0.02, rtol=0.01)


def test_evidence_with_a_prior_is_seen_in_its_unconstrained_space():
    priors = {"z": UNIFORM, "w": {"_target_": "framework.priors.LogUniform", "low": 1e-6, "high": 1e6}}
    estimator = Estimator(EstimatorSpec("z", GAUSSIAN, None, 2, {"w": (1,)}, priors))
    _, prepared = estimator.prepare(torch.zeros(1, 2), {"w": torch.tensor([[1.0]])})
    torch.testing.assert_close(prepared["w"], torch.zeros(1, 1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("network", [GAUSSIAN, flow("NSF"), flow("MAF")])
def test_an_estimator_is_rebuilt_from_its_files_alone(network, tmp_path):
    estimator = make(network, UNIFORM, embedding={"_target_": "framework.networks.MLP", "output_dim": 4})
    files = weight_files(estimator, estimator.state_dict(), "_best")
    files["init_parameters.pth"] = init_parameters(estimator)
    generation = CheckpointStore(tmp_path).commit({f"z/{name}": content for name, content in files.items()}, {})
    theta = torch.tensor([[0.5, 3.0], [-0.2, 4.0]])
    rebuilt = load_estimator(generation, "z", estimator.spec.to_container())
    torch.testing.assert_close(rebuilt.log_prob(theta, X), estimator.log_prob(theta, X), rtol=0, atol=0)


def test_a_flow_that_was_trained_beside_a_marginal_one_is_read(tmp_path):
    estimator = make(flow("NSF"), UNIFORM)
    files = weight_files(estimator, estimator.state_dict(), "_best")
    files["marginal_flow_best.pth"] = {"density.marginal.weight": torch.zeros(2)}
    files["init_parameters.pth"] = init_parameters(estimator)
    files["init_parameters.pth"]["spec"]["network"]["marginal_every"] = 32
    generation = CheckpointStore(tmp_path).commit({f"z/{name}": content for name, content in files.items()}, {})
    rebuilt = load_estimator(generation, "z", estimator.spec.to_container())
    theta = torch.tensor([[0.5, 3.0]])
    assert torch.equal(rebuilt.log_prob(theta, X), estimator.log_prob(theta, X))


def test_weights_of_another_shape_are_named(tmp_path):
    estimator, other = make(GAUSSIAN, UNIFORM), make({**GAUSSIAN, "hidden_dim": 17}, UNIFORM)
    files = {f"z/{name}": content for name, content in weight_files(estimator, estimator.state_dict()).items()}
    generation = CheckpointStore(tmp_path).commit(files, {})
    with pytest.raises(CheckpointError, match=r"weights do not match the network: .* \(16.*\) → \(17"):
        read_weights(other, generation)


def test_a_checkpoint_cannot_choose_what_code_runs(tmp_path):
    initial = init_parameters(make(GAUSSIAN, UNIFORM))
    known = {**initial["spec"]}
    initial["spec"]["embedding"] = {"_target_": "os.system", "command": "true"}
    generation = CheckpointStore(tmp_path).commit({"z/init_parameters.pth": initial}, {})
    with pytest.raises(CheckpointError, match=r"init_parameters.pth: refused, because it names os.system"):
        load_estimator(generation, "z", known)


def test_a_flow_and_a_gaussian_write_the_documented_files():
    names = {name for n in ("NSF", "MAF") for name in weight_files(make(flow(n)), make(flow(n)).state_dict())}
    assert names == {"conditional_flow.pth", "embedding.pth"}
    assert weight_files(make(GAUSSIAN), make(GAUSSIAN).state_dict(), "_best").keys() == {"model_best.pth"}


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (flow("NSFF"), "family=NSFF: expected one of NSF, MAF"),
        ({**GAUSSIAN, "covariance": "full"}, "covariance=full: expected constant or conditional"),
        ({**GAUSSIAN, "hidden": 3}, "takes no 'hidden'.*did you mean 'hidden_dim'"),
        ({**GAUSSIAN, "standardize_x": "row"}, "standardize_x=row: expected one of independent, structured, none"),
    ],
)
def test_a_network_that_cannot_be_built_names_its_key(network, message):
    with pytest.raises(ConfigError, match=f"network.*{message}"):
        make(network, UNIFORM)
