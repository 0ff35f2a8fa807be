"""Backends compared: serials and times of last change."""

import pytest

from health.compare import Lag, Peer, Sample, lagging, serial_behind, subject
from health.spec import DnsProbe, LdapProbe, TcpProbe

SOA = DnsProbe(query="example.net SOA", max_serial_lag=10)
LDAP = LdapProbe(base="dc=example,dc=net", max_lag=60.0)


@pytest.mark.parametrize(
    ("serial", "other", "behind"),
    [
        (5, 5, 0), (5, 8, 3), (8, 5, 0), (0xFFFFFFFF, 2, 3), (2, 0xFFFFFFFF, 0),
        (0, 0x7FFFFFFF, 0x7FFFFFFF), (0, 0x80000000, 0), (0x80000000, 0, 0),
    ],
)  # fmt: skip
def test_serials_go_round(serial: int, other: int, behind: int) -> None:
    """H7: serials are compared as RFC 1982 says, past the wrap too; half the number space apart neither is behind."""
    assert serial_behind(serial, other) == behind


def test_serial_too_far_behind_the_best() -> None:
    """H7: a serial more than max-serial-lag behind the best of the others fails in words; at the limit it passes."""
    peers = [Peer("ns2", 2026112213), Peer("ns3", 2026112205)]
    lag = Lag(SOA)
    assert lag.observe(2026112203, peers, 0.0, first=False) == ""
    assert (
        lag.observe(2026112201, peers, 0.0, first=False)
        == "serial 2026112201 is 12 behind ns2's 2026112213, over max-serial-lag (10)"
    )


def test_nobody_to_compare_with() -> None:
    """H7: the only backend in service is never behind."""
    assert Lag(SOA).observe(1, [], 0.0, first=True) == ""
    assert Lag(LDAP).observe(1.0, [], 0.0, first=True) == ""


def test_without_a_limit_nothing_is_behind() -> None:
    """H7: a probe without max-serial-lag gives its serial and never fails by it."""
    assert Lag(DnsProbe(query="example.net SOA")).observe(1, [Peer("ns2", 100000)], 0.0, first=True) == ""


def test_only_with_a_limit_are_the_others_asked() -> None:
    """H5: a thousand probes without a limit do not look at each other, which would cost a million looks."""
    lag = Lag(DnsProbe(query="example.net SOA"))
    assert not lag.limited
    lag.follow(SOA)
    assert lag.limited
    assert Lag(LDAP).limited


def test_a_new_limit_applies() -> None:
    """H7: a reload's new limit applies to the next result."""
    lag = Lag(SOA)
    lag.follow(SOA.model_copy(update={"max_serial_lag": 1}))
    assert lag.observe(1, [Peer("ns2", 3)], 0.0, first=False).endswith("over max-serial-lag (1)")


def test_time_behind_counts_from_when_it_was_seen() -> None:
    """H9: the first change in an hour makes no replica lag by an hour: it lags once it has been behind for max-lag."""
    lag = Lag(LDAP)
    peers = [Peer("ldap1", 5000.0)]
    assert lag.observe(1000.0, peers, 100.0, first=False) == ""
    assert lag.observe(1000.0, peers, 160.0, first=False) == ""
    assert lag.observe(1000.0, peers, 161.0, first=False) == "last change is 61s behind ldap1's, over max-lag (1m)"
    assert lag.observe(5000.0, peers, 162.0, first=False) == ""
    assert lag.observe(4000.0, peers, 163.0, first=False) == ""


def test_small_differences_never_lag() -> None:
    """H9: a replica that is always a second behind, as its changes go on, does not lag by the time that it has been so."""
    lag = Lag(LDAP)
    for second in range(200):
        assert lag.observe(1000.0 + second, [Peer("ldap1", 1001.0 + second)], float(second), first=False) == ""


def test_at_the_start_the_difference_counts() -> None:
    """H1, H9: a backend without a verdict that is an hour behind gets none of the benefit of the doubt."""
    words = Lag(LDAP).observe(1000.0, [Peer("ldap1", 4600.0)], 0.0, first=True)
    assert words == "last change is 1h behind ldap1's, over max-lag (1m)"


def test_subjects() -> None:
    """H7: only values of the same zone, or of the same directory, are compared."""
    assert subject(SOA) == subject(DnsProbe(query="EXAMPLE.net. SOA", port=5353)) == "serial example.net"
    assert subject(DnsProbe(query="example.net A")) is None
    assert subject(LDAP) == "contextCSN dc=example,dc=net"
    assert subject(LdapProbe(base="dc=example,dc=net")) is None
    assert subject(TcpProbe()) is None


def test_single_runs() -> None:
    """H7, H9: single runs on the backends of a service are compared, except failed backends and those of other services."""
    found = lagging(
        [
            Sample("dns", "ns1", SOA, 100.0),
            Sample("dns", "ns2", SOA, 111.0),
            Sample("dns", "ns3", SOA, None),
            Sample("dns", "ns4", SOA, 2000.0, serves=False),
            Sample("internal", "ns5", SOA, 3000.0),
            Sample("ldap", "one", LDAP, 1000.0),
            Sample("ldap", "two", LDAP, 1061.0),
            Sample("ldap", "two", TcpProbe(), None),
        ]
    )
    assert found == [
        "serial 100 is 11 behind ns2's 111, over max-serial-lag (10)", "", "", "", "",
        "last change is 61s behind two's, over max-lag (1m)", "", "",
    ]  # fmt: skip
