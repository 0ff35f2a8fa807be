"""A backend as the data path sees it."""

import pytest

from proxy.balance.backend import Backend


def test_it_starts_unknown_and_idle():
    """A new backend is unknown, wanted, and has nothing to do here or elsewhere."""
    backend = Backend("ns1", 0)
    assert (backend.verdict, backend.admin, backend.weight) == ("unknown", "ready", 1)
    assert (backend.active, backend.elsewhere) == (0, 0)


def test_it_has_slots_only():
    """A misspelt attribute is an error and costs no dictionary."""
    with pytest.raises(AttributeError):
        Backend("ns1", 0).actve = 1


def test_a_negative_weight_is_refused():
    """A weight below 0 is an error that names the backend."""
    with pytest.raises(ValueError, match="ns1"):
        Backend("ns1", 0, -1)


def test_it_shows_what_it_is():
    """Its representation has its name and state."""
    assert repr(Backend("ns1", 0, 3, "up")) == "<Backend ns1 weight 3 up ready active 0>"
