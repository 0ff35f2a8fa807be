"""Backends that lead back to this host as soon as it has their address."""

import pytest

from proxy.backends.effective import Running
from proxy.backends.loops import LoopGuard
from proxy.config.loader import load
from proxy.stats.slots import Slots

FILE = """
[node]
name = "n"
[service.a]
listen = ["{listen}:80/tcp"]
backends = ["192.0.2.11", "192.0.2.12"]
[service.b]
listen = ["192.0.2.1:81/tcp"]
backends = ["192.0.2.11:80"]
"""


class Bed:
    """A daemon's backends, and what is heard of those that lead back."""

    def __init__(self, path, listen):
        path.write_text(FILE.format(listen=listen))
        self.running = Running(load(path), Slots(16), Slots(64))
        self.own: set[str] = set()
        self.asked, self.told, self.heard = 0, [], []
        self.guard = LoopGuard(
            self.running,
            self.look_up,
            lambda kind, subject, text, **_: self.told.append(f"{kind} {subject}: {text}"),
            self.heard.append,
        )

    def look_up(self):
        """Return the addresses of this host."""
        self.asked += 1
        return frozenset(self.own)

    def look(self, *own):
        """Have these addresses, and look."""
        self.own = set(own)
        self.guard.look()


@pytest.fixture
def bed(tmp_path):
    return Bed(tmp_path / "f.toml", "*")


WHY = "192.0.2.12 is a listener of this service: its traffic would loop"


def test_an_address_comes_and_goes(bed):
    """T10: a backend whose address is this host's is left out when it comes, told once, and let back when it goes."""
    bed.look("192.0.2.1")
    assert (bed.told, bed.heard) == ([], [])
    for _ in range(2):
        bed.look("192.0.2.1", "192.0.2.12")
    assert bed.told == [f"loop a/192.0.2.12: {WHY}: it gets no traffic"]
    assert bed.heard == [{("a", "192.0.2.12"): WHY}]
    bed.look("192.0.2.1")
    assert bed.told[1:] == ["loop a/192.0.2.12: it no longer leads back to this host"]
    assert bed.heard[1:] == [{}]


def test_a_listener_in_front_of_another_is_none(bed):
    """T10: a service that goes on to another's listener leads nowhere back."""
    bed.look("192.0.2.11")
    assert bed.heard == [{("a", "192.0.2.11"): WHY.replace("12", "11")}]


def test_a_backend_that_leads_back_is_removed(bed):
    """R7: of a backend that is not listed any more nothing is told."""
    bed.look("192.0.2.12")
    service = bed.running.services["a"]
    bed.running.replace(service.model_copy(update={"backends": service.backends[:1]}))
    bed.look("192.0.2.12")
    assert len(bed.told) == 1
    assert bed.heard[1:] == [{}]


def test_without_a_wildcard_nobody_looks(tmp_path):
    """A service that listens on one address is judged by its file alone: the host's addresses are not asked for."""
    bed = Bed(tmp_path / "f.toml", "192.0.2.1")
    bed.look("192.0.2.11", "192.0.2.12")
    assert (bed.asked, bed.heard) == (0, [])
