"""What `framework/compat/torch_compile.py` expects of torch.compile; `test_compile` has what it is used for."""

import importlib
import logging
import warnings

import pytest
import torch

from framework.compat import torch_compile
from framework.estimators.flow import Flow


class Doubling(torch.nn.Module):
    def forward(self, x):
        return 2 * x


def test_the_settings_are_there():
    """If this fails, torch has renamed a setting of torch.compile: see its release notes, then `compile_method`."""
    assert hasattr(torch._dynamo.config, "rewrite_assert_with_torch_assert")
    with warnings.catch_warnings():
        torch_compile.compile_method(Doubling().forward, on_cpu=True)  # torch refuses options that it does not know
    assert importlib.import_module("torch._inductor.ir").log.level == logging.ERROR


def test_an_option_that_torch_does_not_know_is_refused():
    """If this fails, the test above proves nothing."""
    with pytest.raises(RuntimeError, match="Unexpected optimization option"):
        torch.compile(Doubling(), options={"no_such_option": True})


def test_a_method_with_its_own_code_does_the_same():
    """If this fails, Python's code objects are copied in another way."""
    module = Doubling()
    copy = torch_compile.with_own_code(module.forward)
    assert copy.__code__ is not Doubling.forward.__code__ and copy.__self__ is module
    assert copy(torch.ones(1)).item() == 2


def test_a_flow_is_one_graph_with_the_settings_and_several_without(monkeypatch):
    """If the first part fails, find out which part of zuko breaks the graph; if the second, drop the setting."""
    flow, rows = Flow(2, 2, hidden_dim=4, num_transforms=2), torch.zeros(3, 2)
    torch_compile.compile_method(flow.log_prob, on_cpu=True)
    torch.compile(flow.log_prob, fullgraph=True, backend="eager")(rows, rows)
    monkeypatch.setattr(torch._dynamo.config, "rewrite_assert_with_torch_assert", True)
    torch.compiler.reset()
    with pytest.raises(torch._dynamo.exc.Unsupported):
        torch.compile(flow.log_prob, fullgraph=True, backend="eager")(rows, rows)
    torch.compiler.reset()


def test_a_reason_is_one_line_without_the_backend():
    """If this fails, torch's errors name the backend in another way: see `reason_of`."""

    def failing(graph, inputs):
        raise RuntimeError("no such thing")

    with pytest.raises(Exception, match="backend=") as raised:
        torch.compile(Doubling(), backend=failing)(torch.ones(1))
    torch.compiler.reset()
    reason = torch_compile.reason_of(raised.value)
    assert reason == "RuntimeError: no such thing"
    assert not torch_compile.is_without_compiler(reason) and torch_compile.is_without_compiler("No C++ Compiler")


def test_the_cache_is_the_users_only_if_it_is_not_torchs_default(tmp_path, monkeypatch):
    """If this fails, torch's default directory has another name: what is compiled for a run stays outside of it."""
    from torch._inductor.runtime.runtime_utils import cache_dir

    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    assert not torch_compile.is_cache_chosen()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", cache_dir())
    assert not torch_compile.is_cache_chosen()
    torch_compile.keep_in(tmp_path)
    assert torch_compile.is_cache_chosen() and cache_dir() == str(tmp_path)
