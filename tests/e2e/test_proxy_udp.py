"""PROXY headers over UDP between real DNS software: dnsdist in front, unbound and dnsdist behind."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.loopback import QUICK, Node, free_port, lift_loopback
from tests.e2e.process import Proc, program, until
from tests.e2e.servers import unbound_binary

CLIENT, OTHER = "127.0.0.7", "127.0.0.8"


class Site:
    """dnsdist, `steelyard run` and unbound in a row; each sends the client's address to the next."""

    def __init__(self, directory: Path) -> None:
        self.dir = directory
        self.front, self.service, self.backend, self.second = (free_port() for _ in range(4))
        self.procs: list[Proc] = []

    def unbound(self) -> Proc:
        """Start unbound, which accepts only queries with PROXY headers and logs their clients."""
        (self.dir / "unbound.conf").write_text(f"""server:
  interface: 127.0.0.1@{self.backend}
  proxy-protocol-port: {self.backend}
  username: ""
  chroot: ""
  directory: "{self.dir}"
  pidfile: ""
  use-syslog: no
  logfile: ""
  do-daemonize: no
  num-threads: 1
  module-config: "iterator"
  log-queries: yes
  access-control: 0.0.0.0/0 allow
  access-control: {OTHER}/32 refuse
  local-zone: example.net. static
  local-data: "www.example.net. 60 IN A 192.0.2.80"
remote-control:
  control-enable: no
""")
        return self._run("unbound", [str(unbound_binary(self.dir)), "-d", "-c", str(self.dir / "unbound.conf")])

    def dnsdist(self, port: int, to: int, *, receives: bool = False) -> Proc:
        """Start dnsdist on a port; it either forwards with PROXY headers, or accepts them and forwards without."""
        name = f"dnsdist-{port}"
        (self.dir / f"{name}.conf").write_text(f"""setLocal("127.0.0.1:{port}")
setACL({{"127.0.0.0/8"}})
setProxyProtocolACL({{{'"127.0.0.1/32"' if receives else ""}}})
setSecurityPollSuffix("")
newServer({{address="127.0.0.1:{to}", useProxyProtocol={str(not receives).lower()}}})
getServer(0):setUp()
addAction("refused.example.net", RCodeAction(DNSRCode.REFUSED))
addAction(AndRule({{QNameRule("mine.example.net"), makeRule("{CLIENT}/32")}}), SpoofAction("192.0.2.7"))
""")
        command = [program("dnsdist"), "--supervised", "--disable-syslog", "-C", str(self.dir / f"{name}.conf")]
        return self._run(name, command)

    def _run(self, name: str, command: list[str]) -> Proc:
        self.procs.append(Proc(name, command, self.dir / f"{name}.log"))
        return self.procs[-1]

    def node(self, *backends: int) -> Node:
        """Return the daemon, not started yet."""
        rows = ", ".join(f'{{ name = "b{port}", address = "127.0.0.1", port = {port} }}' for port in backends)
        return Node(
            self.dir,
            f'[service.dns]\nlisten = ["127.0.0.1:{self.service}/udp", "127.0.0.1:{self.service}/tcp"]\n'
            f'protocol = "dns"\nbackends = [{rows}]\nsend-proxy = "v2"\naccept-proxy = ["127.0.0.1/32"]\n'
            f'probe = {{ type = "dns", query = "www.example.net A", {QUICK} }}\n',
        )

    def dig(self, port: int, *words: str, source: str = CLIENT, name: str = "www.example.net") -> str:
        """Query from this address; return the output of dig."""
        command = [program("dig"), "-b", source, "-p", str(port), "@127.0.0.1", "+tries=1", "+time=3", *words, name]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=20).stdout


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Processes on loopback, ended afterwards."""
    lift_loopback()
    one = Site(tmp_path)
    yield one
    for proc in one.procs:
        proc.kill()


@pytest.mark.parametrize("over", ["+notcp", "+tcp"])
def test_from_dnsdist_to_unbound(site: Site, over: str) -> None:
    """T22: the client's address in dnsdist's PROXY v2 header reaches unbound through the daemon, over UDP and TCP.

    unbound logs the client's own address, and refuses the one that its access control refuses; probes have headers as well.
    """
    unbound = site.unbound()
    site.dnsdist(site.front, site.service)
    node = site.node(site.backend).start()
    try:
        node.until(lambda s: s["services"][0]["backends"][0]["state"] == "up", "unbound to be up")
        until(lambda: "192.0.2.80" in site.dig(site.front, over), 10, "an answer through dnsdist")
        assert f"{CLIENT} www.example.net. A IN" in unbound.output()
        assert "status: REFUSED" in site.dig(site.front, over, source=OTHER)
        assert node.fresh()["services"][0]["counters"]["proxy_malformed"] == 0
    finally:
        node.end()


def test_dnsdist_as_the_receiver(site: Site) -> None:
    """T22: dnsdist behind the daemon accepts its headers: a rule for one client's address affects only that client."""
    site.unbound()
    site.dnsdist(site.front, site.service)
    site.dnsdist(site.second, site.backend, receives=True)
    node = site.node(site.second)
    # Its probes ask for a name that this dnsdist answers itself: unbound here wants headers, which it does not send on.
    node.text = node.text.replace('query = "www.example.net A"', 'query = "refused.example.net A", rcode = "REFUSED"')
    node.start()
    try:
        node.until(lambda s: s["services"][0]["backends"][0]["state"] == "up", "dnsdist to be up")
        for over in ("+notcp", "+tcp"):
            until(lambda over=over: "192.0.2.7" in site.dig(site.front, over, name="mine.example.net"), 10, "an answer")
            assert "192.0.2.7" not in site.dig(site.front, over, "+time=1", source=OTHER, name="mine.example.net")
    finally:
        node.end()


def test_who_comes_without_a_header(site: Site) -> None:
    """T22: a listed source that sends a bare query gets no answer, and is counted; with TCP it is reset."""
    site.unbound()
    node = site.node(site.backend).start()
    try:
        assert "192.0.2.80" not in site.dig(site.service, "+time=1", source="127.0.0.1")
        assert node.fresh()["services"][0]["counters"]["proxy_malformed"] == 1
        assert "192.0.2.80" in site.dig(site.service, source=CLIENT)  # not listed: a client like any other
    finally:
        node.end()
