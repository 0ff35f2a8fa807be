"""The PROXY headers that speak for ourselves."""

import socket

import pytest

from health.probes import proxyheader


@pytest.mark.parametrize(("host", "family"), [("127.0.0.1", "TCP4"), ("::1", "TCP6")])
def test_version_1(host: str, family: str) -> None:
    """T22: version 1 names our own connection's addresses and ports, for Postfix refuses UNKNOWN."""
    with (
        socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as listener,
        socket.create_connection(listener.getsockname()[:2]) as opened,
    ):
        ours, theirs = opened.getsockname()[1], listener.getsockname()[1]
        line = f"PROXY {family} {host} {host} {ours} {theirs}"
        assert proxyheader.build("v1", opened) == (f"{line}\r\n".encode(), line)


def test_version_2() -> None:
    """T22: version 2 is the command LOCAL without addresses, 16 bytes (PROXY protocol, section 2.2)."""
    with socket.socket() as opened:
        header, words = proxyheader.build("v2", opened)
    assert header == bytes.fromhex("0d0a0d0a000d0a515549540a 20 00 0000")
    assert words == "PROXY v2 LOCAL"
