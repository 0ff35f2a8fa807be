"""proxy.succession.protocol: what two versions of the daemon say to each other."""

import contextlib
import json
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.succession import protocol
from proxy.succession.protocol import Hello, Hold, Polling, ProtocolError, Refused, Unknown, decode, encode

ALL = [
    Hello(1, "0.1.0", 4711),
    Hold(["base", "listener-0-1"]),
    protocol.State({"steelyard": "1"}),
    protocol.Ready(3),
    Refused("no room", 2),
    protocol.Go({}),
    Polling([1, 2]),
    protocol.Gone(7, "killed"),
    protocol.Told({"text": "x"}),
    protocol.Sessions([["10.0.0.1:514/udp"]], last=True),
    protocol.Drain(30.0),
    protocol.Verdicts([["dns", "a", "up", "ready"]]),
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("message", ALL, ids=lambda one: type(one).__name__)
def test_messages_survive_the_way(message):
    """Every message arrives as it was sent."""
    assert decode(encode(message)) == message


def test_what_another_version_adds_is_ignored():
    """A field or a kind of message that this version does not know is ignored."""
    assert decode(b'{"kind": "Ready", "pid": 3, "mood": "good"}') == protocol.Ready(3)
    assert decode(b'{"kind": "Applaud", "times": 3}') == Unknown("Applaud")


def test_what_another_version_leaves_out_has_a_default():
    """A missing field has its default; without a field that must be there, the message is refused by name."""
    assert decode(b'{"kind": "Polling"}') == Polling([])
    with pytest.raises(ProtocolError, match="Hello without version"):
        decode(b'{"kind": "Hello"}')


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{}", b"{", b'{"kind": 3}', b'{"kind": "Ready", "pid": true}', b'{"kind": "Hold", "names": 1}'],
)
def test_nonsense_is_refused(data):
    """What is no message, or has a field of another type, is a ProtocolError."""
    with pytest.raises(ProtocolError):
        decode(data)


@given(st.binary(max_size=80))
def test_any_octets_are_harmless(data):
    """Whatever octets come, they are a message or a ProtocolError."""
    with contextlib.suppress(ProtocolError):
        decode(data)


@given(st.sampled_from(ALL), st.dictionaries(st.text(max_size=8), JSON, max_size=4), st.data())
def test_any_fields_are_harmless(message, more, data):
    """Whatever fields are changed, added or left out, the result is a message with fields of its types, or a ProtocolError."""
    tree = json.loads(encode(message)) | more
    for name in data.draw(st.sets(st.sampled_from(sorted(tree)))):
        tree[name] = data.draw(JSON)
    try:
        found = decode(json.dumps(tree).encode())
    except ProtocolError:
        return
    if not isinstance(found, Unknown):
        known = {one.name: type(getattr(message, one.name)) for one in fields(message)}
        if type(found) is type(message):
            assert {name: type(getattr(found, name)) for name in known} == known
