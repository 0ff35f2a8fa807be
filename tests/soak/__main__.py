"""`python -m tests.soak`: two whole daemons, every processor saturated by what they relay, and an address that stays (V17).

Real dnsperf and wrk load a DNS and an HTTP service through the virtual address, for ten minutes by default; busy loops
take what they leave.  Meanwhile the kernels of both hosts tell who has the address, and the client's when adverts came.
"""

import os
import sys
import time
from pathlib import Path

import click

from tests.e2e import clients
from tests.e2e.bed import Bed
from tests.e2e.pairs import ADDRESS, SERVER, Host
from tests.e2e.process import BedError, EndedError, MissingError, Proc, until
from tests.e2e.servers import Nginx, Nsd
from tests.e2e.vrrp import LAN, VIP, pair
from tests.e2e.watch import Watch, gaps
from tests.soak.verdict import Found

INTERVAL = 0.1
A, B = "198.51.100.2", "198.51.100.3"
LOOK = 15.0  # s between two words on how it goes
FILE = f"""
nodes = ["a", "b"]
[vrrp.outside]
interface = "eth0"
vrid = 51
addresses = ["{VIP[4]}"]
priority = {{ a = 150, b = 100 }}
advert-interval = "{INTERVAL * 1e3:.0f}ms"
track = [{{ service = "*", penalty = 60 }}]
[service.dns]
listen = ["outside:53/udp", "outside:53/tcp"]
protocol = "dns"
backends = ["{SERVER}"]
probe = {{ type = "dns", query = "example.net SOA" }}
[service.http]
listen = ["outside:80/tcp"]
backends = ["{SERVER}"]
"""


def ticks() -> tuple[int, int]:
    """Return how long all processors have been busy, and existed."""
    fields = [int(one) for one in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return sum(fields) - fields[3] - fields[4], sum(fields)


def load(bed: Bed, seconds: int, hogs: int) -> tuple[Proc, Proc]:
    """Start what saturates the machine: dnsperf and wrk through the address, and `hogs` busy loops beside them."""
    for _ in range(hogs):
        bed.spawn("client", ["timeout", str(seconds + 30), "sh", "-c", "while :; do :; done"])
    dns = clients.dnsperf_start(bed, ADDRESS, seconds, outstanding=200, clients=10)
    argv = ["wrk", "-t", "1", "-c", "32", "-d", f"{seconds}s", clients.url(ADDRESS, 80, "/small")]
    return dns, bed.spawn("client", argv)


def told_moves(hosts: tuple[Host, Host], after: tuple[int, ...] = (0, 0)) -> list[list[str]]:
    """Return the moves of each host so far, oldest first, without so many of the first ones."""
    told = [[f"{host.name}: {text}" for _, text in host.moves()] for host in hosts]
    return [moves[count:] for moves, count in zip(told, after, strict=True)]


def soak(bed: Bed, seconds: int, hogs: int) -> tuple[Found, list[str]]:
    """Do it once; what was found, and what the clients say."""
    bed.host("server")
    bed.attach("server", LAN, f"{SERVER}/24")
    Nsd(bed, "server", [SERVER])
    Nginx(bed, "server", [SERVER])
    a, b = (Host(bed, name, FILE) for name in ("a", "b"))
    with Watch(bed, ADDRESS, adverts="client") as watch:
        for host in (a, b):
            host.start(wait=False)
        a.wait("active", 30)
        b.wait("backup", 30)
        for host in (a, b):
            host.settle()
        until(lambda: watch.holders() == ["a"] and b.router["peer"], 10, "a to have the address, and b to hear it")
        time.sleep(1)
        before, (busy, existed) = tuple(len(moves) for moves in told_moves((a, b))), ticks()
        begin, since, seen = time.time(), time.monotonic(), len(watch.adverts)
        dns, http = load(bed, seconds, hogs)
        while (left := since + seconds - time.monotonic()) > 0:
            time.sleep(min(LOOK, left))
            largest = max(gaps([one.at for one in watch.adverts[seen:]]), default=0.0)
            words = f"{time.monotonic() - since:.0f} s: largest gap {largest * 1e3:.1f} ms"
            click.echo(f"{words}, the address on {', '.join(watch.holders()) or 'nobody'}", err=True)
        end, (busy_now, existed_now) = time.time(), ticks()
        adverts = [one for one in watch.adverts[seen:] if begin <= one.at <= end]
        asked, got = clients.dnsperf_result(dns, 60), http.wait(60)
        if got:
            raise BedError(http.report())
        fetched = clients.HttpLoad.parse(http.output())
        found = Found(
            interval=INTERVAL,
            begin=begin,
            end=end,
            source=A,
            adverts=adverts,
            told=list(watch.told),
            since=since,
            moves=[move for moves in told_moves((a, b), before) for move in moves],
            holders=watch.holders(),
            busy=(busy_now - busy) / max(1, existed_now - existed),
            priorities=sorted({one.priority for one in adverts}),
        )
    policies = {os.sched_getscheduler(pid) & ~os.SCHED_RESET_ON_FORK for pid in a.child("proxy.vrrpd")}
    return found, [
        f"dnsperf {asked.rate:,.0f} queries/s, {asked.lost} of {asked.sent:,} lost",
        f"wrk {fetched.rate:,.0f} requests/s, {fetched.errors + fetched.not_ok} failed; beside them {hogs} busy loops",
        f"vrrp is {'real-time' if policies == {os.SCHED_RR} else 'NOT real-time'}",
    ]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--seconds", default=600, show_default=True, type=click.IntRange(5), help="How long the load goes on.")
@click.option("--hogs", default=os.cpu_count() or 1, show_default=True, help="Busy loops beside the load.")
def main(seconds: int, hogs: int) -> None:
    """Saturate every processor beneath a pair, and say whether its address stayed."""
    with pair() as bed:
        try:
            found, said = soak(bed, seconds, hogs)
        except (BedError, EndedError, MissingError) as error:
            click.echo(bed.report(), err=True)
            raise click.ClickException(str(error)) from error
    click.echo("\n".join([*found.report(), *said]))
    wrong = found.wrong()
    for words in wrong:
        click.echo(f"WRONG: {words}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main(prog_name="python -m tests.soak")
