"""HAProxy's server lines."""

import pytest

from proxy.config.importers.haproxy_servers import endpoint
from proxy.config.importers.ledger import LeftError
from tests.proxy.config.importers.bed import bring, only


def served(options, lines=""):
    """Import a server with options."""
    return bring("haproxy", f"listen l\n bind :80\n {lines}\n server s 10.0.0.1:81 {options}\n server t 10.0.0.2:81\n")


def service(options, lines=""):
    return only(served(options, lines).tables["service"])


@pytest.mark.parametrize(
    ("options", "key", "value"),
    [
        ("weight 7", "weight", 7),
        ("maxconn 100", "max-connections", 100),
        ("slowstart 30s", "slow-start", "30s"),
        ("backup", "tier", 1),
        ("disabled", "admin", "maint"),
        ("send-proxy", "send-proxy", "v1"),
        ("send-proxy-v2", "send-proxy", "v2"),
        ("source 10.0.0.7:0", "source-addresses", ["10.0.0.7"]),
        ("id 5 enabled", "name", "s"),
    ],
)
def test_options_of_a_backend(options, key, value):
    """Each option becomes the backend's key."""
    assert service(options)["backends"][0][key] == value


@pytest.mark.parametrize(
    ("options", "key", "value"),
    [
        ("on-marked-down shutdown-sessions", "on-down", "reset"),
        ("on-marked-up shutdown-backup-sessions", "on-failback", "reset"),
        ("observe layer4 error-limit 5 on-error mark-down", "eject", {"errors": 5}),
        ("tcp-ut 5s", "tcp", {"user-timeout": "5s"}),
    ],
)
def test_options_of_the_service(options, key, value):
    """Some options of a server are the service's here."""
    assert service(options)[key] == value


@pytest.mark.parametrize(
    ("options", "lines", "found"),
    [
        ("", "", {"type": "none"}),
        ("check", "", {"type": "tcp", "timeout": "2s"}),
        ("check inter 5s fall 4 rise 3 fastinter 1s downinter 10s", "",
         {"type": "tcp", "interval": "5s", "fast-interval": "1s", "down-interval": "10s", "timeout": "5s", "fall": 4, "rise": 3}),
        ("check inter 5000", "timeout check 1s", {"type": "tcp", "interval": "5s"}),
        ("check port 99 addr 10.0.0.9", "", {"type": "tcp", "port": 99, "address": "10.0.0.9", "timeout": "2s"}),
        ("check check-ssl verify none check-sni a.example", "",
         {"type": "tcp", "tls": "implicit", "tls-verify": False, "tls-name": "a.example", "timeout": "2s"}),
        ("check send-proxy-v2 check-send-proxy", "", {"type": "tcp", "send-proxy": "v2", "timeout": "2s"}),
    ],
)  # fmt: skip
def test_checks_of_a_server(options, lines, found):
    """A server is probed only with `check`, at HAProxy's pace: its timeout is the interval."""
    backend, table = service(options, lines)["backends"][0], service(options, lines)
    assert backend.get("probe", table.get("probe")) == found


def test_default_server():
    """default-server counts for the servers below it, and their own options win."""
    text = "listen l\n bind :80\n default-server weight 5 maxconn 9\n server s 10.0.0.1:80\n server t 10.0.0.2:80 weight 2\n"
    assert [row.get("weight") for row in only(bring("haproxy", text).tables["service"])["backends"]] == [5, 2]


def test_one_backup_at_a_time():
    """HAProxy uses one backup after the other, unless option allbackups: so do tiers."""
    text = (
        "listen l\n bind :80\n %s\n server s 10.0.0.1:80\n server t 10.0.0.2:80 backup\n server u 10.0.0.3:80 backup\n"
    )
    rows = only(bring("haproxy", text % "").tables["service"])["backends"]
    assert [row.get("tier", 0) for row in rows] == [0, 1, 2]
    rows = only(bring("haproxy", text % "option allbackups").tables["service"])["backends"]
    assert [row.get("backup", False) for row in rows] == [False, True, True]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("cookie a", "cookies"), ("agent-check agent-port 9", "script"), ("resolvers x", "names"), ("track b/s", "use"),
        ("minconn 5", "fixed"), ("socks4 10.0.0.1:1", "SOCKS"), ("wieght 5", 'did you mean "weight"?'), ("weight x", "whole number"),
        ("verify required ca-file x.pem", "absolute"), ("sni req.hdr(host)", "fixed name"),
    ],
)  # fmt: skip
def test_what_a_server_loses(options, words):
    """An option that has no key here is told by name, and the server stays."""
    found = served(options)
    assert any(words in note and "server s" in note for note in found.notes)
    assert len(only(found.tables["service"])["backends"]) == 2


@pytest.mark.parametrize(
    ("text", "found"),
    [("10.0.0.1:80", ("10.0.0.1", 80)), ("10.0.0.1", ("10.0.0.1", None)), ("[fd00::1]:80", ("fd00::1", 80)), ("fd00::1", ("fd00::1", None)),
     ("ipv6@[fd00::1]:80", ("fd00::1", 80)), ("[fd00::1]", ("fd00::1", None)), ("10.0.0.1:", ("10.0.0.1", None))],
)  # fmt: skip
def test_endpoints(text, found):
    """A server's address may have a port, brackets and a family."""
    assert endpoint(text) == found


@pytest.mark.parametrize(
    "text", ["www.example.net:80", "unix@/run/x", "/run/x", "10.0.0.1:+1000", "fd@3", "10.0.0.1:x"]
)
def test_endpoints_that_have_no_form(text):
    """Names, sockets of files and ports relative to the listener's are refused."""
    with pytest.raises(LeftError):
        endpoint(text)
