"""Two daemons with a link between them: their certificates, what each says of the link, and a peer that lies."""

import asyncio
import datetime as dt
import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from proxy.peer import tls
from proxy.peer.certificates import Made, make
from tests.e2e.pairs import Host, Pair, daemons
from tests.e2e.process import until

ADDRESSES = {"a": "198.51.100.2", "b": "198.51.100.3"}
PORT = 9601
SECTION = """
[pair]
members          = {{ a = "{a}", b = "{b}" }}
certificate      = {{ a = "{dir}/a.pem", b = "{dir}/b.pem" }}
peer-certificate = {{ a = "{dir}/b.crt", b = "{dir}/a.crt" }}
{more}
"""


def certificates(directory: Path) -> dict[str, Made]:
    """Write the certificates of both hosts, as `pair init` makes them, and return them with one of a stranger."""
    made = {name: make(name, dt.datetime.now(dt.UTC)) for name in ("a", "b", "stranger")}
    for name in ("a", "b"):
        (directory / f"{name}.pem").touch(0o600)
        (directory / f"{name}.pem").write_bytes(made[name].secret)
        (directory / f"{name}.crt").write_bytes(made[name].public)
    return made


@contextmanager
def linked(directory: Path, *, pair: str = "", more: str = "", **options: Any) -> Iterator[Pair]:
    """Make two daemons with a link, not started yet; `pair` has more lines of the section."""
    certificates(directory)
    section = SECTION.format(**ADDRESSES, dir=directory, more=pair)
    with daemons(more=more + section, **options) as made:
        yield made


def link(host: Host) -> dict[str, Any]:
    """Return what a host says of its link."""
    done = host.daemon.cli("pair", "status", "--json")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def until_linked(pair: Pair) -> None:
    """Wait until each host has heard the other."""
    for host in (pair.a, pair.b):
        until(lambda host=host: link(host)["state"] == "connected", 15, f"{host.name} to have a link")  # type: ignore[misc]


def admin(host: Host, backend: str = "198.51.100.5") -> str:
    """Return the admin state of the backend on a host."""
    (service,) = host.daemon.status()["services"]
    (row,) = [row for row in service["backends"] if row["name"] == backend]
    state: str = row["admin"]
    return state


def context(own: Made, peer: Made) -> ssl.SSLContext:
    """Return the TLS of a client that shows `own`."""
    return tls.context(own.secret, peer.public, server=False)


def run(work: Any, timeout: float = 20.0) -> Any:
    """Run a coroutine to its end."""

    async def bounded() -> Any:
        async with asyncio.timeout(timeout):
            return await work

    return asyncio.run(bounded())
