"""The messages of the link: what one version sends, the next one reads."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.peer import messages
from proxy.peer.acts import Entry, Key
from proxy.peer.clock import Stamp
from proxy.peer.messages import MessageError, decode, encode

ENTRY = Entry(key=Key("admin", "dns", "10.0.0.1"), stamp=Stamp(5, 0, "a"), act="drain", by="uid 0", at=1.0)
ONE_OF_EACH = [
    messages.Hello(node="lb1", life="x", program="1.0", share=("acts",)),
    messages.Beat(number=1, wall=2, acts="d", sha256="f", verdicts=3),
    messages.Have(floor=Stamp(1, 0, "a"), stamps=((ENTRY.key, ENTRY.stamp),)),
    messages.Acted(number=1, entries=(ENTRY,)),
    messages.Answer(number=1, results=(messages.Result(key=ENTRY.key, ok=True),)),
    messages.Verdicts(number=1, first=True, rows=(messages.VerdictRow(service="s", backend="b", state="up", at=1.5),)),
    messages.Ask(number=1, what="files"),
    messages.Reply(number=1, text="x"),
    messages.Events(rows=(messages.EventRow(at=1.0, kind="admin", subject="s", text="t"),)),
]


@pytest.mark.parametrize("message", ONE_OF_EACH, ids=lambda one: one.kind)
def test_each_survives(message):
    """Each message is read as it was sent, also with fields of a later version."""
    assert decode(encode(message)) == message
    assert decode(json.dumps(json.loads(encode(message)) | {"later": [1]}).encode()) == message


def test_an_unknown_kind_is_no_mistake():
    """A kind of a later version is ignored."""
    assert decode(b'{"kind": "later", "x": 1}') is None


@pytest.mark.parametrize(
    "payload",
    [
        b"", b"[]", b"{}", b"\xff", b'{"kind": "beat"}', b'{"kind": "beat", "number": "1", "wall": 1}',
        b'{"kind": "beat", "number": -1, "wall": 1}', b'{"kind": "hello", "node": "", "life": ""}',
        b'{"kind": "verdicts", "number": 1, "rows": [{"service": "s", "backend": "b", "state": "dead"}]}',
        b'{"kind": "events", "rows": [{"at": NaN, "kind": "k", "subject": "s", "text": "t"}]}',
        b'{"kind": "have", "floor": [1, 2]}', b"[" * 100_000,
    ],
)  # fmt: skip
def test_what_is_no_message(payload):
    """What is no message is refused, in few words."""
    with pytest.raises(MessageError) as caught:
        decode(payload)
    assert len(str(caught.value)) <= 200


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=20,
)
KINDS = st.sampled_from([one.kind for one in ONE_OF_EACH])
FIELDS = st.sampled_from(
    sorted({name for kind in {type(one) for one in ONE_OF_EACH} for name in kind.model_fields} - {"kind"})
)


@given(
    st.binary(max_size=200)
    | st.builds(lambda k, f: json.dumps({**f, "kind": k}).encode(), KINDS, st.dictionaries(FIELDS, JSON))
)
def test_fuzz(payload):
    """Invariant: any octets are a message, or of an unknown kind, or refused; nothing else happens."""
    with contextlib.suppress(MessageError):
        found = decode(payload)
        assert found is None or decode(encode(found)) == found
