"""`steelyard top` before a real daemon on loopback: a backend dies, an operator acts, the daemon goes and comes back."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.cli.source import SocketSource
from proxy.dashboard.text import plain
from tests.e2e.loopback import (
    Asker,
    Backend,
    Node,
    connected,
    dns_service,
    echo_service,
    exchange,
    free_port,
    lift_loopback,
)
from tests.proxy.dashboard.driving import driving
from tests.terminal import Terminal


class Bed:
    """A daemon with a DNS and a TCP service over two backends."""

    def __init__(self, directory: Path) -> None:
        lift_loopback()
        self.backends = [Backend() for _ in range(2)]
        self.names, self.echo = free_port(), free_port()
        text = dns_service(self.names, self.backends) + echo_service(self.echo, self.backends)
        self.node = Node(directory, text).start()

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
    terminal.until("no answer within 150 ms")
    terminal.until("dns/b1")  # the event
    terminal.press(" ")
    bed.backends[1].silent = False
    bed.node.until(lambda status: status["services"][0]["state"] == "up", "the backend to be back")
    terminal.until("2/2")
    bed.node.end()
    terminal.press(" ")
    terminal.until("No answer, trying again")
    terminal.until("is the daemon running?")
    terminal.press(" ")
    bed.node.start()
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
    asker = Asker(bed.names)
    asker.ask(20)
    with connected(bed.echo) as client, connected(bed.echo) as other:
        for sock in (client, other):
            assert exchange(sock, b"word") == b"word"
        async with driving((120, 60), source=SocketSource(str(bed.node.socket))) as top:
            await top.press("end", "enter")
            await top.until(lambda: "Connected: 1" in top.text)
            assert any(f"127.0.0.1:{sock.getsockname()[1]} " in top.text for sock in (client, other))
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
        async with driving((120, 60), source=source, writable=True) as top:
            await top.press("home", "down", "d")
            await top.until(lambda: "Drain dns/b0 on n" in top.text)
            await top.press("y")
            await top.until(lambda: "● drain" in top.text)
            assert backends(0)["b0"]["admin"] == "drain"
            await top.press("home", "down", "m", "y")  # what can serve is first
            await top.until(lambda: "maint dns/b1 on n: " in plain(top.app._bottom(500)))
            assert backends(0)["b1"]["admin"] == "ready"
            await top.press("down", "r", "y")
            await top.until(lambda: "● drain" not in top.text)
            await top.press("home", "down", "w", "7", "enter")
            await top.until(lambda: "weight dns/b0 on n: changed" in top.text)
            assert backends(0)["b0"]["weight"] == 7
            await top.press("end", "a", *f"127.0.0.1:{added.port}", "enter")
            await top.until(lambda: f"  127.0.0.1:{added.port}" in "\n".join(top.screen[4:20]))
            assert f"127.0.0.1:{added.port}" in backends(1)
            await top.press("end", "x")
            await top.until(lambda: f"Remove echo/127.0.0.1:{added.port} on n" in top.text)
            await top.press("y")
            await top.until(lambda: f"  127.0.0.1:{added.port}" not in "\n".join(top.screen[4:20]))
    finally:
        added.close()
