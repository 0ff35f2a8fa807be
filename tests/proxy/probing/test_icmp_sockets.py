"""Sockets to ping with."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from health.spec import PingProbe, TcpProbe
from proxy.probing import icmp_sockets


def config(*rows: tuple[str, object], **probes: object) -> SimpleNamespace:
    """Return what is looked at of a configuration; `probes` are those that routers track."""
    backends = [SimpleNamespace(address=address, probes=(probe,)) for address, probe in rows]
    return SimpleNamespace(services=[SimpleNamespace(backends=backends)], probes=probes)


def test_versions() -> None:
    """Only the versions of IP that are pinged over are wanted; a probe's own address counts before its backend's."""
    assert icmp_sockets.versions(config(("192.0.2.1", TcpProbe()))) == []
    assert icmp_sockets.versions(
        config(("192.0.2.1", PingProbe()), ("192.0.2.1", PingProbe(address="2001:db8::1")))
    ) == [
        4,
        6,
    ]


def test_versions_of_tracked_probes() -> None:
    """A gateway that routers track is pinged as well."""
    assert icmp_sockets.versions(config(gateway=PingProbe(address="198.51.100.1"))) == [4]
    assert icmp_sockets.versions(config(gateway=TcpProbe(address="198.51.100.1", port=1))) == []


def test_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A group within ping_group_range may ping, another may not; a kernel that says nothing allows nobody."""
    table = tmp_path / "range"
    monkeypatch.setattr(icmp_sockets, "_RANGE", table)
    assert not icmp_sockets.allowed(5)
    table.write_text("1\t0\n")
    assert not icmp_sockets.allowed(0)
    table.write_text("5\t9\n")
    assert [icmp_sockets.allowed(gid) for gid in (4, 5, 9, 10)] == [False, True, True, False]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs CAP_NET_RAW")
def test_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """S1: raw sockets are opened for who needs them and may not ping otherwise, and for nobody else."""
    monkeypatch.setattr(icmp_sockets, "allowed", lambda _: False)
    opened, why = icmp_sockets.sockets(config(("192.0.2.1", PingProbe())), 65534)
    assert ([one.family.name for one in opened], why) == (["AF_INET"], "")
    for one in opened:
        one.close()
    assert icmp_sockets.sockets(config(("192.0.2.1", TcpProbe())), 65534) == ([], "")
    monkeypatch.setattr(icmp_sockets, "allowed", lambda _: True)
    assert icmp_sockets.sockets(config(("192.0.2.1", PingProbe())), 65534) == ([], "")


def test_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """H13: where neither is possible, what keeps probes from pinging is told."""

    def refused(_: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(icmp_sockets, "allowed", lambda _: False)
    monkeypatch.setattr(icmp_sockets, "open_raw", refused)
    opened, why = icmp_sockets.sockets(config(("192.0.2.1", PingProbe())), 65534)
    assert opened == []
    assert "ping_group_range" in why
