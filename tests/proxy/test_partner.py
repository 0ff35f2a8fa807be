"""The other host over the link: acts reach both, catch up and end equal; lies and replays change nothing."""

import base64
import json
import random

import pytest

from proxy import partner
from proxy.backends.edits import Edit
from proxy.peer import messages
from proxy.peer.acts import Entry, Key
from proxy.peer.clock import ZERO, Stamp
from proxy.peer.link import SILENT
from proxy.processes.messages import herald as herald_messages
from tests.proxy.two_hosts import Host, Two


@pytest.fixture
async def two(tmp_path, monkeypatch):
    """Return two hosts with a link."""
    monkeypatch.setattr(partner, "ANSWER", 0.3)
    both = Two(tmp_path)
    both.connect()
    await both.beat()
    assert both.a.link.connected
    assert both.b.link.connected
    return both


async def test_an_act_reaches_both(two):
    """An act is in force on both hosts when the answer comes, which has the peer's word."""
    answer = await two.during(two.a.act("drain", reason="a test"))
    assert answer["peer"] == {"node": "b", "state": "done", "text": "done"}
    assert (two.a.state(), two.b.state()) == ("drain", "drain")
    (row,) = two.b.bed.admins.rows()
    assert (row["by"], row["reason"]) == ("uid 1000 on a", "a test")
    await two.during(two.b.act("ready"))
    assert (two.a.state(), two.b.state()) == ("ready", "ready")


async def test_lists_and_weights(two):
    """`add`, `remove` and `weight` reach both hosts."""
    await two.during(two.a.edit("add", address="192.0.2.13", weight=4))
    await two.during(two.b.edit("weight", backend="ns2", weight=9))
    for host in (two.a, two.b):
        weights = {key[1]: one.weight for key, one in host.bed.running.backends.items() if key[0] == "dns"}
        assert weights == {"192.0.2.11": 1, "ns2": 9, "192.0.2.13": 4}
    await two.during(two.b.edit("remove", backend="192.0.2.13"))
    assert two.a.bed.admins.leaves(("dns", "192.0.2.13"))


async def test_here(two):
    """An act with `here` stays on its host, and a later one without it reaches both."""
    answer = await two.during(two.a.act("drain", here=True))
    assert "peer" not in answer
    await two.beat()
    assert (two.a.state(), two.b.state()) == ("drain", "ready")
    await two.during(two.b.act("maint"))
    assert (two.a.state(), two.b.state()) == ("maint", "maint")


async def test_a_drain_has_its_timeout_on_both(two):
    """The time after which a drain cuts connections holds on both hosts, counted from the act."""
    two.b.bed.active["dns", "ns2"] = 1
    await two.during(two.a.act("drain", timeout=5.0))
    assert two.b.bed.admins.acted(("dns", "ns2")) == "drain"
    two.b.bed.later(6.0)
    assert two.b.bed.admins.acted(("dns", "ns2")) == "maint"


async def test_the_peer_is_away(two):
    """Without a link an act is done here, the answer says so, and the peer has it after the next comparison."""
    two.cut()
    answer = await two.a.act("drain")
    assert answer["peer"]["state"] == "away"
    assert answer["peer"]["text"] == "cut for a test; it catches up when it is back"
    two.connect()
    await two.beat()
    assert two.b.state() == "drain"
    assert two.a.partner.status()["same_acts"] is True


async def test_the_peer_does_not_answer(two):
    """If the peer does not answer in time the command ends all the same."""
    answer = await two.a.act("drain")
    assert answer["peer"]["state"] == "late"
    assert two.a.state() == "drain"


async def test_acts_that_cross(two):
    """Two acts that cross end equal, by the later one; both timelines tell."""
    two.cut()
    await two.a.act("drain")
    await two.b.act("maint")
    two.connect()
    await two.beat()
    assert two.a.state() == two.b.state() == "maint"
    for host in (two.a, two.b):
        (told,) = [text for text in host.bed.told if "two acts have crossed" in text]
        assert "drain by uid 1000 on a, and maint by uid 1000 on b, which was the later one" in told


async def test_clear(two):
    """`overrides clear` ends all on both hosts, and an act that came later holds."""
    await two.during(two.a.act("drain"))
    two.cut()
    await two.a.bed.membership.clear(Edit("x", 0.0))
    await two.a.partner.share_clear()
    await two.b.act("maint", backend="192.0.2.11")
    two.connect()
    await two.beat()
    for host in (two.a, two.b):
        assert (host.state(), host.state("192.0.2.11")) == ("ready", "maint")


async def test_an_act_that_the_peer_cannot_do(two, tmp_path):
    """An act on a backend that the peer's file lacks is refused there, told, and done after a reload that has it."""
    two.b = Host(
        "b",
        tmp_path / "c",
        changes=(("quorum = 2", "quorum = 1"), (', { address = "192.0.2.12", name = "ns2", weight = 3 }', "")),
    )
    two.connect()
    await two.beat()
    answer = await two.during(two.a.act("drain"))
    assert answer["peer"] == {"node": "b", "state": "refused", "text": "dns/ns2: there is no backend dns/ns2 here"}
    assert two.b.partner.status()["acts_not_in_force_here"] == ["dns/ns2"]
    assert len([text for text in two.b.bed.told if "is not in force here" in text]) == 1
    two.b.bed.reload()
    two.b.partner.reloaded()
    await two.beat()
    assert two.b.state() == "drain"
    assert two.b.partner.status()["acts_not_in_force_here"] == []


async def test_a_restart(two, tmp_path):
    """A host that forgot its act in a restart gets it back; when both have restarted it is over."""
    await two.during(two.a.act("drain"))
    await two.during(two.a.act("maint", backend="192.0.2.11", save=True))
    await two.beat()
    for name in ("a", "b"):
        await getattr(two, name).shared._document.commit(getattr(two, name).shared.acts.rows, lambda: None)
    two.a = Host("a", tmp_path / "a")
    assert (two.a.state(), two.a.state("192.0.2.11")) == ("ready", "maint")
    two.connect()
    await two.beat()
    assert two.a.state() == "drain"
    two.a, two.b = Host("a", tmp_path / "a"), Host("b", tmp_path / "b")
    two.connect()
    await two.beat()
    for host in (two.a, two.b):
        assert (host.state(), host.state("192.0.2.11")) == ("ready", "maint")


async def test_an_act_that_a_file_has_ended(two, tmp_path):
    """An act that a file has ended does not come back from the other host."""
    await two.during(two.a.act("drain"))
    for host in (two.a, two.b):
        host.bed.reload(('name = "ns2"', 'admin = "maint", name = "ns2"'))
        host.partner.reloaded()
    await two.beat()
    assert (two.a.state(), two.b.state()) == ("maint", "maint")
    two.a = Host("a", tmp_path / "a")
    two.connect()
    await two.beat()
    assert two.a.state() == "ready"  # as its file says, in which nobody has written otherwise


async def test_replays_change_nothing(two):
    """P2: every message that was ever sent, again and in any order, changes neither acts nor verdicts."""
    two.a.verdict("up")
    await two.beat()
    await two.during(two.a.act("drain"))
    await two.during(two.b.act("maint"))
    two.a.verdict("down")
    await two.beat()
    await two.during(two.a.act("ready"))
    again = [one for one in two.delivered if messages.decode(base64.b64decode(one[1])).kind != "hello"]
    random.Random(1).shuffle(again)
    for target, payload in again:
        target.link.take(herald_messages.FromPeer(target.number, payload))
    await two.carry()
    assert (two.a.state(), two.b.state()) == ("ready", "ready")
    assert two.b.partner.row(("dns", "ns2"))["state"] == "down"
    assert two.a.faults == two.b.faults == []


async def test_verdicts(two):
    """Each host knows the other's verdicts, with reason and time; they are stale without a link."""
    two.b.verdict("down")
    await two.beat()
    assert two.a.partner.row(("dns", "ns2")) == {
        "node": "b", "state": "down", "since": "1970-01-01T00:00:05.000Z", "reason": "it is down", "stale": False,
    }  # fmt: skip
    two.cut()
    assert two.a.partner.row(("dns", "ns2"))["stale"] is True
    assert two.a.partner.row(("dns", "x")) is None


async def test_seen_up(two):
    """P2: the peer's word counts only for a service that asks for it, only if it is `up`, and only while the peer is there."""
    key = ("dns", "ns2")
    two.b.verdict("up")
    await two.beat()
    assert not two.a.partner.seen_up(key)
    service = two.a.bed.running.services["dns"].model_copy(update={"peer_verdict": "require-both-down"})
    two.a.bed.running.services["dns"] = service
    assert two.a.partner.seen_up(key)
    two.b.verdict("down")
    await two.beat()
    assert not two.a.partner.seen_up(key)
    two.b.verdict("up")
    await two.beat()
    assert two.a.partner.seen_up(key)
    two.cut()
    assert not two.a.partner.seen_up(key)


async def test_a_silent_peer(two, monkeypatch):
    """A peer whose beats are replayed, or that sends none, is silent within the bound."""
    (beat,) = [
        payload for target, payload in two.delivered if target is two.a and b"beat" in base64.b64decode(payload)
    ][-1:]
    clock = two.a.link.state._heard + SILENT + 0.1
    monkeypatch.setattr(partner.time, "monotonic", lambda: clock)
    two.a.link.take(herald_messages.FromPeer(two.a.number, beat))
    two.a.link.look(clock)
    assert two.a.link.state.state == "silent"


async def test_a_peer_that_was_stopped(two):
    """A peer that goes on after a silence, on the same connection, is known as before, and its verdicts come."""
    two.a.link.look(two.a.link.state._heard + SILENT)
    assert not two.a.link.connected
    two.b.verdict("up")
    await two.beat()
    assert two.a.link.connected
    assert two.a.partner.status()["protocol"] == 1
    assert two.a.partner.row(("dns", "ns2"))["stale"] is False


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b"nonsense", "it sends nonsense"),
        (b'{"kind": "beat", "number": -1, "wall": 1}', "it sends nonsense: beat.number"),
        (messages.Hello(node="c", life="x"), "it calls itself c, and our peer is b"),
        (messages.Hello(node="a", life="x"), "it calls itself a, and our peer is b"),
    ],
)
async def test_lies_end_the_connection(two, payload, why):
    """What is no message, and another name, end the connection with the reason."""
    two.a.take(payload)
    assert two.a.link.state.state == "refused"
    assert two.a.link.state.why.startswith(why)
    assert isinstance(two.a.orders[-1], herald_messages.Drop)
    await two.beat(1)
    assert (two.a.state(), two.a.faults) == ("ready", [])


async def test_hello_comes_first(two):
    """A connection that begins with something else is ended."""
    two.a.connect()
    two.a.take(messages.Beat(number=10**6, wall=1))
    assert two.a.link.state.why == "it begins with beat and not with hello"


async def test_a_later_version(two):
    """A peer of a later version talks: its unknown messages and fields are counted or ignored."""
    two.a.take(b'{"kind": "later"}')
    hello = json.loads(messages.Hello(node="b", life="x", protocol=2).model_dump_json()) | {"more": {"x": 1}}
    two.a.take(json.dumps(hello).encode())
    assert two.a.link.connected
    assert two.a.partner.status()["protocol"] == 2
    assert two.a.partner.status()["counters"]["unknown"] == 1


async def test_a_clock_far_ahead(two):
    """Acts from a host whose clock is far ahead are not taken, and it is told why."""
    entry = Entry(key=Key("admin", "dns", "ns2"), stamp=Stamp(1 << 52, 0, "b"), act="drain", by="x", at=1.0)
    two.a.take(messages.Acted(number=5, floor=ZERO, entries=(entry,)))
    await two.carry()
    assert two.a.state() == "ready"
    assert any("its acts are not taken: its clock is" in text for text in two.a.bed.told)


async def test_files_that_differ(two):
    """P3: files that differ for five minutes raise an alarm, once; it is over when they are the same."""
    two.b.bed.running.config = two.b.bed.running.config.model_copy(update={"sha256": "other"})
    await two.beat(1)
    two.now += partner.DIFFER
    two.connect()
    await two.beat(3)
    alarms = [text for text in two.a.bed.told if "steelyard pair diff" in text]
    assert len(alarms) == 1
    assert two.a.partner.status()["same_file"] is False
    two.b.bed.running.config = two.a.bed.running.config
    await two.beat(2)
    assert any("b has the same file again" in text for text in two.a.bed.told)


async def test_without_a_pair(tmp_path):
    """Without [pair] nothing is shared, sent or shown."""
    host = Host("a", tmp_path / "a", pair=None)
    assert "peer" not in await host.act("drain")
    host.partner.look(1.0)
    assert host.partner.status() is None
    assert not host.sent
