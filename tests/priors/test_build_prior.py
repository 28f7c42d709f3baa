"""Building priors from config blocks, and the errors for bad ones."""

import math

import pytest
import torch

from framework.errors import ConfigError
from framework.priors import (
    Cosine,
    Distribution,
    Fixed,
    LogNormal,
    LogUniform,
    Normal,
    PowerLaw,
    Product,
    Sine,
    Triangular,
    TruncatedNormal,
    Uniform,
    build_prior,
)


def test_priors_are_built_from_blocks():
    prior = build_prior({"_target_": "framework.priors.Uniform", "low": [-1, -1], "high": [1, 1]}, "priors.z")
    assert prior.log_prob(torch.zeros(1, 2)).item() == pytest.approx(-2 * math.log(2))


def test_products_are_built_from_nested_blocks():
    factors = [
        {"_target_": "framework.priors.Normal", "mean": 0, "std": 1},
        {"_target_": "framework.priors.Fixed", "value": 3},
        {"_target_": "torch.distributions.Gamma", "concentration": [2.0, 3.0], "rate": 1},
    ]
    prior = build_prior({"_target_": "framework.priors.Product", "factors": factors}, "priors.z")
    assert (prior.dim, prior.latent_dim) == (4, 3)


GAMMA = {"_target_": "torch.distributions.Gamma", "concentration": [2.0, 3.0], "rate": [1, 1]}


@pytest.mark.parametrize(
    ("block", "dim"),
    [
        (GAMMA, 2),
        ({"_target_": "torch.distributions.Gamma", "_args_": [2.5, [1, 2]]}, 2),
        ({"_target_": "torch.distributions.Beta", "concentration1": 2, "concentration0": 3.5}, 1),
        (
            {
                "_target_": "torch.distributions.MultivariateNormal",
                "loc": [0, 1],
                "covariance_matrix": [[1, 0.5], [0.5, 1]],
            },
            2,
        ),
        (
            {
                "_target_": "torch.distributions.MixtureSameFamily",
                "mixture_distribution": {"_target_": "torch.distributions.Categorical", "probs": [0.3, 0.7]},
                "component_distribution": {"_target_": "torch.distributions.Normal", "loc": [-1, 1], "scale": 0.5},
            },
            1,
        ),
        (
            {
                "_target_": "torch.distributions.TransformedDistribution",
                "base_distribution": {"_target_": "torch.distributions.Normal", "loc": [0, 0], "scale": 1},
                "transforms": [{"_target_": "torch.distributions.AffineTransform", "loc": [1, 2], "scale": 3}],
            },
            2,
        ),
        ({"_target_": "framework.priors.Distribution", "distribution": GAMMA}, 2),
    ],
    ids=["lists", "positional", "scalars", "matrix", "mixture", "transformed", "explicit"],
)
def test_distributions_of_torch_are_built_from_blocks(block, dim):
    prior = build_prior(block, "priors.z")
    assert prior.dim == prior.latent_dim == dim
    assert prior.log_prob(prior.sample(10)).isfinite().all()


def half_normal(scale, base=None):
    return torch.distributions.HalfNormal(torch.tensor(scale)) if base is None else Product([base, Uniform(0, scale)])


class Families:
    @staticmethod
    def somewhere():
        return Normal(torch.randn(2), 1)


def nothing(scale):
    return {"scale": scale}


HERE = __name__
READY = Uniform(0, 1)


@pytest.mark.parametrize(
    ("block", "dim"),
    [
        ({"_target_": f"{HERE}.half_normal", "scale": [1.0, 2.0]}, 2),
        ({"_target_": f"{HERE}.half_normal", "scale": 2.0, "base": GAMMA}, 3),
        ({"_target_": "framework.priors.Product", "factors": [{"_target_": f"{HERE}.half_normal", "scale": 2.0}]}, 1),
        ({"_target_": f"{HERE}.Families.somewhere"}, 2),
    ],
    ids=["distribution", "prior", "nested", "method"],
)
def test_a_function_may_make_the_prior(block, dim):
    assert build_prior(block, "priors.z").dim == dim


def test_a_function_that_draws_makes_the_same_prior_in_every_process_and_disturbs_nobody():
    torch.manual_seed(0)
    first = build_prior({"_target_": f"{HERE}.Families.somewhere"}, "priors.z")
    drawn = torch.randn(2)
    second = build_prior({"_target_": f"{HERE}.Families.somewhere"}, "priors.z")
    torch.testing.assert_close(first.mean, second.mean)
    assert torch.equal(drawn, torch.randn(2, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"_target_": f"{HERE}.half_normal", "scael": 1}, "priors.z.scael=1: .* did you mean 'scale'"),
        ({"_target_": f"{HERE}.half_normal"}, "priors.z: .*half_normal rejected its arguments: .* 'scale'"),
        ({"_target_": f"{HERE}.nothing", "scale": 1}, "priors.z={'scale': 1}: expected a prior of framework.priors"),
        ({"_target_": f"{HERE}.half_normal", "scale": 1, "_partial_": True}, "priors.z=functools.partial.*: expected"),
        (
            {"_target_": f"{HERE}.READY", "scale": 1},
            "priors.z._target_=.*READY: is a Uniform, expected a class",
        ),
        ({"_target_": "framework.priors.Uniform", "low": 2, "high": 1}, "priors.z: Uniform.low=2: expected less than"),
        ({"_target_": "framework.priors.Uniform", "low": 2, "hihg": 3}, "priors.z.hihg=3: .* did you mean 'high'"),
        ({"_target_": "framework.priors.Unifrom"}, "priors.z._target_=framework.priors.Unifrom: cannot be imported"),
        ({"_target_": "torch.distributions.Gamma", "concentration": [2.0, "a"], "rate": 1}, "priors.z.concentration="),
        ({"_target_": "torch.distributions.Gamma", "concentration": -1.0, "rate": 1}, "priors.z: .* rejected its arg"),
        ({"_target_": "torch.distributions.Poisson", "rate": 1}, "priors.z: Poisson: is a discrete distribution"),
        ({"_target_": "torch.nn.Linear", "in_features": 1, "out_features": 1}, "priors.z=Linear.*: expected a prior"),
        ({"low": 1}, "priors.z: expected a mapping with a _target_"),
    ],
)
def test_bad_blocks_are_refused_with_their_key(block, message):
    with pytest.raises(ConfigError, match=message):
        build_prior(block, "priors.z")


@pytest.mark.parametrize(
    ("family", "arguments", "message"),
    [
        (Uniform, {"low": 1, "high": 1}, "Uniform.low=1: expected less than high=1"),
        (Uniform, {"low": {"a": 0}, "high": 1}, "Uniform.low={'a': 0}: expected a number"),
        (LogNormal, {"loc": 0, "scale": -1}, "LogNormal.scale=-1: expected more than 0"),
        (LogNormal, {"loc": [0, 0, 0], "scale": [1, 1]}, "LogNormal.scale: has 2 values"),
        (LogNormal, {"mean": 0, "std": 1, "scale": 1}, "LogNormal: std=1 and scale=1 are two names for the same"),
        (Normal, {"mean": 0}, "Normal: expected std or scale"),
        (TruncatedNormal, {"loc": 0, "scale": 1, "low": 0}, "TruncatedNormal.high=None: expected a number"),
        (TruncatedNormal, {"loc": "a", "scale": 1, "low": 0, "high": 1}, "TruncatedNormal.loc='a': expected a number"),
        (Uniform, {"low": [0, 5], "high": 1}, r"Uniform.low\[1\]=5: expected less than high=1"),
        (Uniform, {"low": -math.inf, "high": 1}, "Uniform.low=-inf: expected a finite number"),
        (Uniform, {"low": [0, 1], "high": [2, 3, 4]}, "Uniform.low: has 2 values, but another argument has 3"),
        (Uniform, {"low": "zero", "high": 1}, "Uniform.low='zero': expected a number, or a list"),
        (Uniform, {"low": [[0, 1]], "high": 2}, r"Uniform.low=\[\[0, 1\]\]: expected a number, or a list"),
        (Uniform, {"low": None, "high": 2}, "Uniform.low=None: expected a number"),
        (Uniform, {"low": [], "high": 2}, r"Uniform.low=\[\]: expected a number"),
        (Uniform, {"low": math.nan, "high": 2}, "Uniform.low=nan: expected a number"),
        (Uniform, {"low": 1126259462.3, "high": 1126259462.5}, "Uniform: .* 32-bit floats cannot resolve"),
        (LogUniform, {"low": 1e-48, "high": 1e-40}, "LogUniform: .* 32-bit floats cannot resolve"),
        (Normal, {"mean": 0, "std": -1}, "Normal.std=-1: expected more than 0"),
        (Normal, {"mean": 1e9, "std": 1}, "Normal: .* 32-bit floats cannot resolve"),
        (LogNormal, {"mean": 0, "std": 0}, "LogNormal.std=0: expected more than 0"),
        (LogUniform, {"low": 0, "high": 1}, "LogUniform.low=0: expected more than 0"),
        (Triangular, {"low": 0, "mode": 3, "high": 2}, "Triangular.mode=3: expected between low=0 and high=2"),
        (PowerLaw, {"exponent": -2, "low": 0, "high": 1}, "PowerLaw.low=0: expected more than 0"),
        (PowerLaw, {"exponent": 2, "low": -1, "high": 1}, "PowerLaw.low=-1: expected more than 0"),
        (Sine, {"low": -0.1}, "Sine.low=-0.1: expected an angle in radians, at least 0"),
        (Cosine, {"high": 90}, "Cosine.high=90: expected an angle in radians, at most 1.57"),
        (TruncatedNormal, {"mean": 0, "std": 1, "low": 2, "high": 1}, "TruncatedNormal.low=2: expected less than"),
        (TruncatedNormal, {"mean": 0, "std": 1, "low": 50, "high": 60}, "TruncatedNormal.low=50: expected within 37"),
        (TruncatedNormal, {"mean": 0, "std": 1, "low": -60, "high": -50}, "TruncatedNormal.high=-50: expected within"),
        (Fixed, {"value": math.inf}, "Fixed.value=inf: expected finite numbers"),
        (Product, {"factors": []}, r"Product.factors=\[\]: expected a list"),
        (Product, {"factors": [Uniform(0, 1), 3]}, r"Product.factors\[1\]=3: expected a prior of framework.priors"),
        (Distribution, {"distribution": 3}, "Distribution.distribution=3: expected a torch.distributions object"),
    ],
)
def test_bad_parameters_are_named(family, arguments, message):
    with pytest.raises(ConfigError, match=message):
        family(**arguments)


@pytest.mark.parametrize("family", [Normal, LogNormal, TruncatedNormal])
def test_a_normal_is_known_by_the_names_that_torch_has_for_its_arguments(family):
    bounds = {"low": 0, "high": 5} if family is TruncatedNormal else {}
    ours, torchs = family(mean=[1, 2], std=3, **bounds), family(loc=[1, 2], scale=3, **bounds)
    theta = ours.sample(10)
    torch.testing.assert_close(ours.log_prob(theta), torchs.log_prob(theta))
    block = {"_target_": f"framework.priors.{family.__name__}", "loc": [1, 2], "scale": 3, **bounds}
    torch.testing.assert_close(build_prior(block, "priors.z").log_prob(theta), ours.log_prob(theta))
