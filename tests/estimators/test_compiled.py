"""loop.compile=true: the same training, faster; compiled code is kept; a clear error where it cannot work."""

import os
from pathlib import Path

import pytest
import torch

from framework.errors import ConfigError
from framework.estimators.compiled import keep_compiled_in
from framework.rng import seed_sequence, seeded
from framework.runtime import Guard, StopReason
from tests.support.toy_training import ADAM, NETWORKS, StopAfter, make_trainer, restore, save

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def compile_cache(tmp_path_factory):
    directory = tmp_path_factory.mktemp("compiled")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(directory))
        yield directory
    torch.compiler.reset()


def fit(trainer):
    with seeded(seed_sequence(1, "fit")):
        assert trainer.fit(Guard(), lambda: None, lambda record: None) is None
    return [record["val_loss"] for record in trainer.progress.history]


@pytest.mark.campaign
@pytest.mark.parametrize(
    ("network", "embedding"),
    [("nsf", None), ("gaussian", {"_target_": "framework.networks.MLP", "output_dim": 3, "hidden_dim": 8})],
)
def test_a_compiled_estimator_learns_as_an_eager_one_does(network, embedding):
    losses = fit(make_trainer(network, embedding=embedding, compile=True))
    assert losses[-1] < losses[0]
    assert losses == pytest.approx(fit(make_trainer(network, embedding=embedding)), abs=0.01)


def test_what_is_compiled_is_kept_in_the_cache_directory(compile_cache):
    fit(make_trainer("nsf", compile=True, num_epochs=1))
    assert any(path.suffix == ".so" for path in compile_cache.rglob("*"))


@pytest.mark.parametrize("stop_at", [4, 13])
def test_a_compiled_run_continues_exactly_where_it_was_cut(stop_at, tmp_path):
    whole, first, second = (make_trainer("nsf", compile=True, num_epochs=3) for _ in range(3))
    fit(whole)
    with seeded(seed_sequence(1, "fit")):
        assert first.fit(StopAfter(stop_at), lambda: None, lambda record: None) is StopReason.OUT_OF_TIME
        generation = save(first, tmp_path)
    restore(second, generation)
    fit(second)
    assert second.progress.history == whole.progress.history
    for name, value in whole.estimator.state_dict().items():
        assert torch.equal(second.estimator.state_dict()[name], value), name


@pytest.mark.campaign
def test_one_tensor_is_optimised_unless_the_optimizer_may_look_at_shapes():
    joined = make_trainer("nsf", compile=True)
    assert joined.parameters[0].ndim == 1
    assert sum(weight.numel() for weight in joined.parameters) == sum(p.numel() for p in joined.estimator.parameters())
    sgd = {**ADAM, "_target_": "torch.optim.SGD"}
    apart, eager = (make_trainer(optimizer=sgd, num_epochs=2, compile=compile) for compile in (True, False))
    assert apart.parameters == list(apart.estimator.parameters())
    assert fit(apart) == pytest.approx(fit(eager), abs=1e-5)


@pytest.mark.campaign
def test_two_compiled_estimators_of_one_shape_are_not_mixed_up(monkeypatch):
    monkeypatch.setitem(NETWORKS, "stiff", {**NETWORKS["nsf"], "options": {"slope": 0.5}})
    soft, stiff = (make_trainer(network, compile=True) for network in ("nsf", "stiff"))
    for trainer in (soft, stiff, soft):
        batch = trainer.data.take(torch.arange(50))
        expected = -trainer.estimator.latent_log_prob(*batch).mean().item()
        assert trainer.estimator.loss(*batch).item() == pytest.approx(expected, abs=1e-5)


def test_a_network_that_cannot_be_compiled_is_refused_before_training(monkeypatch):
    monkeypatch.setitem(NETWORKS, "gf", {**NETWORKS["nsf"], "family": "GF"})
    with pytest.raises(ConfigError, match=r"(?s)loop\.compile=true.*families.*loop\.compile=false"):
        make_trainer("gf", compile=True)


def test_without_a_compiler_the_error_names_the_key_and_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    without = torch._inductor.config.patch({"cpp.cxx": ("/no/such/compiler",)})  # monkeypatch would not put it back
    with without, pytest.raises(ConfigError, match=r"(?s)loop\.compile=true.*g\+\+.*loop\.compile=false"):
        make_trainer(compile=True)


def test_the_cache_goes_into_the_run_by_kind_of_processor_unless_the_user_wants_it_elsewhere(tmp_path, monkeypatch):
    keep_compiled_in(tmp_path)
    assert not os.environ["TORCHINDUCTOR_CACHE_DIR"].startswith(str(tmp_path))
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    torch._inductor.runtime.cache_dir_utils.cache_dir()  # sets torch's own default, as some imports of torch do
    keep_compiled_in(tmp_path)
    assert Path(os.environ["TORCHINDUCTOR_CACHE_DIR"]).parent == tmp_path
