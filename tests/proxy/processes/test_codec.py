"""Tests of the messages between the processes."""
# ruff: noqa: SIM105 - the invariant is plainer so

import json
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.processes.codec import MessageError, decode, encode
from proxy.processes.messages import common as messages
from proxy.processes.messages import health as health_messages
from proxy.processes.messages import notify as notify_messages
from proxy.processes.messages import vrrp as vrrp_messages
from proxy.processes.messages import worker as worker_messages

EXAMPLES = [
    worker_messages.Setup({"generation": 1, "limit": float("inf")}),
    worker_messages.Listen([[0, 1, 2, "udp", "::1", 53]]),
    worker_messages.Unlisten([[0, 1]]),
    worker_messages.Verdicts([[0, 1, "up", "ready"]]),
    worker_messages.Weights([[0, 1, 5]]),
    worker_messages.Services(2, [{"slot": 0, "backends": []}], [[3, 30.0]]),
    worker_messages.Settings(1000, {"connections": "off"}),
    worker_messages.Sessions([["10.0.0.10:514/udp", "syslog", "b0", "10.0.0.1", 4711, 1.5]], True),
    messages.Level("info", "json"),
    worker_messages.Confirmed(2),
    worker_messages.Siblings(3),
    worker_messages.LogFile(),
    worker_messages.Browse(1, 2, True, "dns", "10.0.0.0/8", "", "list"),
    worker_messages.Listed(1, [{"client": "10.0.0.1:53"}], 1, False),
    worker_messages.Follow(1, "dns", "", "b0", "on"),
    worker_messages.Happened(1, [{"event": "opened"}], 0),
    worker_messages.Pick(1, "dns", "2001:db8::7", 0, "www.example.net"),
    worker_messages.Picked(1, {"backend": "b0"}),
    worker_messages.Replay(1),
    worker_messages.Replayed(1, 40, 1e9),
    worker_messages.Prepare(2, 1, 64),
    worker_messages.Prepared(2, 1, 64),
    worker_messages.Drain(30.0),
    messages.Ready(123),
    worker_messages.Hint(0, 1),
    health_messages.Suspect("dns/b0"),
    worker_messages.Failing(1, 2, 5, 1e9),
    health_messages.Watch([{"key": "0.0"}]),
    health_messages.Probed("0.0", "down", "nobody \x1b[31m answers\n", 1.5),
    health_messages.Probed("0.0", "up", "exit status 42: weight 40", 1.5, 40),
    health_messages.Probed("0.0", "unknown", "login refused", 1.5, unjudged=True),
    health_messages.Secrets({"/etc/steelyard/mysql.pw": ["c2VjcmV0", ""]}),
    health_messages.Icmp(2),
    health_messages.Alarm("mail", "every backend refuses the login", "raised", 1.5, "login mysql probe"),
    health_messages.Run(8, ["0.0"]),
    health_messages.Ran(8, [{"key": "0.0", "ok": True}]),
    messages.Ask(7),
    health_messages.Report(7, {"0.0": []}),
    messages.Beat(),
    vrrp_messages.Route(
        1, {"routers": []}, {"outside": ["active", 1.5, 7, None]}, ["outside"], 30.0, "/var/lib/steelyard", quiet=True
    ),
    vrrp_messages.Reroute(2, {"routers": []}, {"outside": {"service dns": -60}}, 30.0),
    vrrp_messages.Rerouted(2, ["outside: the link is down"]),
    vrrp_messages.Left(),
    vrrp_messages.Fitness({"outside": {"service dns": -60}}, {"outside": ["probe gateway"]}, ["outside"], ""),
    vrrp_messages.Standby(9, ["outside"], "asked for"),
    vrrp_messages.StoodBy(9, []),
    vrrp_messages.Resume(["outside"]),
    vrrp_messages.Leave("hand over"),
    vrrp_messages.Held(2, {"outside": ["active", 1.5, 7, None]}),
    vrrp_messages.Moved("outside", "active", "backup", "no advert", 100, 1e9),
    vrrp_messages.Told("outside", "priority 100 -> 40", "info", 1e9),
    vrrp_messages.Routing(7, [{"name": "outside"}], {"outside/4": {"adverts_sent": 1}}, {"page": {"passed": 1}}),
    notify_messages.Notifies([{"name": "page", "command": ["/bin/true"], "fifo": None, "batch": False}]),
    notify_messages.Changes({"page": [["BACKEND", "dns/a", "DOWN", "1", "no answer"]]}),
    notify_messages.Finish(60.0),
    notify_messages.Counted({"page": {"passed": 1, "waiting": 0}}),
    notify_messages.Trouble("page", "/bin/false ended with 1", 1.5),
]


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda one: type(one).__name__)
def test_round_trip(message):
    """Each message comes out of the wire as it went in."""
    assert decode(encode(message)) == message


def test_each_kind_has_an_example():
    """No kind of message is left out above."""
    assert {type(one) for one in EXAMPLES} == set(typing.get_args(messages.Message))


def test_secrets_have_no_repr():
    """S6: a message with passwords does not show them when it is logged."""
    assert "c2VjcmV0" not in repr(health_messages.Secrets({"/x": ["c2VjcmV0", ""]}))
    settings = {"routers": [{"auth": {"keys": [[1, "c2VjcmV0"]]}}]}
    assert "c2VjcmV0" not in repr(vrrp_messages.Route(1, settings, {}, [], 30.0, "/", quiet=False))
    assert "c2VjcmV0" not in repr(vrrp_messages.Reroute(2, settings, {}, 30.0))


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
)
FIELDS = st.dictionaries(st.sampled_from(["number", "pid", "key", "state", "reason", "at", "service", "backend"]), ANY)
KINDS = [kind.__name__ for kind in typing.get_args(messages.Message)]


@given(st.binary(max_size=200) | ANY.map(lambda one: json.dumps(one).encode()))
def test_octets_are_a_message_or_an_error(data):
    """Whatever comes is a message or a MessageError, nothing else."""
    try:
        assert type(decode(data)).__name__ in KINDS
    except MessageError:
        pass


@given(st.sampled_from(KINDS), FIELDS)
def test_fields_are_of_their_kind(kind, values):
    """A child that was taken over cannot hand the master a field of another type than the message has."""
    try:
        message = decode(json.dumps([kind, values]).encode())
    except MessageError:
        return
    for name, hint in typing.get_type_hints(type(message)).items():
        expected = typing.get_origin(hint) or hint
        assert isinstance(getattr(message, name), int | float if expected is float else expected)


@pytest.mark.parametrize(
    "data", [b"[" * 100_000, b'["Ready",{"pid":"x"}]', b'["Ready",{"pid":true}]', b'[["Ready"],{}]', b"[]"]
)
def test_refused(data):
    """Bottomless nesting, a field of another kind and a name that is none are refused."""
    with pytest.raises(MessageError):
        decode(data)
