"""proxy.status.shape: a document of anybody is a status, or the first place is named where it is none."""

import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.dashboard.board import Scene, once
from proxy.dashboard.text import length
from proxy.status.shape import shaped
from tests.proxy.dashboard.lively import NOW, events, lively

JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda one: st.lists(one, max_size=3) | st.dictionaries(st.text(max_size=5), one, max_size=3),
    max_leaves=10,
)


def test_a_status_is_one():
    """The snapshot of a daemon passes, also with keys of a later version and states that this one does not know."""
    status = lively(0, NOW)
    assert shaped(status) is status
    status["services"][0]["state"] = "melting"
    status["more"] = 1
    shaped(json.loads(json.dumps(status)))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda status: status.pop("services"), "it has no services"),
        (lambda status: status.update(services={}), "services is no list"),
        (lambda status: status["services"][1]["backends"][0].pop("name"), "services[1].backends[0] has no name"),
        (
            lambda status: status["services"][1]["backends"][0].update(rate="1"),
            "services[1].backends[0].rate is str, not float",
        ),
        (lambda status: status["services"][0]["backends"][0].update(active=True), "active is bool, not int"),
        (lambda status: status["services"][0]["backends"][0].update(active=10**400), "active is out of range"),
        (lambda status: status["config"].update(error=7), "config.error is int, not str"),
        (lambda status: status["vrrp"].append(3), "vrrp[1] is no object"),
    ],
)
def test_the_first_wrong_place_is_named(change, told):
    """What is wrong is said with its place."""
    status = lively(0, NOW)
    change(status)
    with pytest.raises(ValueError, match=r".") as caught:
        shaped(status)
    assert told in str(caught.value)


@given(JSON)
def test_anything_else_is_none(document):
    """No other JSON is taken for a status, and none is more than a ValueError."""
    with pytest.raises(ValueError, match=r"."):
        shaped(document)


@given(st.data())
def test_what_passes_can_be_drawn(data):
    """Whatever is put in the place of a value, either the document is refused or its picture is drawn within its width."""
    status = copy.deepcopy(lively(0, NOW))
    at = status
    for _ in range(data.draw(st.integers(1, 6))):
        keys = list(at) if isinstance(at, dict) else list(range(len(at)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(at[key], dict | list) or not at[key]:
            break
        above, at = at, at[key]
        at = above if not isinstance(above[key], dict | list) else at
    if isinstance(at, dict | list) and at:
        key = data.draw(st.sampled_from(list(at) if isinstance(at, dict) else list(range(len(at)))))
        at[key] = data.draw(JSON)
    try:
        scene = Scene(status=shaped(status), events=events(NOW), now=NOW, taken=NOW)
    except ValueError:
        return
    scene.history.take(scene.status, 0.0)
    for cells in (40, 120, 200):
        assert all(length(line) <= cells for line in once(scene, cells, 5))
