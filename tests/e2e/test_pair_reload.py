"""A reload of two whole daemons that share an address: its routers change where they stand."""

import re
import time

from tests.e2e.clients import whoami_dns
from tests.e2e.pairs import daemons
from tests.e2e.vrrp import Adverts
from tests.e2e.watch import addresses_now

A = "198.51.100.2"
SECOND = "198.51.100.11"
SYNC = """
[vrrp.second]
interface = "eth0"
vrid = 52
addresses = ["198.51.100.12/24"]
[sync-group.both]
vrrp = ["outside", "second"]
"""


def test_a_reload_moves_no_address():
    """R3: priority, tracks, addresses, and a router that joins in a sync group come into force, and nothing moves."""
    with daemons(workers=1) as pair:
        pair.start()
        for host in (pair.a, pair.b):
            host.mark()
        wire = Adverts(pair.bed)
        steps = [
            ("a = 150", "a = 140"),
            ("penalty = 60", "penalty = 30"),
            ('"198.51.100.10/24"', f'"198.51.100.10/24", "{SECOND}/24"'),
            ("[service.dns]", f"{SYNC}[service.dns]"),
        ]
        for old, new in steps:
            for host in (pair.a, pair.b):
                file = host.daemon.file
                text = file.read_text()
                assert old in text
                file.write_text(text.replace(old, new))
                done = host.daemon.cli("reload")
                assert done.returncode == 0, done.stdout + done.stderr
        pair.a.daemon.until(lambda status: [one["state"] for one in status["vrrp"]] == ["active", "active"], "a active")
        time.sleep(1)
        rows = {row["name"]: row for row in pair.a.daemon.status()["vrrp"]}
        assert rows["outside"]["priority"] == 140
        assert rows["second"]["priority"] == 140
        assert {SECOND, "198.51.100.12"} <= set(addresses_now(pair.bed, "a"))
        assert whoami_dns(pair.bed, SECOND)
        for host in (pair.a, pair.b):
            assert [name for name, _ in host.moves() if name == "outside"] == []
        assert wire.longest_gap(A) < 0.3
        assert not any(priority == 0 for _, priority, _ in wire.of(A))
        assert re.search(r"priority 150 -> 140", pair.a.daemon.proc.output())
