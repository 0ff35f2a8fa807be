"""Clients' subnets behind real DNS software: dnsdist answers by the network that a query names."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.loopback import QUICK, Node, free_port, lift_loopback
from tests.e2e.process import Proc, program

CONF = """setLocal("127.0.0.1:{port}")
setACL({{"127.0.0.0/8"}})
setSecurityPollSuffix("")
newServer("127.0.0.1:9")
addAction(AllRule(), LuaAction(function(dq)
  local subnet = dq:getEDNSOptions()[EDNSOptionCode.ECS]
  if subnet == nil or subnet:count() == 0 then return DNSAction.Spoof, "192.0.2.255" end
  return DNSAction.Spoof, string.format("192.0.2.%d", string.byte(subnet:getValues()[1], 7))
end))
"""


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """A daemon in front of a dnsdist whose answer is 192.0.2.N, N being the third octet of the client's network."""
    lift_loopback()
    backend, service = free_port(), free_port()
    (tmp_path / "dnsdist.conf").write_text(CONF.format(port=backend))
    command = [program("dnsdist"), "--supervised", "--disable-syslog", "-C", str(tmp_path / "dnsdist.conf")]
    proc = Proc("dnsdist", command, tmp_path / "dnsdist.log")
    node = Node(
        tmp_path,
        f'[service.dns]\nlisten = ["127.0.0.1:{service}/udp"]\nprotocol = "dns"\nbackends = ["127.0.0.1:{backend}"]\n'
        f'dns = {{ client-subnet = "on" }}\nprobe = {{ type = "dns", query = "www.example.net A", {QUICK} }}\n',
    )
    try:
        node.start()
        node.until(lambda s: s["services"][0]["backends"][0]["state"] == "up", "dnsdist to be up")
        yield service
    finally:
        node.end()
        proc.kill()


def dig(port: int, *words: str, source: str = "127.0.77.7") -> str:
    """Query from this address; return the output of dig."""
    command = [
        program("dig"),
        "-b",
        source,
        "-p",
        str(port),
        "@127.0.0.1",
        "+tries=1",
        "+time=3",
        *words,
        "www.example.net",
    ]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=20).stdout


def test_answers_by_network(port: int) -> None:
    """The server answers by the client's own network, or by the one that the client names; dig finds nothing odd in it."""
    plain = dig(port, "+noedns")
    assert "192.0.2.77" in plain
    assert "OPT PSEUDOSECTION" not in plain
    assert "192.0.2.78" in dig(port, "+noedns", source="127.0.78.7")
    edns = dig(port, "+edns=0", "+nocookie")
    assert "192.0.2.77" in edns
    assert "OPT PSEUDOSECTION" in edns
    assert "CLIENT-SUBNET" not in edns
    assert "192.0.2.100" in dig(port, "+subnet=198.51.100.0/24")
    for answer in (plain, edns):
        assert "WARNING" not in answer
        assert "malformed" not in answer
