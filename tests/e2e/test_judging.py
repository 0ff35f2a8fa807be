"""A pair of which one host cannot judge its service, because its own login is refused; with a real directory."""

import pytest

from tests.e2e.pairs import ADDRESS, SERVER, daemons
from tests.e2e.process import until
from tests.e2e.servers import Slapd

MORE = """
[service.ldap]
listen = ["outside:389/tcp"]
backends = ["{server}"]
[service.ldap.probe]
type = "ldap"
bind-dn = "cn=admin,dc=example,dc=net"
password-file = {{ a = "{wrong}", b = "{right}" }}
interval = "400ms"
fast-interval = "100ms"
timeout = "300ms"
"""


@pytest.mark.parametrize("penalty", ["", ", penalty = 60"])
def test_a_host_that_cannot_judge_leaves_the_address_to_one_that_can(tmp_path, penalty):
    """V11, V24, H8: a host whose login is refused from the start leaves the address to its peer, and serves without one."""
    for directory in (tmp_path, *tmp_path.parents):
        directory.chmod(0o755)
        if directory.name.startswith("pytest-of-") or directory.parent.parent == directory.parent:
            break
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    right.write_text("example")
    wrong.write_text("another")
    track = f'track = [{{ service = "ldap"{penalty} }}]'
    with daemons(vrrp=track, more=MORE.format(server=SERVER, wrong=wrong, right=right)) as pair:
        directory = Slapd(pair.bed, "server", [SERVER])
        pair.b.start(wait=False)
        pair.b.wait("active", 15)
        pair.a.start(wait=False)
        pair.a.wait("backup", 15)
        until(lambda: pair.a.router["peer"], 5, "a to hear b")
        unjudged = "service ldap cannot be judged"
        until(lambda: unjudged in pair.a.router["priority_parts"], 5, "the part")
        assert pair.a.router["effective_priority"] == (90 if penalty else 1)
        pair.steady("b", 5)  # the patience of a's start is over in between
        pair.b.daemon.proc.kill()
        pair.until_owner("a")
        pair.a.daemon.until(lambda status: status["services"][1]["state"] == "degraded", "the service to serve")
        search = [
            "ldapsearch",
            "-x",
            "-LLL",
            "-o",
            "nettimeout=5",
            "-H",
            f"ldap://{ADDRESS}",
            "-b",
            "dc=example,dc=net",
        ]
        assert "dc: example" in pair.bed.run("client", search, timeout=10).stdout
        wrong.write_text("example")
        until(lambda: unjudged not in pair.a.router["priority_parts"], 10, "the part to go")
        assert directory.proc.alive
