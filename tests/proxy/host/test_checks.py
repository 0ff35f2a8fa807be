"""What `check --host` finds, on hosts that the test describes."""

import pytest

from proxy.config import load
from proxy.host import checks
from proxy.host.checks import findings, sysctl
from proxy.relay.sockets.outgoing import RECEIVE_BUFFER

FILE = """
[service.dns]
listen   = ["192.0.2.1:53/udp", "192.0.2.1:53/tcp"]
protocol = "dns"
backends = ["192.0.2.11"]

[service.web]
listen   = ["[2001:db8::1]:40000/tcp"]
backends = ["192.0.2.12:80"]
"""
OURS = {"192.0.2.2", "2001:db8::2"}
GOOD = {
    "net.core.rmem_max": str(RECEIVE_BUFFER),
    "net.core.somaxconn": "4096",
    "net.ipv4.tcp_tw_reuse": "1",
    "net.ipv4.ip_local_port_range": "32768\t60999",
    "net.ipv4.ip_local_reserved_ports": "39990-40001",
    "net.ipv4.ip_unprivileged_port_start": "1024",
    "net.ipv6.conf.all.disable_ipv6": "0",
    "net.netfilter.nf_conntrack_count": "100",
    "net.netfilter.nf_conntrack_max": "262144",
}


@pytest.fixture
def config(tmp_path):
    """Return the configuration of FILE."""
    path = tmp_path / "steelyard.toml"
    path.write_text(FILE)
    return load(path)


def found(config, held=(), files=10_000, root=True, **sysctls):
    """Return what is said of a host that is good but for this."""
    values = GOOD | {name.replace("__", "."): value for name, value in sysctls.items()}
    return [
        finding.message
        for finding in findings(config, values.__getitem__, lambda _: dict(held), files, OURS.__contains__, root=root)
    ]


def test_a_good_host(config):
    """Of a host where all is well nothing is said, and nothing of the daemon that runs there."""
    assert found(config) == []
    assert found(config, held={("udp", "192.0.2.1", 53): "steelyard (pid 7)"}) == []


@pytest.mark.parametrize(
    ("sysctls", "words"),
    [
        ({"net__core__rmem_max": "212992"}, "net.core.rmem_max = 212992: a burst"),
        ({"net__ipv4__tcp_tw_reuse": "0"}, "local ports run out above 470 new connections a second"),
        ({"net__ipv4__tcp_tw_reuse": "2"}, "local ports run out above 470 new connections a second"),
        ({"net__core__somaxconn": "128"}, "fewer connections than tcp.backlog = 4096"),
        ({"net__ipv4__ip_local_reserved_ports": ""}, "port 40000 is one of net.ipv4.ip_local_port_range"),
        ({"net__ipv6__conf__all__disable_ipv6": "1"}, "IPv6 is off on this host"),
        ({"net__netfilter__nf_conntrack_count": "262000"}, "tracks 262000 connections of at most 262144"),
        ({"root": False}, "port 53 is privileged"),
        ({"files": 500}, "the limit of open files is 500"),
        ({"held": {("tcp", "192.0.2.1", 53): "named (pid 7)"}}, "192.0.2.1:53/tcp is in use by named (pid 7)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_unwise(config, sysctls, words):
    """T19: each thing that would hurt is one warning, that local ports run out among them."""
    (message,) = found(config, **sysctls)
    assert words in message


def test_sources_that_the_host_does_not_have(config, tmp_path):
    """An address to connect from that the host does not have is a warning, once; one that it has is none."""
    path = tmp_path / "steelyard.toml"
    path.write_text(FILE.replace("[service.web]", 'source-addresses = ["192.0.2.2", "192.0.2.3"]\n[service.web]'))
    (message,) = found(load(path))
    assert message == "[service.dns] must connect from 192.0.2.3, which this host does not have"


def test_a_kernel_without_any(config):
    """Sysctls that a kernel does not have are no reason to warn, but for IPv6, which is then missing as a whole."""
    assert [
        message[:11] for message in found(config, **dict.fromkeys((name.replace(".", "__") for name in GOOD), ""))
    ] == ["IPv6 is off"]


def test_the_host_that_this_runs_on(config):
    """Looking at a real host reads sysctls, and each finding has a hint."""
    assert sysctl("net.ipv4.ip_local_port_range").split()[0].isdecimal()
    assert sysctl("net.no.such.name") == ""
    assert all(finding.hint and "host: warning: " in str(finding) for finding in checks.look(config))


def test_backends_that_lead_back(tmp_path):
    """A backend at an address of this host is a warning where a listener on every address answers there, and only there."""
    path = tmp_path / "steelyard.toml"
    text = "[service.a]\nlisten = ['{}:80/tcp']\nbackends = ['192.0.2.2', '192.0.2.3']\n"
    path.write_text(text.format("*"))
    (message,) = found(load(path))
    assert message.startswith("[service.a]: 192.0.2.2 is a listener of this service itself")
    path.write_text(text.format("192.0.2.1"))
    assert found(load(path)) == []
