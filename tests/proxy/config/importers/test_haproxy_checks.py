"""HAProxy's health checks."""

import pytest

from proxy.config.importers.haproxy_checks import milliseconds
from proxy.config.importers.ledger import LeftError
from tests.proxy.config.importers.bed import bring, only


def checked(*lines):
    """Import a backend with checks."""
    return bring(
        "haproxy", "listen l\n bind :80\n" + "".join(f" {line}\n" for line in lines) + " server s 10.0.0.1 check\n"
    )


def probe(*lines):
    found = only(checked(*lines).tables["service"])["probe"]
    for one in found if isinstance(found, list) else [found]:
        assert one.pop("timeout") == "2s"
    return found


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (["option httpchk"], {"type": "http", "method": "OPTIONS", "path": "/"}),
        (["option httpchk /x"], {"type": "http", "method": "OPTIONS", "path": "/x"}),
        ([r"option httpchk GET /x HTTP/1.1\r\nHost:\ a.example"], {"type": "http", "method": "GET", "path": "/x", "host": "a.example"}),
        (["option httpchk", "http-check send meth GET uri /y ver HTTP/1.1 hdr Host b.example", "http-check expect status 200-299,301"],
         {"type": "http", "method": "GET", "path": "/y", "host": "b.example", "status": "200-299,301"}),
        (["option httpchk", "http-check expect min-recv 10 string fine"], {"type": "http", "method": "OPTIONS", "path": "/", "body": "fine"}),
        (["option tcp-check", r"tcp-check send NOOP\r\n", "tcp-check expect string 250"], {"type": "tcp", "send": "NOOP\r\n", "expect": "250"}),
        (["option tcp-check", r"tcp-check send PING\r\n", "tcp-check expect string +PONG"], {"type": "redis"}),
        (["option tcp-check", "tcp-check connect ssl", r"tcp-check send PING\r\n", "tcp-check expect string +PONG",
          r"tcp-check send info\ replication\r\n", "tcp-check expect string role:master", r"tcp-check send QUIT\r\n",
          "tcp-check expect string +OK"], {"type": "redis", "role": "primary", "tls": "implicit", "tls-verify": False}),
        (["option redis-check"], {"type": "redis"}),
        (["option pgsql-check user ha"], {"type": "pgsql", "user": "ha"}),
        (["option tcp-check", "tcp-check connect port 993 ssl", "tcp-check send-binary 0a0b", "tcp-check expect binary ff"],
         {"type": "tcp", "port": 993, "tls": "implicit", "tls-verify": False, "send-hex": "0a0b", "expect-hex": "ff"}),
        (["option mysql-check user ha"], {"type": "mysql", "user": "ha"}),
        (["option ldap-check"], {"type": "ldap"}),
        (["option smtpchk EHLO lb.example"], {"type": "smtp", "helo": "lb.example"}),
        (["option ssl-hello-chk"], {"type": "tcp", "tls": "implicit", "tls-verify": False}),
        (["option external-check", "external-check command /bin/check"],
         {"type": "script", "command": ["/bin/check", "NOT_USED", "NOT_USED", "{address}", "{port}"]}),
    ],
)  # fmt: skip
def test_checks(lines, found):
    """Each check of HAProxy is the probe that asks the same."""
    assert probe(*lines) == found


def test_several_connections_are_several_probes():
    """Each `connect` of a check is a probe of its own."""
    lines = (
        "option tcp-check",
        "tcp-check connect port 143",
        r"tcp-check expect string *\ OK",
        "tcp-check connect port 110",
        "tcp-check expect string +OK",
    )
    assert probe(*lines) == [
        {"type": "tcp", "port": 143, "expect": "* OK"},
        {"type": "tcp", "port": 110, "expect": "+OK"},
    ]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["option tcp-check", "tcp-check expect rstring ^x"], "no regular expressions"),
        (["option tcp-check", "tcp-check expect ! string x"], "no regular expressions"),
        (["option tcp-check", "tcp-check expect string a", "tcp-check send b"], "once, at the beginning"),
        (["option tcp-check", "tcp-check expect string a", "tcp-check expect string b"], "waits for one text"),
        (["option tcp-check", "tcp-check set-var(check.x) int(1)"], "no variables"),
        (["option httpchk", "http-check expect rstatus ^2"], "no regular expressions"),
        (["option httpchk", "http-check disable-on-404"], "dynamic-weight"),
        (["option httpchk", "http-check send hdr X-A b"], "a Host header"),
        (["option mysql-check"], "needs a user"),
        (["option pgsql-check"], "needs a user"),
        (["option pgsql-check user ha"], "logs in"),
        (
            ["tcp-check send AUTH\\ x\\r\\n", "tcp-check expect string +OK", r"tcp-check send PING\r\n"],
            "once, at the beginning",
        ),
        ([r"tcp-check send PING\r\n", r"tcp-check send GET\ x\r\n"], "PING and INFO"),
        ([r"tcp-check send PING\r\n", "tcp-check expect rstring PONG"], "waits for PONG and for a role"),
        (["external-check path /bin"], "PATH"),
    ],
)
def test_what_a_check_loses(lines, words):
    """A rule that has no form here is told at its line."""
    assert any(words in note for note in checked(*lines).notes)


@pytest.mark.parametrize(
    ("text", "seconds"), [("500", 0.5), ("2s", 2.0), ("1m", 60.0), ("3h", 10800.0), ("1d", 86400.0), ("5us", 5e-6)]
)
def test_times(text, seconds):
    """A time without a unit is in milliseconds."""
    assert milliseconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "x", "5y", "s", "1.5s"])
def test_times_that_are_none(text):
    """What is no time is refused."""
    with pytest.raises(LeftError):
        milliseconds(text)
