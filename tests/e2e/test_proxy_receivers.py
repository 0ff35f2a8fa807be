"""Servers that accept PROXY headers over TCP, each behind the daemon: they log or answer the client's own address."""

import contextlib
import shutil
import socket
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.e2e.loopback import QUICK, Node, free_port, lift_loopback
from tests.e2e.process import until
from tests.health.dovecot import configuration, ends
from tests.health.launch import needed, needs_root, running

SERVERS = ("nginx", "haproxy", "postfix", "dovecot")
VERSIONS = ("v1", "v2")
CLIENTS = {"127.0.0.1": "127.0.0.7", "::1": "::1"}  # by whom they ask; an IPv6 client's backend is asked over IPv4
HELLO = {
    "nginx": b"GET / HTTP/1.0\r\n\r\n",
    "haproxy": b"GET / HTTP/1.0\r\n\r\n",
    "postfix": b"QUIT\r\n",
    "dovecot": b"a LOGOUT\r\n",
}


def nginx(base: Path, port: int) -> list[str | Path]:
    """Answer with the addresses of the header."""
    places = " ".join(
        f"{kind}_temp_path {base}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    said = "$proxy_protocol_addr $proxy_protocol_port $proxy_protocol_server_addr $proxy_protocol_server_port"
    (
        base / "conf"
    ).write_text(f"""daemon off; master_process off; user root root; pid {base}/pid; error_log stderr warn;
events {{ worker_connections 64; }}
http {{
  access_log off; {places}
  server {{ listen 127.0.0.1:{port} proxy_protocol; return 200 "{said}\\n"; }}
}}
""")
    return [needed("nginx"), "-e", "stderr", "-p", base, "-c", base / "conf"]


def haproxy(base: Path, port: int) -> list[str | Path]:
    """Answer with the addresses that it sees as the connection's ends."""
    (base / "conf").write_text(f"""defaults
  timeout client 5s
  timeout server 5s
  timeout connect 5s
frontend answer
  mode http
  bind 127.0.0.1:{port} accept-proxy
  http-request return status 200 content-type text/plain lf-string "%[src] %[src_port] %[dst] %[dst_port]"
""")
    return [needed("haproxy"), "-db", "-f", base / "conf"]


def postfix(base: Path, port: int) -> list[str | Path]:
    """Log the client's address and port."""
    needs_root("postfix")
    for name in ("conf", "queue", "data"):
        (base / name).mkdir()
    shutil.chown(base / "data", "postfix")
    (base / "conf" / "main.cf").write_text(f"""compatibility_level = 3.6
queue_directory = {base}/queue
data_directory = {base}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
myhostname = mail.example.net
mydestination =
inet_interfaces = all
inet_protocols = all
maillog_file = {base}/maillog
maillog_file_prefixes = {base}
alias_maps =
alias_database =
local_recipient_maps =
smtpd_peername_lookup = no
smtpd_client_port_logging = yes
smtpd_upstream_proxy_protocol = haproxy
smtpd_forbid_unauth_pipelining = no
""")
    (base / "conf" / "master.cf").write_text(f"""127.0.0.1:{port} inet n - n - - smtpd
anvil unix - - n - 1 anvil
rewrite unix - - n - - trivial-rewrite
proxymap unix - - n - - proxymap
postlog unix-dgram n - n - 1 postlogd
""")
    return [needed("postfix"), "-c", base / "conf", "start-fg"]


def dovecot(base: Path, port: int) -> list[str | Path]:
    """Log the ends of each IMAP connection."""
    needs_root("dovecot")
    services = f"""service imap-login {{
  inet_listener imap {{
    port = {port}
    haproxy = yes
  }}
}}
"""
    text = configuration(base, services, protocols="imap", password="x", more=ends())
    (base / "conf").write_text(text)
    return [needed("dovecot"), "-F", "-c", base / "conf"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The four servers, and one daemon with a service for each and for each version, on both families."""
    lift_loopback()
    base = tmp_path_factory.mktemp("p")
    for path in (base, *base.parents):
        if path.owner() == base.owner() and "pytest" in str(path):
            path.chmod(0o755)  # some servers become other users
    home, services, where = {}, [], {}
    with contextlib.ExitStack() as stack:
        for name in SERVERS:
            home[name] = base / name
            home[name].mkdir()
            port = free_port()
            command = globals()[name](home[name], port)
            pid_file = home[name] / "queue" / "pid" / "master.pid" if name == "postfix" else None
            stack.enter_context(running(command, [port], home[name] / "log", pid_file))
            for version in VERSIONS:
                where[name, version] = free_port()
                services.append(
                    f"[service.{name}-{version}]\n"
                    f'listen = ["127.0.0.1:{where[name, version]}/tcp", "[::1]:{where[name, version]}/tcp"]\n'
                    f'backends = ["127.0.0.1:{port}"]\nsend-proxy = "{version}"\naccept-proxy = ["127.0.0.9/32"]\n'
                    f'probe = {{ type = "tcp", {QUICK} }}\n'
                )
        node = Node(base, "".join(services)).start()
        stack.callback(node.end)
        node.until(lambda s: all(one["backends"][0]["state"] == "up" for one in s["services"]), "all servers to be up")
        yield SimpleNamespace(home=home, where=where, node=node)


def visit(name: str, source: str, where: tuple[str, int], first: bytes = b"") -> tuple[str, tuple[str, int]]:
    """Open a short connection to a server; return its answer, and this client's address and port."""
    with socket.create_connection(where, timeout=10, source_address=(source, 0)) as sock:
        sock.sendall(first + HELLO[name])
        heard = b""
        while part := sock.recv(4096):
            heard += part
        return heard.decode(), sock.getsockname()[:2]


def told(site: Any, name: str, heard: str, client: tuple[str, int], asked: tuple[str, int]) -> bool:
    """Return True if the server's answer or log names this client."""
    match name:
        case "postfix":
            return f"connect from unknown[{client[0]}]:{client[1]}" in (site.home[name] / "maillog").read_text()
        case "dovecot":
            wanted = f"ends={client[0]}/{client[1]}/{asked[0]}/{asked[1]}"
            return wanted in (site.home[name] / "maillog").read_text()
        case _:
            return f"{client[0]} {client[1]} {asked[0]} {asked[1]}" in heard


@pytest.mark.parametrize(("name", "version", "address"), list(product(SERVERS, VERSIONS, CLIENTS)))
def test_the_server_sees_the_client(site: Any, name: str, version: str, address: str) -> None:
    """T22: each server gets the client's address and port from the header, in each version, over IPv4 and IPv6."""
    asked = (address, site.where[name, version])
    heard, client = visit(name, CLIENTS[address], asked)
    assert heard.startswith({"postfix": "220 ", "dovecot": "* OK"}.get(name, "HTTP/1.1 200"))
    until(lambda: told(site, name, heard, client, asked), 10, f"{name} to tell of {client}")


@pytest.mark.parametrize(("name", "version"), list(product(SERVERS, VERSIONS)))
def test_whom_a_listed_source_speaks_for(site: Any, name: str, version: str) -> None:
    """T22: the server sees the client that a listed source names in a version 1 header, whichever version it gets itself."""
    client, asked = ("203.0.113.5", 4711), ("198.51.100.10", 25)
    header = f"PROXY TCP4 {client[0]} {asked[0]} {client[1]} {asked[1]}\r\n".encode()
    heard, _ = visit(name, "127.0.0.9", ("127.0.0.1", site.where[name, version]), header)
    until(lambda: told(site, name, heard, client, asked), 10, f"{name} to tell of {client}")


@pytest.mark.parametrize("option", ["send-proxy", "send-proxy-v2"])
def test_haproxy_as_the_sender(site: Any, tmp_path: Path, option: str) -> None:
    """T22: the client's address in HAProxy's header of either version, from a listed source, reaches the server."""
    port = free_port()
    (tmp_path / "conf").write_text(f"""defaults
  mode tcp
  timeout client 5s
  timeout server 5s
  timeout connect 5s
listen on
  bind 127.0.0.1:{port}
  source 127.0.0.9
  server one 127.0.0.1:{site.where["nginx", "v2"]} {option}
""")
    with running([needed("haproxy"), "-db", "-f", tmp_path / "conf"], [port], tmp_path / "log"):
        heard, client = visit("nginx", "127.0.0.7", ("127.0.0.1", port))
    assert f"{client[0]} {client[1]} 127.0.0.1 {port}" in heard
