"""Takes the pictures of the page for the documentation: `python -m tests.e2e.pictures`, which needs Chromium.

They show made-up hosts, with documentation addresses.
"""

import asyncio
import time
from pathlib import Path
from typing import Any

from tests.e2e import browser
from tests.proxy.web.bed import Bed, backend, service, status

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
SIZES = {"phone": (390, 844), "desktop": (1280, 900)}
SCHEMES = ("light", "dark")


def example(now: float) -> dict[str, Any]:
    """Return the status of a host of a mail site: one replica lags, one directory server is down, one is drained."""

    def one(address: str, state: str = "up", reason: str = "connected in 0.4 ms", **more: Any) -> dict[str, Any]:
        probes = [{"type": "tcp", "ok": state != "down", "reason": reason, "latency_ms": 0.4, "at": now}]
        name = address.rpartition(":")[0] or address
        return backend(
            name, address=address, state=state, reason=reason, probes=probes, **({"since": now - 93_600} | more)
        )

    dns = service(
        "dns",
        one("10.0.0.11", reason="SOA serial 2026113001", active=41, rate=1840.4, latency_ms={"p50": 0.3, "p99": 2.1}),
        one("10.0.0.12", reason="SOA serial 2026113001", active=38, rate=1799.9, latency_ms={"p50": 0.3, "p99": 1.9}),
        protocol="dns", listen=["10.0.0.10:53/udp", "10.0.0.10:53/tcp"],
    )  # fmt: skip
    ldap = service(
        "ldap",
        one("10.0.0.21:389", active=212, rate=14.2, latency_ms={"p50": 0.6, "p99": 4.4}),
        one("10.0.0.22:389", "down", "ldap 389: connection refused (3 failures in a row)", since=now - 260, active=0,
            rate=0.0, effective_weight=0, latency_ms={"p50": None, "p99": None}),
        state="degraded", listen=["10.0.0.10:389/tcp", "10.0.0.10:636/tcp"],
    )  # fmt: skip
    mysql = service(
        "mysql-read",
        one("10.0.0.32:3306", "down", "replica 44 s behind, over max-lag (30s)", since=now - 61, active=3, rate=0.0,
            effective_weight=0, latency_ms={"p50": 0.8, "p99": 12.0}),
        one("10.0.0.33:3306", reason="replica 0 s behind", active=64, rate=8.5, latency_ms={"p50": 0.8, "p99": 9.0}),
        one("10.0.0.31:3306", "reserve", "writer: kept in reserve behind the replicas", active=0, rate=0.0,
            effective_weight=0, latency_ms={"p50": None, "p99": None}),
        state="degraded", listen=["10.0.0.10:3307/tcp"],
    )  # fmt: skip
    imap = service(
        "imap",
        one("10.0.0.51:143", active=1904, rate=3.1, latency_ms={"p50": 0.9, "p99": 6.0}),
        one("10.0.0.52:143", admin="drain", admin_by="root", admin_reason="new kernel", active=377, rate=0.0,
            effective_weight=0, latency_ms={"p50": 0.9, "p99": 7.0}),
        listen=["198.51.100.10:143/tcp", "198.51.100.10:993/tcp", "[2001:db8:1::10]:143/tcp", "[2001:db8:1::10]:993/tcp"],
    )  # fmt: skip
    peer = {"node": "lb2", "address": "10.0.0.3", "priority": 100, "last_advert_s": 1.2}
    router = {
        "name": "inside", "state": "active", "priority": 150, "effective_priority": 90,
        "priority_parts": {"service ldap": -60}, "addresses": ["10.0.0.10/24", "fd00:10::10/64"], "standby": False,
        "since": now - 93_600, "peer": peer,
        "last_change": {"at": now - 93_600, "from": "backup", "to": "active", "reason": "no advert from 10.0.0.3 for 3.4 s"},
    }  # fmt: skip
    outside = router | {
        "name": "outside", "effective_priority": 150, "priority_parts": {},
        "addresses": ["198.51.100.10/24", "2001:db8:1::10/64"],
    }  # fmt: skip
    return status(dns, ldap, mysql, imap, vrrp=[outside, router], uptime_s=93_700.0)


def events(now: float) -> list[dict[str, Any]]:
    """Return what has happened there."""
    rows = [
        (93_600, "vrrp", "outside", "active: no advert from 10.0.0.3 for 3.4 s", "info"),
        (1_900, "admin", "imap/10.0.0.52", "drain by root: new kernel", "info"),
        (260, "verdict", "ldap/10.0.0.22", "down: ldap 389: connection refused (3 failures in a row)", "warning"),
        (61, "verdict", "mysql-read/10.0.0.32", "down: replica 44 s behind, over max-lag (30s)", "warning"),
    ]
    return [
        {"at": now - ago, "kind": kind, "subject": what, "text": text, "level": level}
        for ago, kind, what, text, level in rows
    ]


async def taken(folder: Path) -> list[Path]:
    """Take each picture; return the files."""
    bed, now, found = await Bed().start(), time.time(), []
    bed.show(example(now))
    bed.view.tell(events(now))
    try:
        async with browser.opened(f"http://127.0.0.1:{bed.port}/") as page:
            for name, (width, height) in SIZES.items():
                for scheme in SCHEMES:
                    await page.look(width, height, scheme)
                    bed.show(example(now))
                    await page.until('document.querySelector("#live") !== null', 60)
                    bed.show(example(now))
                    await page.until('document.querySelector("#live").className === "fresh"', 20)
                    await page.until('document.querySelectorAll("#events li").length === 4', 20)
                    wide = await page.run("document.documentElement.scrollWidth")
                    assert wide <= width, f"{name}: {wide} pixels wide"
                    found.append(folder / f"page-{name}-{scheme}.png")
                    await page.picture(found[-1])
                    if name == "phone":
                        await page.run("window.scrollTo(0, 1e6)")
                        found.append(folder / f"page-{name}-{scheme}-end.png")
                        await page.picture(found[-1])
                        await page.run("window.scrollTo(0, 0)")
            assert page.console == [], page.console
    finally:
        await bed.server.close(0.0)
    return found


if __name__ == "__main__":
    PICTURES.mkdir(exist_ok=True)
    for file in asyncio.run(taken(PICTURES)):
        print(file)
