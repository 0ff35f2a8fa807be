"""Any number of readers of the status cost the host neither its address nor its answers to an operator."""

import contextlib
import json
import socket
import threading
import time

from tests.e2e.daemon import Daemon, settled
from tests.e2e.vrrp import VIP, holders, owner_settles, pair

ADDRESS = VIP[4].partition("/")[0]
SERVICES, BACKENDS, READERS, SECONDS = 200, 10, 24, 5.0

ROUTER = f"""
[vrrp.outside]
interface = "eth0"
vrid = 51
addresses = ["{VIP[4]}"]
advert-interval = "100ms"
track = [{{ service = "*" }}]
"""
SERVICE = """
[service.s{number}]
listen = ["outside:{port}/tcp"]
backends = [{backends}]
probe = {{ type = "none" }}
"""


def read(daemon: Daemon, command: str, until: float, sizes: list[int]) -> None:
    """Request the status again and again without a pause."""
    while time.monotonic() < until:
        # One that comes while all places are taken is turned away.
        with contextlib.suppress(ConnectionError), socket.socket(socket.AF_UNIX) as control:
            control.settimeout(20)
            control.connect(str(daemon.socket))
            control.sendall(json.dumps({"command": command}).encode() + b"\n")
            with control.makefile("rb") as lines:
                sizes.append(len(lines.readline()))


def test_readers_delay_nobody():
    """R14: 24 readers of a status of 2,000 backends move no address, and others are answered meanwhile."""
    backends = ", ".join(f'"198.51.100.{100 + number}"' for number in range(BACKENDS))
    services = "".join(
        SERVICE.format(number=number, port=10_000 + number, backends=backends) for number in range(SERVICES)
    )
    with pair() as bed:
        daemon = Daemon(bed, "a", ROUTER + services, workers=1, patience=60, ready=settled)
        daemon.until(lambda status: status["vrrp"][0]["state"] == "active", "the address")
        assert owner_settles(bed, ADDRESS) == "a"
        moved = len([event for event in daemon.events() if event["kind"] == "vrrp"])
        until, sizes = time.monotonic() + SECONDS, []
        threads = [
            threading.Thread(target=read, args=(daemon, ("status", "config")[number % 4 == 3], until, sizes))
            for number in range(READERS)
        ]
        for thread in threads:
            thread.start()
        answered = 0
        while time.monotonic() < until:
            answer = daemon._ask("is-active")
            answered += answer.get("active", False)
            assert answer["ok"] or answer["code"] == "busy", answer  # the readers take all places now and then
            assert holders(bed, ADDRESS) == ["a"]
            time.sleep(0.1)
        for thread in threads:
            thread.join()
        assert answered >= 5
        assert sum(size > 100_000 for size in sizes) >= READERS
        assert [event["text"] for event in daemon.events() if event["kind"] == "vrrp"][moved:] == []
        assert daemon.status()["vrrp"][0]["state"] == "active"
