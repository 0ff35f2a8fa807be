"""source-addresses in a daemon: the source of connections to backends, and the effect of a missing address."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.loopback import Backend, Node, connected, echo_service, exchange, free_port, lift_loopback
from tests.proxy.relay.streams import RESET, read

OURS, NOBODYS = ("127.0.0.21", "127.0.0.22"), "203.0.113.99"


@pytest.fixture
def backend() -> Iterator[Backend]:
    """An echo server."""
    lift_loopback()
    one = Backend()
    yield one
    one.close()


def sources(*addresses: str) -> str:
    """Return the line of the file."""
    return f"source-addresses = [{', '.join(map(repr, addresses))}]\ntcp = {{ connect-timeout = '300ms' }}\n"


def test_a_daemon_connects_from_them_in_turn(tmp_path: Path, backend: Backend) -> None:
    """Every worker of a daemon connects to the backend from each of the addresses."""
    port = free_port()
    node = Node(tmp_path, echo_service(port, [backend], sources(*OURS, NOBODYS)), workers=1).start()
    try:
        seen = set()
        for _ in range(4):
            with connected(port) as sock:
                assert exchange(sock, b"x") == b"x"
                seen |= {one.getpeername()[0] for one in backend._open if one.fileno() >= 0}
        assert seen - {"127.0.0.1"} == set(OURS)
        assert node.fresh()["services"][0]["counters"]["no_source_address"] == 0
    finally:
        node.end()


def test_an_address_that_the_host_does_not_have(tmp_path: Path, backend: Backend) -> None:
    """`run` starts, `check --host` warns; clients are reset and counted, and the backend stays up without errors."""
    port = free_port()
    node = Node(tmp_path, echo_service(port, [backend], sources(NOBODYS)), workers=1).start()
    try:
        with connected(port) as sock:
            assert read(sock) == (b"", RESET)
        (service,) = node.fresh()["services"]
        assert service["counters"]["no_source_address"] >= 1
        assert service["backends"][0]["state"] == "up"
        assert not any(service["backends"][0]["errors"].values())
        checked = subprocess.run(
            [sys.executable, "-m", "proxy", "check", "--host", str(node.file)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert f"[service.echo] must connect from {NOBODYS}, which this host does not have" in checked.stderr
    finally:
        node.end()
