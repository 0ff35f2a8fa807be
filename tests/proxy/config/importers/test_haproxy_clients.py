"""HAProxy's rules about clients."""

import pytest

from proxy.config.importers.draft import Part
from proxy.config.importers.haproxy_clients import Clients
from proxy.config.importers.ledger import Ledger, LeftError, Statement
from proxy.config.importers.lexer import Place, Token


def said(text):
    """Return a line as a statement."""
    return Statement(tuple(Token("word", word, Place("f", 1, at)) for at, word in enumerate(text.split(), 1)))


@pytest.fixture
def clients():
    """Return what a section says of clients, with two acls."""
    found = Clients(Ledger(), Part(("service", "a")))
    found.acl(said("acl lan src 10.0.0.0/8"))
    found.acl(said("acl lan src fd00::/8"))
    found.acl(said("acl mail dst_port 25 587"))
    return found


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("lan", [["src", "10.0.0.0/8"], ["src", "fd00::/8"]]),
        ("{ src 192.0.2.1 } || mail", [["src", "192.0.2.1"], ["dst_port", "25", "587"]]),
    ],
)
def test_alternatives(clients, words, found):
    """A condition is the alternatives of its acls and of its tests in braces."""
    assert clients.tests(words.split()) == found


@pytest.mark.parametrize(
    "words", ["", "nosuch", "{ src 1.2.3.4", "{ }", "lan mail", "{ src 1.2.3.4 } lan", "!lan", "lan ||  nosuch"]
)
def test_conditions_without_a_form(clients, words):
    """An unknown acl, a negation, an empty test, and tests that must hold together are refused."""
    with pytest.raises(LeftError):
        clients.tests(words.split())


def test_ports(clients):
    """The ports of a condition, also ranges; a condition on clients has none."""
    assert clients.ports(["mail"]) == {25, 587}
    assert clients.ports(["{", "dst_port", "eq", "143:145", "}"]) == {143, 144, 145}
    with pytest.raises(LeftError, match="not by addresses of clients"):
        clients.ports(["lan"])


@pytest.mark.parametrize(
    ("rules", "key", "value"),
    [
        (["reject if lan"], "deny", ["10.0.0.0/8", "fd00::/8"]),
        (["reject unless lan"], "allow", ["10.0.0.0/8", "fd00::/8"]),
        (["reject if !lan"], "allow", ["10.0.0.0/8", "fd00::/8"]),
        (["reject if ! lan", "reject if ! { src 10.1.0.0/16 }"], "allow", ["10.1.0.0/16"]),
        (["accept if lan"], "allow", None),
        (["accept if lan", "reject"], "allow", ["10.0.0.0/8", "fd00::/8"]),
        (["reject if { src_conn_cur gt 9 }"], "max-connections-per-client", 9),
        (["track-sc0 src", "reject if { sc0_conn_rate gt 600 }"], "rate-per-client", "60/s"),
        (["reject if { src_conn_rate(t) gt 20 }"], "rate-per-client", "2/s"),
    ],
)
def test_rules(clients, rules, key, value):
    """Rules that reject or accept become lists, limits and rates; a rule that only accepts changes nothing."""
    for rule in rules:
        clients.request(said(f"tcp-request connection {rule}"))
    assert clients.part.get(key) == value


@pytest.mark.parametrize(
    "rule",
    [
        "connection", "nosuch x", "connection accept", "connection reject", "connection reject if", "connection reject if !lan || mail",
        "connection accept unless lan", "connection reject unless !lan", "connection reject if { src -f /x }", "connection reject if { src }",
        "connection reject if { req_len gt 5 }", "connection reject if mail", "connection set-src src", "connection reject if !mail",
    ],
)  # fmt: skip
def test_rules_without_a_form(clients, rule):
    """What has no exact form is refused: no rule lets in or keeps out others than HAProxy's."""
    with pytest.raises(LeftError):
        clients.request(said(f"tcp-request {rule}"))
    assert list(clients.part.settings()) == []


def test_tables(clients):
    """A table says how long clients are remembered, and over which time they are counted."""
    clients.table(said("stick-table type ip size 1m expire 30m store conn_rate(1m)"))
    clients.stick(said("stick on src,ipmask(24,64) table x"))
    assert clients.part.get("persistence") == {"timeout": "30m", "ipv4-prefix": 24, "ipv6-prefix": 64}
    clients.request(said("tcp-request connection reject if { src_conn_rate gt 30 }"))
    assert clients.part.get("rate-per-client") == "30/m"
    for line in ("stick-table type string len 32 size 1", "stick-table"):
        with pytest.raises(LeftError):
            clients.table(said(line))
    with pytest.raises(LeftError):
        clients.stick(said("stick on hdr(x)"))
