"""`steelyard top` before a real daemon on loopback: a backend dies, an operator acts, the daemon goes and comes back."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from proxy.cli.source import SocketSource
from tests.e2e.loopback import PROBE, Backend, Node, asker, connected, exchange, free_port, lift_loopback, settled
from tests.e2e.process import until
from tests.proxy.dashboard.driving import driving
from tests.terminal import Terminal

PATIENT = 'interval = "800ms", fast-interval = "800ms", down-interval = "800ms", timeout = "800ms"'


class Bed:
    """A daemon with a DNS and a TCP service over two backends."""

    def __init__(self, directory: Path) -> None:
        lift_loopback()
        self.backends = [Backend() for _ in range(2)]
        self.names, self.echo = free_port(), free_port()
        rows = ", ".join(
            f'{{ name = "b{at}", address = "127.0.0.1", port = {one.port} }}' for at, one in enumerate(self.backends)
        )
        probe = f'probe = {{ type = "dns", query = "{PROBE} A", transport = "udp", {PATIENT} }}\nbackends = [{rows}]\n'
        text = (
            f'[service.dns]\nlisten = ["127.0.0.1:{self.names}/udp"]\nprotocol = "dns"\n{probe}'
            f'[service.echo]\nlisten = ["127.0.0.1:{self.echo}/tcp"]\n{probe}'
        )
        self.node = Node(directory, text)
        self.start()

    def start(self) -> None:
        """Start the daemon, and wait until it serves."""
        self.node.start(ready=False)
        until(self.node.socket.exists, 60, "the control socket")
        self.node.until(settled, "the daemon to be ready", 60)

    def close(self) -> None:
        """End all of it."""
        self.node.end()
        for one in self.backends:
            one.close()


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[Bed]:
    """Run the daemon."""
    made = Bed(tmp_path)
    yield made
    made.close()


def test_a_backend_dies_and_the_daemon_too(bed: Bed) -> None:
    """On a terminal top shows a backend that dies, with the probe's reason, and returns; and a daemon that does the same."""
    terminal = Terminal("top", "-s", bed.node.socket, size=(40, 120))
    terminal.until("▾ echo")
    bed.backends[1].silent = True
    terminal.until("✖ down")
    terminal.until("within 0.8 s")
    terminal.until("dns/b1")  # the event
    terminal.forget()
    bed.backends[1].silent = False
    bed.node.until(lambda status: status["services"][0]["state"] == "up", "the backend to be back")
    terminal.until("2/2")
    bed.node.end()
    terminal.forget()
    terminal.until("No answer, trying again")
    terminal.until("is the daemon running?")
    terminal.forget()
    bed.start()
    terminal.until("▾ dns")
    terminal.press("q")
    assert terminal.end() == 0


def test_one_look(bed: Bed) -> None:
    """`--once` prints what the daemon serves; `--json` its snapshot; both say so when there is none."""
    code, text = bed.node.steelyard("top", "--once")
    assert code == 0
    assert f"127.0.0.1:{bed.echo}/tcp" in text
    assert "b1" in text
    code, text = bed.node.steelyard("top", "--json")
    assert [service["name"] for service in json.loads(text)["services"]] == ["dns", "echo"]
    bed.node.end()
    code, text = bed.node.steelyard("top", "--once")
    assert (code, "is the daemon running?" in text) == (3, True)


async def test_all_of_one_backend(bed: Bed) -> None:
    """A backend's page has its latencies, its probes one by one, and who is connected to it now."""
    with ExitStack() as stack:
        stack.enter_context(asker(bed.names)).ask(20)
        clients = [stack.enter_context(connected(bed.echo)) for _ in range(12)]
        for sock in clients:
            assert exchange(sock, b"word") == b"word"
        async with driving((120, 60), source=SocketSource(str(bed.node.socket)), clock=time.time) as top:
            await top.press("end", "enter")
            await top.until(lambda: any(f"127.0.0.1:{sock.getsockname()[1]} " in top.text for sock in clients))
            await top.until(lambda: top.text.count("● ok") >= 3)
            await top.press("escape", "home", "down", "enter")
            await top.until(lambda: "dns / b" in top.screen[0])
            await top.until(lambda: "Latency of the last minute in ms, " in top.text)


async def test_an_operator_acts(bed: Bed) -> None:
    """With --rw each act changes the daemon, is confirmed first, and is seen on the screen; a refusal is shown."""
    source = SocketSource(str(bed.node.socket))
    added = Backend()

    def backends(service: int) -> dict[str, dict[str, object]]:
        return {one["name"]: one for one in bed.node.fresh()["services"][service]["backends"]}

    try:
        async with driving((120, 60), source=source, writable=True, clock=time.time) as top:
            await top.press("home", "down", "d")
            await top.until(lambda: "Drain dns/b0 on n" in top.text)
            await top.press("y")
            await top.until(lambda: "● drain" in top.text)
            assert backends(0)["b0"]["admin"] == "drain"
            await top.press("home", "down", "down", "m")
            await top.until(lambda: "Maint dns/b1 on n" in top.text)
            await top.press("y")
            await top.until(lambda: "maint dns/b1 on n: " in top.screen[-1])
            assert backends(0)["b1"]["admin"] == "ready"
            await top.press("up", "r")
            await top.until(lambda: "Ready dns/b0 on n" in top.text)
            await top.press("y")
            await top.until(lambda: "● drain" not in top.text)
            await top.press("home", "down", "w")
            await top.until(lambda: "Weight dns/b0 on n" in top.text)
            await top.press("7", "enter")
            await top.until(lambda: "weight dns/b0 on n: changed" in top.text)
            assert backends(0)["b0"]["weight"] == 7
            await top.press("end", "a", *f"127.0.0.1:{added.port}")
            await top.until(lambda: f"127.0.0.1:{added.port}" in top.text)
            await top.press("enter")
            await top.until(lambda: f"  127.0.0.1:{added.port}" in "\n".join(top.screen[4:20]))
            assert f"127.0.0.1:{added.port}" in backends(1)
            await top.until(lambda: "3/3" in top.text)
            await top.press("end", "x")
            await top.until(lambda: f"Remove echo/127.0.0.1:{added.port} on n" in top.text)
            await top.press("y")
            await top.until(lambda: f"  127.0.0.1:{added.port}" not in "\n".join(top.screen[4:20]))
    finally:
        added.close()
