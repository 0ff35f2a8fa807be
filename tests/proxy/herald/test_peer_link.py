"""The link as the master sees it: what the herald process is told, and what its reports come to."""

import datetime as dt
from types import SimpleNamespace

import pytest

from proxy.config.settings import PairSettings
from proxy.herald.listeners import Place
from proxy.herald.peer_link import PeerLink
from proxy.peer.certificates import make
from proxy.peer.framing import LARGEST
from proxy.peer.messages import Beat, Reply
from proxy.processes.messages import herald as herald_messages

NOW = dt.datetime.now(dt.UTC)
OURS, THEIRS = make("a", NOW), make("b", NOW)


class Bed:
    """A link whose herald process is a list of messages."""

    def __init__(self, directory, *, pair=True):
        self.directory = directory
        self.sent, self.told, self.connections = [], [], 0
        settings = PairSettings.model_validate(
            {
                "members": {"a": "10.0.0.2", "b": "10.0.0.3"},
                "certificate": f"{directory}/own.pem",
                "peer-certificate": f"{directory}/peer.pem",
            }
        )
        self.config = SimpleNamespace(pair=settings if pair else None, node=SimpleNamespace(name="a"))
        place = Place("pair", "10.0.0.2", 9601)
        self.link = PeerLink(
            self.config, self.tell, lambda message, fds: self.sent.append((message, list(fds))),
            lambda: {place: SimpleNamespace(fileno=lambda: 7)},
        )  # fmt: skip

    def tell(self, kind, subject, text, *, level="info", **_):
        """Note an event."""
        self.told.append((subject, text, level))

    def write(self):
        """Write the certificates."""
        (self.directory / "own.pem").write_bytes(OURS.secret)
        (self.directory / "peer.pem").write_bytes(THEIRS.public)


@pytest.fixture
def bed(tmp_path):
    """Return a link."""
    return Bed(tmp_path)


def test_other_certificates_are_taken_on_a_reload(bed):
    """A reload takes certificates that were replaced on the disk; unchanged ones, and ones that do not fit, change nothing."""
    bed.write()
    bed.link.begin()
    bed.link.renew()
    assert len(bed.sent) == 1
    (bed.directory / "peer.pem").write_bytes(b"nonsense")
    bed.link.renew()
    assert len(bed.sent) == 1
    assert "the former certificates stay in use" in bed.told[-1][1]
    (bed.directory / "peer.pem").write_bytes(make("b", NOW).public)
    bed.link.renew()
    assert len(bed.sent) == 2


def test_what_the_process_is_told(bed):
    """The process gets both ends, both certificates and the socket that listens."""
    bed.write()
    bed.link.begin()
    ((message, fds),) = bed.sent
    assert (message.node, message.peer, message.address, message.peer_address, message.port) == (
        "a", "b", "10.0.0.2", "10.0.0.3", 9601,
    )  # fmt: skip
    assert (message.certificate.encode(), message.peer_certificate.encode()) == (OURS.secret, THEIRS.public)
    assert fds == [7]
    assert "PRIVATE" not in repr(message)


def test_certificates_that_come_later(bed, monkeypatch):
    """Certificates that are missing are told once and tried again; the link begins when they are there."""
    for _ in range(2):
        bed.link.begin()
    assert len(bed.told) == 1
    assert bed.told[0][1].startswith("no link: ")
    assert bed.sent == []
    bed.write()
    bed.link.look(0.0)
    assert bed.sent == []
    bed.link.look(1e12)
    assert len(bed.sent) == 1


def test_without_a_pair(tmp_path):
    """Without [pair] the process is told to keep no connection, and nothing happens."""
    bed = Bed(tmp_path, pair=False)
    bed.link.begin()
    assert bed.sent == [(herald_messages.Link(""), [])]
    bed.link.look(1e12)
    assert (bed.link.peer, bed.told) == ("", [])
    assert not bed.link.send(Beat(number=1, wall=1))


def test_reports_of_failures(bed):
    """A failed try changes nothing but the reason; a refusal is told once."""
    bed.link.take(herald_messages.Unlinked(0, "connection refused", refused=False))
    assert (bed.link.state.state, bed.link.state.why, bed.told) == ("never", "connection refused", [])
    for _ in range(3):
        bed.link.take(herald_messages.Unlinked(0, "another certificate", refused=True))
    assert bed.told == [("b", "refused: another certificate", "warning")]


def test_messages_of_another_connection(bed):
    """What comes from a former connection is not looked at, and nothing is sent without one."""
    bed.link.take(herald_messages.Linked(2))
    bed.link.take(herald_messages.FromPeer(1, "nonsense"))
    assert bed.link.counters["refused"] == 0
    bed.link.take(herald_messages.FromPeer(2, "nonsense!"))
    assert bed.link.counters["refused"] == 1
    assert bed.sent[-1][0].number == 2
    assert not bed.link.send(Beat(number=1, wall=1))


def test_a_message_that_is_too_large(bed):
    """A message that the link has no room for is not sent, and the caller learns it."""
    bed.link.take(herald_messages.Linked(1))
    assert bed.link.send(Beat(number=1, wall=1))
    assert not bed.link.send(Reply(number=1, text="\N{SNOWMAN}" * (LARGEST // 3)))
    assert bed.link.counters["sent"] == 1


def test_another_configuration(bed):
    """With another [pair] the state begins anew, as it says nothing about that peer."""
    bed.link.take(herald_messages.Linked(1))
    bed.link.heard(1.0)
    assert bed.link.connected
    same = SimpleNamespace(pair=bed.config.pair, node=bed.config.node)
    bed.link.configure(same)
    assert bed.link.connected
    bed.link.configure(SimpleNamespace(pair=bed.config.pair.model_copy(update={"port": 1}), node=bed.config.node))
    assert bed.link.state.state == "never"
