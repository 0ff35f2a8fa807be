"""proxy.host.service_manager: the half of systemd's protocol that a service speaks."""

import array
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.host import service_manager
from proxy.host.service_manager import BATCH, WAITING, ServiceManager

ROOT = Path(service_manager.__file__).resolve().parents[2]


def descriptors():
    """Return the names of this process's descriptors."""
    return sorted(one.name for one in Path("/proc/self/fd").iterdir())


class Manager:
    """The receiving end: a bound datagram socket, abstract if the address begins with "@"."""

    def __init__(self, address):
        self.address = str(address)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + self.address[1:] if self.address.startswith("@") else self.address)
        self.socket.setblocking(False)

    def read(self):
        """Return the messages that wait, each with the number of its descriptors, which are closed."""
        found = []
        while True:
            try:
                data, ancillary, _, _ = self.socket.recvmsg(4096, socket.CMSG_SPACE(256 * 4))
            except BlockingIOError:
                return found
            fds = array.array("i")
            for _, _, part in ancillary:
                fds.frombytes(part)
            for fd in fds:
                os.close(fd)
            found.append((data.decode(), len(fds)))

    def texts(self):
        """Return the messages that wait."""
        return [text for text, _ in self.read()]


@pytest.fixture
def manager(tmp_path):
    one = Manager(tmp_path / "notify")
    yield one
    one.socket.close()


@pytest.fixture
def service(manager):
    one = ServiceManager(manager.address, watchdog=10.0, kept=64)
    yield one
    one.close()


def test_without_a_manager_nothing_happens():
    """Without a service manager every method does nothing, and no descriptor is opened."""
    before = descriptors()
    service = ServiceManager.from_environment({"NOTIFY_SOCKET": "relative", "FDSTORE": "9"})
    service.ready("up")
    service.pulse(1.0)
    service.store("listeners", [0])
    service.unstore("listeners")
    assert not service.present
    assert not service.keeps_descriptors
    assert service.watchdog_interval is None
    assert service.environment() == {"FDSTORE": "9"}
    assert descriptors() == before


def test_messages(manager, service):
    """Each report is one datagram of assignments, as sd_notify(3) names them, a time in microseconds."""
    service.ready("serving")
    service.notify(mainpid=77, stopping=True, extend=1.5, status="bye")
    service.notify(stopping=True, extend=float("inf"))
    service.notify()
    assert manager.texts() == [
        "READY=1\nSTATUS=serving",
        "MAINPID=77\nSTOPPING=1\nEXTEND_TIMEOUT_USEC=1500000\nSTATUS=bye",
        "STOPPING=1\nEXTEND_TIMEOUT_USEC=1000000000000000",
    ]


def test_a_reload_has_its_time(manager, service, monkeypatch):
    """A reload is reported with the time of CLOCK_MONOTONIC, by which systemd knows that it began after the signal."""
    monkeypatch.setattr(service_manager.time, "monotonic_ns", lambda: 12_345_678)
    service.reloading()
    assert manager.texts() == ["RELOADING=1\nMONOTONIC_USEC=12345"]


def test_a_status_is_one_line_and_sent_once(manager, service):
    """A status is sent when it changes, and what a stranger wrote into it is no assignment of its own."""
    service.say("bad banner: x\nMAINPID=1")
    service.say("bad banner: x\nMAINPID=1")
    service.say("good")
    assert manager.texts() == ["STATUS=bad banner: x MAINPID=1", "STATUS=good"]


def test_an_abstract_socket(tmp_path):
    """An address that begins with @ is a name in the abstract namespace."""
    address = f"@steelyard-test-{os.getpid()}-{tmp_path.name}"
    manager = Manager(address)
    service = ServiceManager.from_environment({"NOTIFY_SOCKET": address})
    service.ready()
    assert manager.texts() == ["READY=1"]
    assert service.environment() == {"NOTIFY_SOCKET": address}
    service.close()
    manager.socket.close()


def test_signs_of_life_come_at_half_of_the_patience(manager, service):
    """A sign of life is sent every half of the manager's patience, however often the master asks."""
    assert service.watchdog_interval == 5.0
    for now in (100.0, 100.1, 104.9, 105.0, 105.1, 110.1):
        service.pulse(now)
    assert manager.texts() == ["WATCHDOG=1"] * 3


def test_a_manager_that_does_not_read(manager, service):
    """A manager that does not read delays nobody: what matters waits for it in order, what is repeated is dropped."""
    sent = 0
    while service._send(service_manager._Message(b"STATUS=flood", ())):
        sent += 1
    service.ready("up")
    reading, writing = os.pipe()
    service.store("pipe", [reading])
    os.close(reading)
    service.say("more")
    service.pulse(1.0)
    assert manager.texts() == ["STATUS=flood"] * sent
    service.pulse(2.0)
    assert manager.read() == [
        ("READY=1\nSTATUS=up", 0), ("FDSTORE=1\nFDNAME=pipe\nFDPOLL=0", 1), ("WATCHDOG=1", 0)
    ]  # fmt: skip
    os.close(writing)


def test_what_waits_is_bounded(manager, service):
    """At most so many messages wait, and none of their descriptors stays open."""
    while service._send(service_manager._Message(b"STATUS=flood", ())):
        pass
    before = len(descriptors())
    for number in range(WAITING + 10):
        service.store("zero", [0]) if number % 2 else service.ready()
    assert len(service._waiting) == WAITING
    service.close()
    assert len(descriptors()) < before
    assert manager.read()


def test_a_manager_that_is_gone_is_no_error(manager, service):
    """A manager that has gone is no error, and nothing waits for it."""
    service.ready()
    manager.socket.close()
    service.ready()
    Path(manager.address).unlink()
    service.ready()
    assert not service._waiting


def test_descriptors_are_stored_in_batches(manager, service):
    """Descriptors are stored in batches that one message can carry, under one name, and removed by it."""
    service.store("members", [0] * (BATCH + 1))
    service.unstore("members")
    text = "FDSTORE=1\nFDNAME=members\nFDPOLL=0"
    assert manager.read() == [(text, BATCH), (text, 1), ("FDSTOREREMOVE=1\nFDNAME=members", 0)]


@pytest.mark.parametrize("name", ["", "a:b", "a b", "a\nb", "x" * 25, "ü"])
def test_names_that_do_not_come_back_are_refused(service, name):
    """A name that the manager could not give back is refused."""
    with pytest.raises(ValueError, match="cannot name descriptors"):
        service.store(name, [0])


def test_a_manager_without_a_store_gets_nothing(manager):
    """A manager that keeps no descriptors is not sent any."""
    service = ServiceManager.from_environment({"NOTIFY_SOCKET": manager.address})
    assert service.present
    assert not service.keeps_descriptors
    service.store("members", [0])
    service.unstore("members")
    assert manager.read() == []
    service.close()


def test_the_environment_is_taken_away(manager):
    """No child finds the manager in its environment, and a successor of the daemon gets what it needs."""
    environ = {
        "NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid()), "FDSTORE": "512",
        "LISTEN_PID": "1", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "a:b", "PATH": "/bin",
    }  # fmt: skip
    service = ServiceManager.from_environment(environ)
    assert environ == {"PATH": "/bin"}
    assert service.environment() == {
        "NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "3000000", "FDSTORE": "512"
    }  # fmt: skip
    assert service.keeps_descriptors
    assert service.restored == {}


@pytest.mark.parametrize(
    ("environ", "interval"),
    [
        ({"WATCHDOG_USEC": "3000000"}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-3"}, None),
        ({"WATCHDOG_USEC": "³"}, None),
        ({}, None),
    ],
)
def test_a_watchdog_for_others_is_ignored(environ, interval):
    """A watchdog that means another process, or makes no sense, is none."""
    assert ServiceManager.from_environment({"NOTIFY_SOCKET": "/x", **environ}).watchdog_interval == interval


RESTORED = """
import fcntl, os, sys
from proxy.host.service_manager import ServiceManager
os.environ["LISTEN_PID"] = {pid}
service = ServiceManager.from_environment(os.environ)
print(service.restored, all(fcntl.fcntl(fd, fcntl.F_GETFD) for fds in service.restored.values() for fd in fds))
"""


def restored(pid="str(os.getpid())", fds=3, **environ):
    """Return what a process restores that has three descriptors from 3 on."""

    def place():
        for fd in range(3, 3 + fds):
            os.dup2(0, fd)

    done = subprocess.run(
        [sys.executable, "-c", RESTORED.format(pid=pid)], cwd=ROOT, env=os.environ | environ, close_fds=False,
        preexec_fn=place, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, timeout=20,
    )  # fmt: skip
    return done.stdout.strip()


def test_kept_descriptors_come_back():
    """Descriptors that the manager kept come back by name, in their order, and no child inherits them."""
    assert restored(LISTEN_FDS="3", LISTEN_FDNAMES="state:member:member") == "{'state': [3], 'member': [4, 5]} True"


def test_descriptors_without_names():
    """Without as many names as descriptors, all are unknown."""
    assert restored(LISTEN_FDS="3", LISTEN_FDNAMES="state:member") == "{'unknown': [3, 4, 5]} True"
    assert restored(LISTEN_FDS="3") == "{'unknown': [3, 4, 5]} True"


def test_descriptors_of_others_are_left_alone():
    """Descriptors that are meant for another process, and those that are not open, are none."""
    assert restored(pid="'1'", LISTEN_FDS="3") == "{} True"
    assert restored(LISTEN_FDS="9999999") == "{} True"
    assert restored(fds=1, LISTEN_FDS="200", LISTEN_FDNAMES=":".join(["a"] + ["b"] * 199)).startswith("{'a': [3]")
