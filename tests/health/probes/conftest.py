"""An authority with its certificates, and the real servers that several test modules meet."""

import shutil
import socket
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from health.probes.base import Attempt
from tests.health.dovecot import configuration
from tests.health.launch import PASSWORD, free_ports, needed, needs_root, running
from tests.health.pki import Authority, Issued

NAME = "mail.example.net"


@pytest.fixture
def octets(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list to which each read of a probe adds how many octets it brought."""
    receive, sizes = Attempt._receive_raw, []

    async def counted(self: Attempt, opened: socket.socket, size: int) -> bytes:
        data = await receive(self, opened, size)
        sizes.append(len(data))
        return data

    monkeypatch.setattr(Attempt, "_receive_raw", counted)
    return sizes


class Pki(NamedTuple):
    """The authority's own certificate, and certificates by what is right or wrong with them."""

    ca: Path
    good: Issued
    expired: Issued
    early: Issued
    self_signed: Issued
    foreign: Issued

    def server(self, which: str = "good") -> ssl.SSLContext:
        """Return a server's context."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*getattr(self, which))
        return context


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """Make an authority, and certificates good and bad."""
    needed("openssl")
    own = Authority(tmp_path_factory.mktemp("pki"))
    other = Authority(tmp_path_factory.mktemp("foreign"), "Foreign Authority")
    return Pki(
        own.ca,
        own.issue(NAME, "*.example.net", "127.0.0.1"),
        own.issue("expired.example.net", begin=-33.0, end=-3.5),
        own.issue("early.example.net", begin=5.0),
        own.self_signed("self.example.net", "-addext", "subjectAltName=DNS:self.example.net"),
        other.issue("foreign.example.net"),
    )


@pytest.fixture(scope="session")
def place() -> Iterator[Path]:
    """Return a directory that servers of other users can enter."""
    with tempfile.TemporaryDirectory(prefix="steelyard-test-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        yield Path(name)


class Nginx(NamedTuple):
    """The ports of nginx: clear text, TLS, and clear text that begins with a PROXY header."""

    plain: int
    tls: int
    proxied: int


@pytest.fixture(scope="session")
def nginx(pki: Pki, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    """Run nginx, with a certificate by the name that SNI asks for."""
    binary, base = needed("nginx"), tmp_path_factory.mktemp("nginx")
    ports = Nginx(*free_ports(3))
    (base / "index.html").write_text("<title>It works</title>\n")
    (base / "big").write_text("x" * 200_000 + "end")
    places = """
        location = /moved { return 302 /elsewhere; }
        location = /broken { return 503; }
        location = /host { return 200 "$http_host $request_method $ssl_server_name"; }
    """
    secure = "".join(
        f"""
    server {{
        listen 127.0.0.1:{ports.tls} ssl{" default_server" if which == "good" else ""};
        server_name {which.replace("self_signed", "self")}.example.net;
        ssl_certificate {getattr(pki, which).certificate};
        ssl_certificate_key {getattr(pki, which).key};
        root {base};
        {places}
    }}"""
        for which in ("good", "expired", "early", "self_signed", "foreign")
    )
    (base / "nginx.conf").write_text(f"""
daemon off;
master_process off;
pid {base}/pid;
error_log stderr;
events {{ worker_connections 64; }}
http {{
    access_log off;
    ssl_protocols TLSv1.2 TLSv1.3;
    client_body_temp_path {base}/t1; proxy_temp_path {base}/t2; fastcgi_temp_path {base}/t3;
    uwsgi_temp_path {base}/t4; scgi_temp_path {base}/t5;
    server {{ listen 127.0.0.1:{ports.plain}; root {base}; {places} }}
    server {{ listen 127.0.0.1:{ports.proxied} proxy_protocol; root {base}; {places} }}
    {secure}
}}
""")
    command = [binary, "-e", "stderr", "-p", base, "-c", base / "nginx.conf"]
    with running(command, list(ports), base / "log"):
        yield ports


class Postfix(NamedTuple):
    """The ports of postfix; the last two want a PROXY header."""

    smtp: int
    smtps: int
    plain: int
    proxied: int
    postscreen: int


@pytest.fixture(scope="session")
def postfix(pki: Pki, place: Path) -> Iterator[Postfix]:
    """Run postfix with STARTTLS, smtps, a port without TLS, and PROXY headers for smtpd and for postscreen."""
    binary, base = needed("postfix"), place / "postfix"
    needs_root("postfix")
    for name in ("conf", "queue", "data"):
        (base / name).mkdir(parents=True)
    shutil.chown(base / "data", "postfix")
    ports = Postfix(*free_ports(5))
    (base / "conf" / "main.cf").write_text(f"""
compatibility_level = 3.6
queue_directory = {base}/queue
data_directory = {base}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
myhostname = {NAME}
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
maillog_file = {base}/maillog
maillog_file_prefixes = {base}
alias_maps =
alias_database =
local_recipient_maps =
smtpd_helo_required = yes
smtpd_tls_cert_file = {pki.good.certificate}
smtpd_tls_key_file = {pki.good.key}
smtpd_tls_security_level = may
""")
    (base / "conf" / "master.cf").write_text(f"""
127.0.0.1:{ports.smtp} inet n - n - - smtpd
127.0.0.1:{ports.smtps} inet n - n - - smtpd -o smtpd_tls_wrappermode=yes
127.0.0.1:{ports.plain} inet n - n - - smtpd -o smtpd_tls_security_level=none
127.0.0.1:{ports.proxied} inet n - n - - smtpd -o smtpd_upstream_proxy_protocol=haproxy
127.0.0.1:{ports.postscreen} inet n - n - 1 postscreen -o postscreen_upstream_proxy_protocol=haproxy
smtpd pass - - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
anvil unix - - n - 1 anvil
tlsmgr unix - - n 1000? 1 tlsmgr
dnsblog unix - - n - 0 dnsblog
tlsproxy unix - - n - 0 tlsproxy
proxymap unix - - n - - proxymap
postlog unix-dgram n - n - 1 postlogd
""")
    command = [binary, "-c", base / "conf", "start-fg"]
    with running(command, list(ports), base / "log", base / "queue" / "pid" / "master.pid"):
        yield ports


class Dovecot(NamedTuple):
    """The ports of dovecot; the third of each protocol wants a PROXY header, and one speaks TLS after it."""

    imap: int
    imaps: int
    imap_proxied: int
    pop3: int
    pop3s: int
    pop3_proxied: int
    imaps_proxied: int


@pytest.fixture(scope="session")
def dovecot(pki: Pki, place: Path) -> Iterator[Dovecot]:
    """Run dovecot, where every user but "nobody" has the password `PASSWORD`; POP3 and IMAP, each in three forms."""
    binary, base = needed("dovecot"), place / "dovecot"
    needs_root("dovecot")
    (base / "mail").mkdir(parents=True)
    shutil.chown(base / "mail", "mail", "mail")
    ports = Dovecot(*free_ports(7))
    services = f"""
service imap-login {{
    inet_listener imap {{
        port = {ports.imap}
    }}
    inet_listener imaps {{
        port = {ports.imaps}
        ssl = yes
    }}
    inet_listener proxied {{
        port = {ports.imap_proxied}
        haproxy = yes
    }}
    inet_listener proxied-ssl {{
        port = {ports.imaps_proxied}
        haproxy = yes
        ssl = yes
    }}
}}
service pop3-login {{
    inet_listener pop3 {{
        port = {ports.pop3}
    }}
    inet_listener pop3s {{
        port = {ports.pop3s}
        ssl = yes
    }}
    inet_listener proxied {{
        port = {ports.pop3_proxied}
        haproxy = yes
    }}
}}
"""
    text = configuration(base, services, password=PASSWORD, certificate=pki.good)
    (base / "dovecot.conf").write_text(text)
    with running([binary, "-F", "-c", base / "dovecot.conf"], list(ports), base / "log"):
        yield ports
