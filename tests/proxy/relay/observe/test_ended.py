"""The lines of the connection log, as text."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.relay.dns.message import HEADER, question_end
from proxy.relay.observe.ended import OTHER, WHY, Ended, asked, line
from proxy.relay.observe.sink import PIPE
from proxy.stats.layout import SERVICE_CELLS

ONE = Ended(
    at=1764208800.1234, kind="tcp", node="lb1", service="smtp", client="[2001:db8::7]:4711", listener="198.51.100.10:25",
    backend="mx1", backend_address="10.0.0.41:25", bytes_in=1234, bytes_out=56789, connect_ms=0.731, duration_s=12.345,
    tries=2, closed="client-reset", failed=True,
)  # fmt: skip


def test_text():
    """A line of text begins with the time in UTC and names each field."""
    assert line(ONE, "text") == (
        b"2025-11-27T02:00:00.123Z connection kind=tcp node=lb1 service=smtp client=[2001:db8::7]:4711 "
        b"listener=198.51.100.10:25 backend=mx1 backend_address=10.0.0.41:25 bytes_in=1234 bytes_out=56789 "
        b"connect_ms=0.731 duration_s=12.345 tries=2 closed=client-reset failed=yes\n"
    )


def test_json():
    """A line of JSON has the same names, in the same order."""
    got = json.loads(line(ONE, "json"))
    assert list(got) == [name for name in Ended._fields if name != "query"]
    assert (got["bytes_out"], got["failed"], got["at"]) == (56789, True, "2025-11-27T02:00:00.123Z")


def test_what_is_not_there():
    """A connection without a backend has a dash in text and null in JSON."""
    none = ONE._replace(backend=None, backend_address=None, connect_ms=None)
    assert b" backend=- backend_address=- " in line(none, "text")
    assert json.loads(line(none, "json"))["connect_ms"] is None
    assert b'backend="-"' in line(ONE._replace(backend="-"), "text")


def test_the_names_of_queries():
    """A query is logged by name and type; octets that could break a line or look like another name are escaped."""
    message = bytes(HEADER) + b"\3www\7exa.ple\3\n=\x1b\0" + b"\0\x1c\0\1"
    message = message[:5] + b"\1" + message[6:]
    assert asked(message, question_end(message, len(message))) == r"www.exa\046ple.\010\061\027 AAAA"
    root = bytes(5) + b"\1" + bytes(6) + b"\0" + b"\xff\x00\0\1"
    assert asked(root, question_end(root, len(root))) == ". TYPE65280"
    assert asked(bytes(HEADER), HEADER) == ""


@given(
    texts=st.lists(st.text(max_size=128), min_size=3, max_size=3),
    query=st.none() | st.binary(min_size=0, max_size=251).map(lambda name: asked(_query(name), len(_query(name)))),
    form=st.sampled_from(["text", "json"]),
)
def test_nothing_forges_a_line(texts, query, form):
    """S3: whatever strangers wrote, it is one line of printable ASCII, short enough for a pipe, and read back unchanged."""
    service, client, backend = texts
    told = ONE._replace(service=service, client=client, backend=backend, query=query)
    got = line(told, form)
    assert re.fullmatch(rb"[ -~]+\n", got)
    assert len(got) < PIPE
    if form == "json":
        back = json.loads(got)
        assert (back["service"], back["client"], back["backend"], back.get("query")) == (
            service,
            client,
            backend,
            query,
        )
    else:
        fields = dict(re.findall(r' (\w+)=("(?:[^"\\]|\\.)*"|[^ "]+)', got.decode()))
        assert list(fields) == [name for name in told.as_dict() if name != "at"]
        assert (json.loads(fields["service"]) if fields["service"][0] == '"' else fields["service"]) == service


def _query(octets):
    labels = b"".join(bytes([len(octets[at : at + 60])]) + octets[at : at + 60] for at in range(0, len(octets), 60))
    return bytes(HEADER) + labels + b"\0" + b"\0\1\0\1"


@pytest.mark.parametrize("cell", WHY)
def test_each_word_is_its_own(cell):
    """Each counter that says why something ended has a word of its own."""
    assert cell < len(SERVICE_CELLS)
    assert [word for word, _ in (*WHY.values(), OTHER)].count(WHY[cell][0]) == 1
