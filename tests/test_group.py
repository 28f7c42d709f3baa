"""What several processes of one run take for the loss of one of them."""

import pytest

from framework.errors import RankLostError
from framework.runtime.group import Group
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
