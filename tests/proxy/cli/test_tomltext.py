"""proxy.cli.tomltext: the effective configuration as a file."""

import tomllib

from proxy.cli.tomltext import effective_file
from proxy.config import load

FILE = """
nodes = ["lb1", "lb2"]
[node]
state-dir = "/var/lib/steelyard"
[vrrp.inside]
interface = "eth1"
vrid      = 52
priority  = { lb1 = 150, lb2 = 100 }
addresses = ["10.0.0.10/24", "2001:db8:10::10/64"]
members   = { lb1 = ["10.0.0.2", "2001:db8:10::2"], lb2 = ["10.0.0.3", "2001:db8:10::3"] }
track     = [{ service = "*", penalty = 60 }]
[sync-group.all]
vrrp = ["inside"]
[probe.gateway]
type    = "ping"
address = "198.51.100.1"
[service.dns]
listen   = ["inside:53/udp", "inside:53/tcp"]
protocol = "dns"
backends = ["10.0.0.11", "10.0.0.12:5353", "[2001:db8::1]:53"]
allow    = ["10.0.0.0/16", "2001:db8::/48"]
eject    = { errors = 5, max-share = "25%" }
probe    = { type = "dns", query = "example.net SOA", max-serial-lag = 10 }
[service.ldap]
listen   = ["*:389,636/tcp"]
backends = [{ address = "10.0.0.21", weight = 3 }, { address = "10.0.0.22", name = "ds2", admin = "drain" }]
tcp      = { idle-timeout = "never", connect-timeout = "1500ms" }
probe    = [
  { type = "ldap", port = 389, tls = "starttls", tls-name = "ldap.example.net", base = "dc=example,dc=net", max-lag = "60s" },
  { type = "tcp", port = 636, send = "a\\r\\n\\"\\u007f\\\\ \\u00e9" },
]
"""


def test_what_is_printed_is_the_same_configuration(tmp_path):
    """The printed file loads again, and means the same: routers, probes, durations, shares, strange characters."""
    first, second = tmp_path / "first.toml", tmp_path / "second.toml"
    first.write_text(FILE)
    before = load(first, node="lb1")
    second.write_text(effective_file(before.model_dump(mode="json", by_alias=True)))
    after = load(second, node="lb1")
    said = {"sources", "sha256"}
    assert after.model_dump(exclude=said) == before.model_dump(exclude=said)


def test_a_path_cannot_break_out_of_its_comment():
    """A file name with a line break stays in its comment."""
    text = effective_file({"sources": ["/tmp/x\n[service.forged]"], "sha256": "ab"})
    assert tomllib.loads(text) == {}
