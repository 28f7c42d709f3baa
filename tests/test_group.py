"""What several processes of one run take for the loss of one of them."""

import numpy as np
import pytest

from framework.errors import RankLostError
from framework.runtime.group import Group, _pickled
from framework.runtime.place import Place


@pytest.fixture
def group():
    return Group(Place(rank=0, size=2))


def test_an_error_of_the_connection_says_in_a_line_that_another_is_gone(group):
    with pytest.raises(RankLostError) as raised, group.reaching():
        raise RuntimeError(
            "[/x/gloo/transport/tcp/pair.cc:553] Connection closed by peer [10.0.0.7]:47. This is often …"
        )
    assert str(raised.value).endswith(": one of the others is gone (Connection closed by peer [10.0.0.7]:47)")


def test_an_error_of_the_users_network_stays_what_it_is(group):
    with pytest.raises(RuntimeError) as raised, group.reaching():
        raise RuntimeError("the skip connection has another shape")
    assert raised.type is RuntimeError


def test_large_arrays_are_shared_without_a_copy():
    array = np.arange(1000.0)
    text, *contents = _pickled({"x": array})
    assert len(text) < array.nbytes / 10
    (content,) = contents
    assert np.shares_memory(np.frombuffer(content), array)
