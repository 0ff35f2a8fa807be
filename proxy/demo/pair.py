"""The story of the pair's demo: two hosts, one address, and every way in which the first host can fail."""

import asyncio
import itertools
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from proxy.control.wire import ControlError
from proxy.demo.hosts import APP_PORT, DNS_PORT, LOOK, PATIENCE, Hosts
from proxy.demo.load import Load
from proxy.demo.namespaces import enclosed, enter, within
from proxy.demo.outcome import Outcome, longest_silence, table
from proxy.demo.parts import DemoError, Say, spawn
from proxy.demo.site import ADDRESS, BALANCERS, SERVERS, Site
from proxy.moments import unix

QUERIES = 200.0  # a second
CONNECTIONS = 20.0  # a second
TRIES = (1.0, 1.0, 1.0)  # s; resolv.conf(5): options timeout:1 attempts:3
SETTLED = 2.5  # s that the address must stay on the right host before the next event


@dataclass(frozen=True, slots=True)
class _Event:
    """An event, and the host that has the address afterwards."""

    what: str
    then: str
    act: Callable[[], Awaitable[None]]


class Pair:
    """The network, the servers, the two daemons and the clients of one run: process 1 of its namespace."""

    def __init__(self, site: Site, folder: Path, say: Say) -> None:
        self._site = site
        self._hosts = hosts = Hosts(site, folder)
        self._folder = folder
        self._say = say
        self._outcomes: list[Outcome] = []
        self._load = Load((ADDRESS, DNS_PORT), (ADDRESS, APP_PORT), QUERIES, CONNECTIONS, TRIES)
        self._events = [
            _Event("nothing, for comparison", "lb1", _nothing),
            _Event("steelyard standby on lb1", "lb2", lambda: hosts.tell("standby")),
            _Event("steelyard resume on lb1", "lb1", lambda: hosts.tell("resume")),
            _Event("lb1's master is killed", "lb2", hosts.kill_master),
            _Event("lb1 is started again", "lb1", hosts.restart),
            _Event("lb1's cable is pulled", "lb2", lambda: hosts.cable(plugged=False)),
            _Event("lb1's cable is plugged in", "lb1", lambda: hosts.cable(plugged=True)),
            _Event("all of lb1 is killed at once", "lb2", self._kill_all),
            _Event("lb1 is started once more", "lb1", hosts.restart),
        ]

    async def run(self) -> bool:
        """Run the story; return True if the address was always on the right host and no query was lost."""
        self._say("Two hosts, lb1 and lb2, in network namespaces, with one file:\n")
        self._say("".join(f"    {line}".rstrip() + "\n" for line in self._hosts.config.splitlines()))
        with within(self._site.networks["servers"]):
            for name, address in SERVERS.items():
                kind, port = ("dns", DNS_PORT) if name.startswith("ns") else ("greeter", APP_PORT)
                spawn("proxy.demo.backend", kind, "{peer}", address, str(port), log=self._folder / f"{name}.log")
        for host in BALANCERS:
            self._hosts.start(host)
        await self._hosts.ready("lb1", "active")
        await self._hosts.ready("lb2", "backup")
        enter(self._site.networks["client"])  # the load creates its sockets here
        self._say(
            f"A client sends {QUERIES:.0f} DNS queries and opens {CONNECTIONS:.0f} connections a second to {ADDRESS}."
        )
        self._say("It repeats a query after one and after two seconds, like `options timeout:1 attempts:3`.")
        self._say("Each line counts the answers of one second; repeated and lost count from the beginning.\n")
        running = asyncio.ensure_future(self._load.run())
        await self._play()
        self._load.stop()
        await running
        return self._summary()

    async def _play(self) -> None:
        self._say("     |    queries answered by    | connections answered by |")
        self._say("   s |   lb1   lb2 repeated lost |     lb1     lb2   lost  | address on")
        counting = asyncio.ensure_future(self._count())
        for event in self._events:
            self._say(f"     -- {event.what}")
            outcome = Outcome(event.what, event.then, time.monotonic(), *self._load.turn())
            self._outcomes.append(outcome)
            await event.act()
            await self._settle(event.then)
            outcome.silence = longest_silence(self._load.heard, outcome.since, time.monotonic())
            outcome.holder = "+".join(self._site.holders())
            if outcome.holder != event.then:
                break  # the next events would prove nothing
        counting.cancel()

    async def _settle(self, host: str) -> None:
        """Wait until one host alone has had the address for SETTLED seconds; at most PATIENCE."""
        deadline = time.monotonic() + PATIENCE
        moved = time.monotonic()
        while (now := time.monotonic()) < min(moved + SETTLED, deadline):
            if self._site.holders() != [host]:
                moved = now
            await asyncio.sleep(LOOK)

    async def _count(self) -> None:
        """Print once a second which host answered."""
        due = time.monotonic()
        before: Counter[str] = Counter()
        for second in itertools.count(1):
            due += 1
            await asyncio.sleep(due - time.monotonic())
            after = self._answered()
            self._say(_line(second, after - before, after, self._site.holders()))
            before = after

    async def _kill_all(self) -> None:
        lapse = await self._hosts.kill_all()
        self._say(f"     -- lb1's kernel has removed the address by itself, {lapse:.1f} s later")

    def _answered(self) -> Counter[str]:
        """Return the counts so far, by "dns lb1", "app lb1", "dns lost"..."""
        total: Counter[str] = Counter()
        for one in self._outcomes:
            for kind, tally in (("dns", one.queries), ("app", one.connections)):
                total.update({f"{kind} {host}": tally.answered[address] for host, address in BALANCERS.items()})
                total.update({f"{kind} repeated": tally.repeated, f"{kind} lost": tally.losses})
        return total

    def _summary(self) -> bool:
        self._say("\nThe events, as `steelyard events` shows them on each host:\n")
        events = [
            (unix(event["at"]), host, event)
            for host, daemon in self._hosts.daemons.items()
            for event in daemon.events()
        ]
        for at, host, event in sorted(events, key=lambda one: one[0]):
            if event["kind"] == "vrrp":
                moment = f"{time.strftime('%H:%M:%S', time.localtime(at))}.{int(at % 1 * 1000):03d}"
                self._say(f"    {moment} {host} {event['subject']}: {event['text']}")
        self._say("\nSummary:\n")
        for line in table(self._outcomes):
            self._say(f"    {line}")
        lost = sum(one.queries.losses for one in self._outcomes)
        last = self._outcomes[-1]
        stray = last.holder != last.expected
        self._say(f"\n{f'{lost} QUERIES LOST.' if lost else 'No query was lost.'}")
        if stray:
            self._say(f"THE ADDRESS DID NOT REACH {last.expected} after: {last.what}.")
        return not lost and not stray


async def _nothing() -> None:
    pass


def _line(second: int, news: Counter[str], total: Counter[str], holders: list[str]) -> str:
    return (
        f"{second:4d} | {news['dns lb1']:5d} {news['dns lb2']:5d} {total['dns repeated']:8d} {total['dns lost']:4d} |"
        f" {news['app lb1']:7d} {news['app lb2']:7d} {total['app lost']:6d}  | {' and '.join(holders) or 'nobody'}"
    )


def play(say: Say) -> int:
    """Run the demo in new namespaces; return its exit status. Raises NamespaceError if it cannot run here."""
    with tempfile.TemporaryDirectory(prefix="steelyard-demo-") as folder:

        def work() -> int:
            try:
                return 0 if asyncio.run(Pair(Site(), Path(folder), say).run()) else 1
            except (DemoError, ControlError) as error:
                sys.stderr.write(f"steelyard: demo: {error}\n")
                return 1

        return enclosed(work)
