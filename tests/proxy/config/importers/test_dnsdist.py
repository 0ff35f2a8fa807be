"""dnsdist's configuration as services."""

import pytest

from proxy.config.importers.dnsdist import PRIVATE
from tests.proxy.config.importers.bed import bring, only

HEAD = "setLocal('10.0.0.10:53')\nnewServer('10.0.0.1')\nnewServer{address='10.0.0.2', order=2}\n"


def brought(text=""):
    return bring("dnsdist", HEAD + text)


def service(text=""):
    return only(brought(text).tables["service"])


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("", "listen", ["10.0.0.10:53/udp", "10.0.0.10:53/tcp"]),
        ("addLocal('[fd00::1]:5300')", "listen", ["10.0.0.10:53/udp", "10.0.0.10:53/tcp", "[fd00::1]:5300/udp", "[fd00::1]:5300/tcp"]),
        ("setLocal('0.0.0.0', {doTCP=false})", "listen", ["0.0.0.0:53/udp"]),
        ("", "protocol", "dns"),
        ("", "allow", PRIVATE),
        ("setACL('10.0.0.0/8')\naddACL({'fd00::/8', '10.0.0.1'})", "allow", ["10.0.0.0/8", "fd00::/8", "10.0.0.1/32"]),
        ("setACL({'0.0.0.0/0', '::/0'})", "allow", None),
        ("setServerPolicy(roundrobin)", "scheduler", "round-robin"),
        ("setServerPolicy(ServerPolicy.whashed)", "hash-on", "query-name"),
        ("setProxyProtocolACL({'10.0.0.5/32'})", "accept-proxy", ["10.0.0.5/32"]),
        ("setUDPTimeout(2)", "dns", {"give-up": "2s"}),
        ("setTCPRecvTimeout(5)", "dns", {"idle-timeout": "5s"}),
        ("setMaxUDPOutstanding(500)", "backend-defaults", {"max-outstanding": 500}),
        ("setMaxTCPConnectionsPerClient(9)", "max-connections-per-client", 9),
        ("addAction(MaxQPSIPRule(50), DropAction())", "rate-per-client", "50/s"),
        ("addAction(NetmaskGroupRule({'192.0.2.0/24'}), RCodeAction(DNSRCode.REFUSED))", "deny", ["192.0.2.0/24"]),
        ("addAction('192.0.2.0/24', DropAction())", "deny", ["192.0.2.0/24"]),
        ("n = newNMG()\nn:addMask('192.0.2.0/24')\naddAction(NetmaskGroupRule(n), DropAction())", "deny", ["192.0.2.0/24"]),
        ("addAction(NotRule(NetmaskGroupRule('10.1.0.0/16')), DropAction())", "allow", ["10.1.0.0/16"]),
        ("setLocal('10.0.0.10', {tcpListenQueueSize=7})", "tcp", {"backlog": 7}),
    ],
)  # fmt: skip
def test_calls(text, key, value):
    """Each call becomes its key; without setACL it is dnsdist's own list of private networks."""
    assert service(text).get(key) == value


def test_orders_are_tiers_where_they_decide():
    """With firstAvailable the order makes tiers; other policies use it for ties only."""
    assert [
        row.get("tier", 0) if isinstance(row, dict) else 0
        for row in service("setServerPolicy(firstAvailable)")["backends"]
    ] == [0, 1]
    assert service("setServerPolicy(leastOutstanding)")["backends"] == ["10.0.0.1", "10.0.0.2"]


def test_a_method_of_a_variable_is_the_servers():
    """A method that is called on a variable later changes its server, and adds none."""
    rows = service("s = newServer('10.0.0.3')\ns:setDown()")["backends"]
    assert rows == ["10.0.0.1", "10.0.0.2", {"address": "10.0.0.3", "admin": "maint"}]


def test_pools():
    """The pool that all queries go to, or those of a port, is a service; another pool is told of."""
    text = "newServer{address='10.0.0.3', pool='a'}\nnewServer{address='10.0.0.4', pool='b'}\naddLocal('10.0.0.10:5300')\naddAction(DSTPortRule(5300), PoolAction('a'))\n"
    found = brought(text)
    assert found.tables["service"]["a"]["listen"] == ["10.0.0.10:5300/udp", "10.0.0.10:5300/tcp"]
    assert (
        found.tables["service"]["a"]["backends"] == ["10.0.0.3"]
        or found.tables["service"]["a"]["backends"][0]["address"] == "10.0.0.3"
    )
    assert 'pool "b"' in found.note("newServer")
    everything = brought("newServer{address='10.0.0.3', pool='a'}\naddAction(AllRule(), PoolAction('a'))")
    assert list(everything.tables["service"]) == ["a"]


def test_a_file_that_does_not_say_where_to_listen():
    """Without setLocal the service listens where dnsdist does, with a note."""
    found = bring("dnsdist", "newServer('10.0.0.1')")
    assert only(found.tables["service"])["listen"] == ["127.0.0.1:53/udp", "127.0.0.1:53/tcp"]
    assert "dnsdist's default" in found.note("setLocal")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("addTLSLocal('0.0.0.0', 'a', 'b')", "not decrypted"), ("newPacketCache(10000)", "no cache"), ("setKey('hunter2')", "control.socket"),
        ("webserver('127.0.0.1:8083', 'hunter2')", "control.socket"), ("addAction(QTypeRule(DNSQType.ANY), DropAction())", "no rules about queries"),
        ("addAction({'bad.example'}, DropAction())", "no rules about queries"), ("setServerPolicyLua('x', f)", "nothing is executed"),
        ("getPool(''):setCache(pc)", "no cache"), ("setECSSourcePrefixV4(32)", "24 bits"), ("addDynBlocks(x)", "by itself"),
        ("setServerPolicy(mine)", "no such scheduler"), ("setLocl('10.0.0.1')", 'did you mean "setLocal"?'),
        ("function f()\n newServer('10.0.0.9')\nend", "nothing is executed"), ("addAction(MaxQPSIPRule(x), DropAction())", "not a number"),
    ],
)  # fmt: skip
def test_what_is_lost(text, words):
    """What has no key here is told at its line, stands as a comment, and shows no key or password (S7)."""
    found = brought(text)
    note = found.note(text.split("(")[0])
    assert words in note
    assert note.startswith("/etc/a.conf:4: ")
    assert "hunter2" not in found.text + note
    assert len(only(found.tables["service"])["backends"]) == 2


def test_directories_are_included():
    """The files of includeDirectory are read as parts of the file."""
    files = {"/etc/dnsdist.d/*.conf": [("/etc/dnsdist.d/a.conf", "newServer('10.0.0.9')")]}
    found = bring("dnsdist", HEAD + "includeDirectory('/etc/dnsdist.d')", files=files)
    assert len(only(found.tables["service"])["backends"]) == 3
    assert "no such directory" in brought("includeDirectory('/nosuch')").note("includeDirectory")


def test_yaml():
    """A file whose name ends in .yml is read as YAML, with the same result."""
    text = "binds:\n  - listen_address: 10.0.0.10:53\n    protocol: Do53\nacl: [10.0.0.0/8]\nbackends:\n  - address: 10.0.0.1\n    protocol: Do53\n"
    from proxy.config.importers.convert import convert
    from tests.proxy.config.importers.bed import judge

    printed, ledger = convert("dnsdist", [("a.yml", text)], lambda _: [], judge)
    lua, _ = convert(
        "dnsdist",
        [("a.conf", "setLocal('10.0.0.10:53')\nsetACL('10.0.0.0/8')\nnewServer('10.0.0.1')")],
        lambda _: [],
        judge,
    )
    assert printed.replace("a.yml", "") == lua.replace("a.conf", "")
    assert ledger.counts()["left"] == 0
