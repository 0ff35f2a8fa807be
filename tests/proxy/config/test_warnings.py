"""What is legal and unwise."""

import pytest

SERVICE = '[service.a]\nlisten = ["{listen}"]\nbackends = ["10.0.0.11"]\n{rest}\n'
ROUTER = '[vrrp.r]\ninterface = "eth0"\nvrid = 1\naddresses = ["{addresses}"]\n{rest}\n'


TIERS = """[service.a]
listen = ["10.0.0.10:80/tcp"]
backends = ["10.0.0.11", {{ address = "10.0.0.12", backup = true }}]
quorum = {quorum}
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (SERVICE.format(listen="10.0.0.10:25/tcp", rest=""), "2:10 warning: mail (SMTP 25) without the client's address"),
        (SERVICE.format(listen="10.0.0.10:143/tcp", rest=""), "2:10 warning: mail (IMAP 143) without the client's address"),
        (SERVICE.format(listen="10.0.0.10:25/tcp", rest='send-proxy = "v2"'), None),
        (SERVICE.format(listen="10.0.0.10:25/tcp", rest="transparent = true"), None),
        (SERVICE.format(listen="10.0.0.10:3306/tcp", rest=""), "2:10 warning: a bare tcp probe on 3306"),
        (SERVICE.format(listen="10.0.0.10:3307/tcp", rest="probe = { port = 3306 }"), "4:9 warning: a bare tcp probe on 3306"),
        (SERVICE.format(listen="10.0.0.10:3306/tcp", rest='probe = { type = "mysql", user = "x" }'), None),
        (SERVICE.format(listen="10.0.0.10:3306/tcp", rest='probe = { type = "none" }'), None),
        (SERVICE.format(listen="198.51.100.1:53/udp", rest='protocol = "dns"'), "2:10 warning: DNS on 198.51.100.1:53/udp is open to everybody"),
        (SERVICE.format(listen="*:53/udp", rest='protocol = "dns"'), "2:10 warning: DNS on 0.0.0.0:53/udp is open to everybody"),
        (SERVICE.format(listen="[2001:db8::1]:53/udp", rest='protocol = "dns"'), "2:10 warning: DNS on [2001:db8::1]:53/udp is open to everybody"),
        (SERVICE.format(listen="198.51.100.1:53/udp", rest='protocol = "dns"\nallow = ["10.0.0.0/8"]'), None),
        (SERVICE.format(listen="10.0.0.10:53/udp", rest='protocol = "dns"'), None),
        (SERVICE.format(listen="[fd00::1]:53/udp", rest='protocol = "dns"'), None),
        (SERVICE.format(listen="10.0.0.10:514/udp", rest=""), "2:10 warning: [service.a] is UDP and has no probe"),
        (SERVICE.format(listen="10.0.0.10:514/udp", rest='probe = { type = "none" }'), None),
        (TIERS.format(quorum=2), "4:10 warning: quorum = 2, and no tier has more than 1 backend"),
        (TIERS.format(quorum=1), None),
        (SERVICE.format(listen="10.0.0.10:80/tcp", rest="backend-defaults = { weight = 0 }"), "3:12 warning: every backend of [service.a] has weight 0"),
        (SERVICE.format(listen="10.0.0.10:80/tcp", rest='scheduler = "dh"'), '4:13 warning: destination-hash with hash-on = "source" hashes the client'),
        (SERVICE.format(listen="10.0.0.10:80/tcp", rest='scheduler = "dh"\nhash-on = "listener"'), None),
        (SERVICE.format(listen="10.0.0.10:53/udp", rest='protocol = "dns"\nscheduler = "dh"\nhash-on = "query-name"'), None),
        (SERVICE.format(listen="10.0.0.10:80/tcp", rest="queue = { size = 5 }"), "4:9 warning: no connection will ever wait in this queue"),
        (SERVICE.format(listen="10.0.0.10:80/tcp", rest="queue = { size = 5 }\nbackend-defaults = { max-connections = 1 }"), None),
        (SERVICE.format(listen="10.0.0.10:80/tcp", rest='scheduler = "fo"\nbackend-defaults = { slow-start = "5s" }'), "4:13 warning: slow-start has no effect with failover"),
        (SERVICE.format(listen="10.0.0.10:80/tcp", rest='backend-defaults = { slow-start = "5s" }'), None),
        (SERVICE.format(listen="10.0.0.10:80/tcp", rest='scheduler = "fo"\nweight-from = "latency"'), "5:15 warning: weight-from has no effect with failover"),
        (SERVICE.format(listen="10.0.0.10:80/tcp", rest='weight-from = "latency"'), None),
        (SERVICE.format(listen="10.0.0.10:80/tcp", rest='tcp = { max-lifetime = "5s" }'), "4:24 warning: connections live for 5s"),
        (SERVICE.format(listen="10.0.0.10:80/tcp", rest='tcp = { max-lifetime = "1h" }'), None),
        (SERVICE.format(listen="10.0.0.10:80/tcp", rest='tcp = { max-lifetime = "1h", idle-timeout = "4s" }'), "4:7 warning: max-lifetime has no effect"),
        (SERVICE.format(listen="10.0.0.10:80/tcp", rest='probe = { type = "redis", max-lag = "10s" }'), "4:37 warning: a Redis primary at rest"),
        (SERVICE.format(listen="10.0.0.10:80/tcp", rest='probe = { type = "redis", max-lag = "30s" }'), None),
        (ROUTER.format(addresses="10.0.0.1", rest='track = [{ service = "*" }]'), "5:10 warning: this service is tracked without a penalty"),
        (ROUTER.format(addresses="10.0.0.1", rest='track = [{ service = "*", penalty = 60 }]'), None),
        (ROUTER.format(addresses="10.0.0.1", rest='track = [{ interface = "eth1" }]'), None),
        (ROUTER.format(addresses="2001:db8::10", rest=""), "4:13 warning: the first IPv6 address is not link-local"),
        (ROUTER.format(addresses='fe80::10/64", "2001:db8::10', rest=""), None),
    ],
)  # fmt: skip
def test_what_is_unwise_is_told_and_what_mends_it_is_silent(said, text, expected):
    """Each warning of the reference is given at its place, and not once the file says what the warning asks for."""
    found = said(text)
    if expected is None:
        assert found == []
    else:
        assert [line[: len(expected)] for line in found] == [expected]


PROBE = """[probe.gate]
type = "imap"
address = "10.0.0.1"
port = 143
user = "x"
password-file = "{secret}"
{tracked}
[service.a]
listen = ["10.0.0.10:389/tcp"]
backends = ["10.0.0.11", {{ address = "{address}", name = "b" }}]
probe = {{ type = "{kind}", {keys} }}
[vrrp.r]
interface = "eth0"
vrid = 1
addresses = ["10.0.0.9"]
track = [{{ probe = "gate", penalty = 9 }}]
"""
SAFE = 'tls = "starttls"\ntls-name = "mail.example.net"'
IN_CLEAR = "probe sends its password in clear text: anybody on the network path can read it"


@pytest.mark.parametrize(
    ("kind", "keys", "tracked", "expected"),
    [
        ("imap", 'user = "x", {}', SAFE, [f"12:54 warning: this imap {IN_CLEAR}"]),
        ("pop3", 'user = "x", {}', SAFE, [f"12:54 warning: this pop3 {IN_CLEAR}"]),
        ("ldap", 'bind-dn = "x", {}', SAFE, [f"12:57 warning: this ldap {IN_CLEAR}"]),
        ("imap", 'user = "x", {}, tls = "implicit", tls-name = "a.example.net"', SAFE, []),
        (
            "imap",
            'user = "x", {}, tls = "implicit", tls-verify = false',
            SAFE,
            ["12:54 warning: this imap probe sends its password to any server that answers, because tls-verify is off"],
        ),
        ("imap", 'tls = "off"', SAFE, []),
        ("mysql", 'user = "x", {}', SAFE, []),
        ("mysql", 'user = "x", {}, tls = "starttls", tls-verify = false', SAFE, []),
        ("tcp", 'tls = "implicit"', SAFE, ["12:31 warning: without tls-name the certificate must contain the backend's address"]),
        ("http", 'tls = "implicit", host = "a.example.net"', SAFE, []),
        ("tcp", "port = 389", "", [f"6:17 warning: this imap {IN_CLEAR}"]),
    ],
)  # fmt: skip
def test_what_a_probe_tells_whom(said, tmp_path, kind, keys, tracked, expected):
    """S6, S9: a password in clear text or to an unverified server, and TLS without a name, are reported once for all backends."""
    secret = tmp_path / "pw"
    secret.write_text("x")
    secret.chmod(0o600)
    text = PROBE.format(
        secret=secret, kind=kind, keys=keys.format(f'password-file = "{secret}"'), tracked=tracked, address="10.0.0.12"
    )
    assert [line[: len(expected[0]) if expected else None] for line in said(text)] == expected


def test_loopback_is_no_way_to_listen_on(said, tmp_path):
    """A password that goes to a server of this host is no warning."""
    secret = tmp_path / "pw"
    secret.write_text("x")
    secret.chmod(0o600)
    text = SERVICE.format(
        listen="10.0.0.10:389/tcp", rest=f'probe = {{ type = "ldap", bind-dn = "x", password-file = "{secret}" }}'
    )
    assert said(text.replace("10.0.0.11", "127.0.0.2")) == []
