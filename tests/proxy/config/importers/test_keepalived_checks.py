"""keepalived's checkers."""

import pytest

from tests.proxy.config.importers.bed import bring, only

TIMERS = {"interval": "1m", "fast-interval": "1s", "down-interval": "1m", "timeout": "5s", "fall": 2, "rise": 1}


def checked(checker, server="", service="", protocol="TCP"):
    """Import a service with one server and its checker."""
    text = f"virtual_server 10.0.0.10 80 {{\nprotocol {protocol}\n{service}\nreal_server 10.0.0.1 80 {{\n{server}\n{checker}\n}}\n}}\n"
    return bring("keepalived", text)


def probe(checker, **where):
    return only(checked(checker, **where).tables["service"])["probe"]


@pytest.mark.parametrize(
    ("checker", "found"),
    [
        ("TCP_CHECK {\n}", {"type": "tcp", **TIMERS}),
        ("TCP_CHECK {\nconnect_ip 10.0.0.9\nconnect_port 81\n}", {"type": "tcp", "address": "10.0.0.9", "port": 81, **TIMERS}),
        ("TCP_CHECK {\nconnect_timeout 3\nretry 4\ndelay_before_retry 2\ndelay_loop 10\n}",
         {"type": "tcp", "interval": "10s", "fast-interval": "2s", "down-interval": "10s", "timeout": "3s", "fall": 5, "rise": 1}),
        ("HTTP_GET {\nurl {\npath /x\nstatus_code 200-204 301\n}\n}", {"type": "http", "path": "/x", "status": "200-204,301", **TIMERS}),
        ("HTTP_GET {\nurl {\npath /\nvirtualhost a.example\ndigest 9b3a0c85a887a256d6939da88aabd8cd\n}\n}",
         {"type": "http", "path": "/", "host": "a.example", "status": "200-299", "body-digest": "9b3a0c85a887a256d6939da88aabd8cd", **TIMERS}),
        ("SSL_GET {\nurl {\npath /\n}\nenable_sni\n}", {"type": "http", "path": "/", "status": "200-299", "tls": "implicit", "tls-verify": False, **TIMERS}),
        ("SMTP_CHECK {\nhelo_name lb.example\n}", {"type": "smtp", "helo": "lb.example", **TIMERS}),
        ("DNS_CHECK {\n}", {"type": "dns", "query": ". SOA", "transport": "udp", **TIMERS, "fall": 4}),
        ("DNS_CHECK {\nname example.net\ntype A\nretry 0\n}", {"type": "dns", "query": "example.net A", "transport": "udp", **TIMERS, "fall": 1}),
        ('MISC_CHECK {\nmisc_path "/bin/true a"\nmisc_timeout 7\nmisc_dynamic\n}',
         {"type": "script", "command": ["/bin/true", "a"], "dynamic-weight": True, **TIMERS, "timeout": "7s", "fall": 1}),
        ("PING_CHECK {\n}", {"type": "ping", **TIMERS}),
    ],
)  # fmt: skip
def test_checkers(checker, found):
    """Each checker is a probe, with keepalived's defaults for what it does not say."""
    assert probe(checker) == found


def test_udp():
    """A udp checker with a payload and a reply is a udp probe; without either the host's ping is what can be asked."""
    assert probe("UDP_CHECK {\npayload 0a1 2\nrequire_reply ff\n}", protocol="UDP") == {
        "type": "udp", "send-hex": "0a0102", "expect-hex": "ff", **TIMERS
    }  # fmt: skip
    found = checked("UDP_CHECK {\nretry 3\n}", protocol="UDP")
    assert only(found.tables["service"])["probe"] == {"type": "ping", **TIMERS, "fall": 4}
    assert "passes if the host answers a ping" in found.note("UDP_CHECK")
    assert "wildcard" in checked("UDP_CHECK {\npayload 00\nrequire_reply 0X\n}", protocol="UDP").note("require_reply")


def test_several_urls_and_hosts():
    """Each URL and each host is a probe of its own."""
    assert [one["path"] for one in probe("HTTP_GET {\nurl {\npath /a\n}\nurl {\npath /b\n}\n}")] == ["/a", "/b"]
    hosts = probe("SMTP_CHECK {\nhost {\nconnect_ip 10.0.0.1\n}\nhost {\nconnect_ip 10.0.0.2\nconnect_port 587\n}\n}")
    assert [(one["address"], one.get("port")) for one in hosts] == [("10.0.0.1", None), ("10.0.0.2", 587)]


def test_timers_are_inherited():
    """A timer of the virtual server counts unless the real server has one, and that unless the checker has one."""
    found = probe(
        "TCP_CHECK {\nretry 7\n}", server="delay_loop 20\nretry 5", service="delay_loop 10\nconnect_timeout 4\nretry 3"
    )
    assert (found["interval"], found["timeout"], found["fall"]) == ("20s", "4s", 8)


def test_a_timeout_longer_than_the_interval():
    """The timeout is cut at the interval, with a note."""
    found = checked("TCP_CHECK {\nconnect_timeout 9\ndelay_loop 6\n}")
    assert only(found.tables["service"])["probe"]["timeout"] == "6s"
    assert "at most its interval" in found.note("TCP_CHECK")


@pytest.mark.parametrize(
    ("checker", "word", "words"),
    [
        ("BFD_CHECK {\nname x\n}", "BFD_CHECK", "no BFD"),
        ("FILE_CHECK {\ntrack_file x\n}", "FILE_CHECK", "file"),
        ("MISC_CHECK {\n}", "MISC_CHECK", "no misc_path"),
        ("TCP_CHECK {\nbindto 10.0.0.2\n}", "bindto", "source address"),
        ("TCP_CHECK {\nfwmark 1\n}", "fwmark", "not marked"),
        ("HTTP_GET {\nurl {\npath /\nregex a.*b\n}\n}", "regex", "no regular expressions"),
        ("HTTP_GET {\nurl {\npath /\ndigest x\n}\n}", "body-digest", "32 hexadecimal digits"),
        ("MISC_CHECK {\nmisc_path /bin/true\nuser root\n}", "user", "node.user"),
        ("TCP_CHECK {\nconect_port 80\n}", "conect_port", 'did you mean "connect_port"?'),
    ],
)
def test_what_a_checker_loses(checker, word, words):
    """What has no key here is told at its line."""
    assert words in " ".join(note for note in checked(checker).notes if word in note)
