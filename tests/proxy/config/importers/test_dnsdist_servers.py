"""dnsdist's newServer."""

import pytest

from tests.proxy.config.importers.bed import bring, only

CODES = ["NOERROR", "NXDOMAIN", "REFUSED", "NOTIMP", "FORMERR"]
PROBE = {
    "type": "dns", "query": "a.root-servers.net. A", "rcode": CODES, "transport": "udp", "interval": "1s", "fast-interval": "1s",
    "down-interval": "1s", "timeout": "1s", "fall": 1, "rise": 1,
}  # fmt: skip


def service(options, after=""):
    """Import a server with options."""
    return only(
        bring("dnsdist", f"setLocal('10.0.0.10')\nnewServer{{address='10.0.0.1', {options}}}{after}\n").tables[
            "service"
        ]
    )


def backend(options, after=""):
    (row,) = service(options, after)["backends"]
    return row


@pytest.mark.parametrize(
    ("options", "key", "value"),
    [
        ("weight=5", "weight", 5),
        ("name='a b'", "name", "a-b"),
        ("useProxyProtocol=true", "send-proxy", "v2"),
        ("source='10.0.0.7'", "source-addresses", ["10.0.0.7"]),
        ("source='10.0.0.7@eth0'", "source-addresses", ["10.0.0.7"]),
        ("qps=50", "max-connections", 50),
        ("healthCheckMode='down'", "admin", "maint"),
    ],
)
def test_options_of_a_backend(options, key, value):
    """Each option becomes the backend's key."""
    assert backend(options)[key] == value


@pytest.mark.parametrize(("options", "table", "key", "value"), [
    ("useClientSubnet=true", "dns", "client-subnet", "on"), ("tcpConnectTimeout=2", "tcp", "connect-timeout", "2s"),
])  # fmt: skip
def test_options_of_the_service(options, table, key, value):
    """Some options of a server are the service's here."""
    assert service(options)[table][key] == value


@pytest.mark.parametrize(
    ("options", "change"),
    [
        ("", {}),
        ("checkName='example.net', checkType='SOA', mustResolve=true", {"query": "example.net SOA", "rcode": "NOERROR"}),
        ("checkName='example.net', checkType=DNSQType.NS", {"query": "example.net NS"}),
        ("checkInterval=5, maxCheckFailures=3, rise=2, checkTimeout=2500",
         {"interval": "5s", "fast-interval": "5s", "down-interval": "5s", "timeout": "2500ms", "fall": 3, "rise": 2}),
        ("checkTimeout=3000", {"timeout": "1s"}),
        ("checkTCP=true", {"transport": "tcp"}),
    ],
)  # fmt: skip
def test_health_checks(options, change):
    """A health check asks what dnsdist's asks, at its pace, and takes the same answers for good."""
    assert service(options)["probe"] == {**PROBE, **change}


def test_states():
    """SetUp and the mode "up" mean no probe, setDown maintenance."""
    assert service("healthCheckMode='up'")["probe"] == {"type": "none"}
    assert service("", ":setUp()")["probe"] == {"type": "none"}
    assert backend("", ":setDown()")["admin"] == "maint"


@pytest.mark.parametrize(
    ("options", "word", "words"),
    [
        ("checkFunction=f", "checkFunction", "nothing is executed"), ("maxInFlight=10", "maxInFlight", "connection by connection"),
        ("source='eth0'", "source", "not an interface"), ("weight='x'", "weight", "not a whole number"),
        ("wieght=1", "wieght", 'did you mean "weight"?'), ("retries=3", "retries", "dns.give-up"),
    ],
)  # fmt: skip
def test_what_a_server_loses(options, word, words):
    """An option that has no key here is told at its line."""
    found = bring("dnsdist", f"newServer{{address='10.0.0.1', {options}}}")
    assert words in found.note(word)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("address='10.0.0.2', tls='openssl'", "unencrypted"),
        ("address='ns.example.net'", "is a name"),
        ("x=1", "no address"),
    ],
)
def test_servers_that_have_no_form(options, words):
    """A server with TLS, a name or no address is left out."""
    found = bring("dnsdist", f"newServer('10.0.0.1')\nnewServer{{{options}}}")
    assert (
        words in found.note("newServer: not") if "address" not in words else any(words in note for note in found.notes)
    )
    assert len(only(found.tables["service"])["backends"]) == 1
