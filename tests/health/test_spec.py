"""What a probe's configuration is."""

import json
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from health.spec import (
    FROM_FILE,
    PROBE_TYPES,
    DnsProbe,
    HttpProbe,
    LdapProbe,
    MysqlProbe,
    NoneProbe,
    ScriptProbe,
    TcpProbe,
    UdpProbe,
    parse_probe,
)

LEAST = {
    "mysql": {"user": "probe"},
    "pgsql": {"user": "probe"},
    "script": {"command": ["/bin/true"]},
    "udp": {"send": "x"},
}


def from_file(kind, **keys):
    """Validate a probe as the loader does."""
    return PROBE_TYPES[kind].model_validate(
        {"type": kind, **LEAST.get(kind, {}), **keys}, context=FROM_FILE, by_alias=True, by_name=False
    )


@pytest.mark.parametrize("kind", PROBE_TYPES)
def test_the_defaults_are_those_of_the_reference(kind):
    """Each probe has the pace of the reference when the file says nothing: 2s, 500ms, 5s, 1s, fall 3, rise 2."""
    probe = from_file(kind)
    assert (probe.interval, probe.fast_interval, probe.down_interval, probe.timeout) == (2.0, 0.5, 5.0, 1.0)
    assert (probe.fall, probe.rise, probe.report_only, probe.type) == (3, 2, False, kind)


@pytest.mark.parametrize("kind", PROBE_TYPES)
def test_each_probe_comes_back_from_json(kind):
    """A probe that travelled over the channel as JSON is equal to the one that was sent."""
    probe = from_file(kind, interval="3s", port=53)
    assert parse_probe(json.loads(json.dumps(probe.model_dump(mode="json"), allow_nan=False))) == probe


@pytest.mark.parametrize("kind", PROBE_TYPES)
def test_unknown_keys_and_field_names_are_refused(kind):
    """A key that the protocol does not have, or one written with underscores, is an error from a file."""
    for key in ("bogus", "fast_interval"):
        with pytest.raises(ValidationError, match=key):
            from_file(kind, **{key: "1s"})


@pytest.mark.parametrize(
    ("kind", "keys", "why"),
    [
        ("pgsql", {"expect": "1"}, "expect needs a query"),
        ("mysql", {"expect": "1"}, "expect needs a query"),
        ("mysql", {"query": "DELETE FROM t"}, "is not a query that reads"),
        ("pgsql", {"query": "; SELECT 1"}, "is not a query that reads"),
        ("pgsql", {"query": "SELECT 'a\0b'"}, "none of them NUL"),
        ("pgsql", {"query": f"SELECT {'1' * 5000}"}, "at most 4096 bytes"),
        ("pgsql", {"user": "a\0b"}, "is not a name"),
        ("pgsql", {"user": ""}, "is not a name"),
        ("pgsql", {"role": "primary", "max-lag": "5s"}, "a primary has no lag"),
        ("pgsql", {"tls": "implicit"}, 'only "off" or "starttls"'),
        ("redis", {"role": "primary", "max-lag": "50s"}, "a primary has no lag"),
        ("redis", {"user": "probe"}, "needs password-file"),
        ("redis", {"tls": "starttls"}, 'only "off" or "implicit"'),
        ("dns", {"query": "{random}.example.net SOA", "max-serial-lag": 3}, "a zone's own name"),
        ("dns", {"query": "x{random}" + "y" * 52 + ".example.net A"}, "is not a domain name"),
    ],
)
def test_what_a_probe_cannot_ask(kind, keys, why):
    """A key that makes no sense, alone or beside another, is refused in words."""
    with pytest.raises(ValidationError, match=why):
        from_file(kind, **keys)


@pytest.mark.parametrize(
    "query", ["select 1", " (SELECT 1)", "SHOW server_version", "WITH x AS (SELECT 1) SELECT 1", ""]
)
def test_queries_that_read(query):
    """A query begins with a word that reads, in any case."""
    assert from_file("pgsql", query=query).query == query


def test_a_password_of_redis_is_of_the_default_user():
    """Without a user, the login of a redis probe is that of Redis's default user."""
    assert from_file("redis", **{"password-file": "/etc/steelyard/redis.pw"}).user == "default"
    assert from_file("redis").user is None


def test_the_timeout_follows_a_short_interval():
    """The default timeout is one second, or the interval where that is shorter."""
    assert TcpProbe(interval=0.25).timeout == 0.25
    assert TcpProbe(interval=10.0).timeout == 1.0


def test_probes_never_overlap():
    """H4: a timeout longer than the interval is refused, with both values."""
    with pytest.raises(ValidationError, match=r"timeout \(3s\) is longer than interval \(2s\)"):
        TcpProbe(timeout=3.0)
    assert TcpProbe(timeout=2.0).timeout == 2.0


@pytest.mark.parametrize("interval", [math.inf, 0.0, 86401.0])
def test_every_pace_has_a_bound(interval):
    """An interval lies between 10 ms and a day: neither a busy loop nor a probe that never comes."""
    with pytest.raises(ValidationError):
        TcpProbe(interval=interval)


@pytest.mark.parametrize(
    ("key", "value"), [("fall", 0), ("rise", 0), ("fall", True), ("port", 0), ("port", 65536), ("port", "53")]
)
def test_counts_and_ports_are_whole_and_in_range(key, value):
    """H2: fall and rise are at least 1; a port is 1 to 65535; neither is a string or a boolean."""
    with pytest.raises(ValidationError):
        from_file("tcp", **{key: value})


def test_pace_does_not_change_the_question():
    """H11: two probes that differ in how often they ask, and in how they count, ask the same question."""
    one = TcpProbe(port=389, address="10.0.0.1", interval=2.0, fall=3)
    two = TcpProbe(
        port=389,
        address="10.0.0.1",
        interval=5.0,
        fast_interval=1.0,
        down_interval=9.0,
        fall=1,
        rise=9,
        report_only=True,
    )
    assert one.question() == two.question()


@pytest.mark.parametrize(
    "change",
    [
        {"port": 636},
        {"address": "10.0.0.2"},
        {"send": "x"},
        {"timeout": 0.5},
        {"tls": "implicit"},
        {"send_proxy": "v2"},
    ],
)
def test_everything_else_changes_the_question(change):
    """H11: another port, address, text, timeout, tls or PROXY header is another question."""
    base = {"port": 389, "address": "10.0.0.1"}
    assert TcpProbe(**base).question() != TcpProbe(**(base | change)).question()


def test_a_question_names_its_protocol():
    """H11: probes of two protocols never ask the same question."""
    assert len({from_file(kind, port=25).question() for kind in PROBE_TYPES}) == len(PROBE_TYPES)


def test_a_dns_probe_without_a_query_accepts_refusal():
    """H7: without a query any server that answers passes, an authoritative one that refuses the root too; with one only NOERROR."""
    assert DnsProbe().rcode == ("NOERROR", "REFUSED")
    assert (DnsProbe().qname, DnsProbe().qtype) == (".", "NS")
    asked = DnsProbe(query="example.net soa")
    assert (asked.qname, asked.qtype, asked.rcode) == ("example.net", "SOA", ("NOERROR",))
    assert DnsProbe(query="example.net SOA", rcode="nxdomain").rcode == ("NXDOMAIN",)
    assert DnsProbe(rcode=["NOERROR"]).rcode == ("NOERROR",)


@pytest.mark.parametrize(
    ("kind", "keys", "words"),
    [
        ("dns", {"rcode": "NOEROR"}, "not a DNS response code"),
        ("dns", {"rcode": []}, "rcode is empty"),
        ("dns", {"max-serial-lag": 5}, "needs a query for an SOA"),
        ("dns", {"expect": "192.0.2.1"}, "expect needs a query"),
        ("dns", {"tls": "starttls"}, 'no tls = "starttls"'),
        ("tcp", {"tls": "starttls"}, 'no tls = "starttls"'),
        ("udp", {"tls": "implicit"}, 'no tls = "implicit"'),
        ("udp", {"send": ""}, "needs send or send-hex"),
        ("tcp", {"send": "a", "send-hex": "61"}, "the same thing twice"),
        ("tcp", {"expect-hex": "6"}, "not hexadecimal"),
        ("mysql", {"max-lag": "3s"}, "max-lag needs role"),
        ("mysql", {"role": "replica", "max-lag": "3s", "recover-lag": "4s"}, "recover-lag is longer"),
        ("mysql", {"password-file": "pw"}, "relative path"),
        ("ldap", {"bind-dn": "cn=x"}, "bind-dn needs password-file"),
        ("ldap", {"min-entries": 1}, "min-entries needs a search"),
        ("ldap", {"filter": "uid=x"}, "not an LDAP filter"),
        ("http", {"status": "399-200"}, "not a list of HTTP statuses"),
        ("http", {"body-digest": "abc"}, "MD5 sum"),
        ("http", {"host": "a\nb"}, "holds U\\+000A: a request consists of visible ASCII characters only"),
        ("http", {"host": ""}, "host is empty"),
        ("http", {"path": "healthz"}, 'path = "healthz" does not begin with "/"'),
        ("http", {"path": "/a b"}, '"/a b" holds a blank'),
        ("imap", {"user": "x"}, "user needs password-file"),
        ("script", {"command": ["true"]}, "not an absolute path"),
        ("script", {"command": []}, "at least 1 item"),
        ("dns", {"tls": "implicit", "transport": "both"}, 'DNS over TLS needs TCP: set transport = "tcp" as well'),
    ],
)
def test_relations_within_a_probe(kind, keys, words):
    """Keys of a probe that cannot go together are refused, in words that say why."""
    with pytest.raises(ValidationError, match=words):
        from_file(kind, **keys)


def test_texts_and_digits_become_bytes():
    """What to send and expect is bytes, whether written as text or as hexadecimal."""
    assert TcpProbe(send="PING\r\n", expect_hex="2b 50").send_bytes == b"PING\r\n"
    assert TcpProbe(expect_hex="2b 50").expect_bytes == b"+P"
    assert UdpProbe(send_hex="0001").send_bytes == b"\0\1"


def test_recovery_takes_half_the_lag():
    """A lagging replica comes back at half the limit by default."""
    assert MysqlProbe(user="probe", role="replica", max_lag=30.0).recover_lag == 15.0
    assert MysqlProbe(user="probe").recover_lag is None


def test_whole_probes_of_later_protocols_are_accepted():
    """The examples of the reference for ldap, http and script are valid."""
    assert (
        LdapProbe(base="dc=example,dc=net", max_lag=60.0, tls="starttls", tls_name="ldap.example.net").max_lag == 60.0
    )
    assert HttpProbe(path="/healthz", status="200,204", tls="implicit").status == "200,204"
    assert ScriptProbe(command=("/usr/local/bin/x", "{address}", "{port}")).needs_port is False
    assert NoneProbe().needs_port is False


@settings(suppress_health_check=[HealthCheck.too_slow])  # the first text builds a table of characters
@given(
    st.dictionaries(
        st.sampled_from(["type", "port", "interval", "query", "send", "bogus", "command"]),
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.text(), max_size=3)),
    )
)
def test_any_dumped_probe_is_parsed_or_refused(value):
    """Whatever arrives as a probe is one, or is refused with a ValidationError and nothing else."""
    try:
        probe = parse_probe(value)
    except ValidationError:
        return
    assert probe.type in PROBE_TYPES
