"""proxy.config.notify_choice: which names and states a notification is for."""

import pytest

from proxy.config.model import Notify
from proxy.config.notify_choice import is_named, is_told, is_wanted


@pytest.mark.parametrize(
    ("on", "name", "named"),
    [
        ((), "dns/a", True),
        (("dns",), "dns", True),
        (("dns",), "dns/a", True),
        (("dns/a",), "dns/a", True),
        (("dns/a",), "dns/b", False),
        (("dns/a",), "dns", False),
        (("d*",), "dns/a", True),
        (("*/a",), "dns/a", True),
        (("DNS",), "dns", False),
        (("mail", "in*"), "inside", True),
    ],
)
def test_names(on, name, named):
    """A glob names what it matches; the name of a service names its backends too."""
    assert is_named(on, name) is named


def test_states_belong_to_kinds():
    """An empty `to` asks for every state, another one only for the kinds that have one of its states."""
    assert all(is_wanted((), kind) for kind in ("router", "service", "backend"))
    assert [is_wanted(("down", "active"), kind) for kind in ("router", "service", "backend")] == [True, False, True]


def test_a_notification_is_for_those_that_it_names():
    """A notification is for a kind if it asks for its states and names one of them."""
    one = Notify.model_construct(name="n", on=("dns",), to=("down",), command=None, fifo="/run/x", batch=False)
    assert is_told(one, "backend", ["web/a", "dns/a"])
    assert not is_told(one, "backend", ["web/a"])
    assert not is_told(one, "service", ["dns"])
    assert not is_told(one, "backend", [])
