"""The vrrp child: `vrrp.runner` behind the master's channel, on stdlib asyncio.

Only this process keeps NET_ADMIN and NET_RAW, and only this one has real-time scheduling.  It follows the master's
heartbeat: without a master, or without a worker that serves, its routers leave and advertise priority 1 (V18).  If the
master ends for good, this process lives on as long as the workers may still serve, and no longer.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Collection, Coroutine
from pathlib import Path
from typing import Any, cast

from health.executable import trusted
from proxy.host.privileges import CAP_NET_ADMIN, CAP_NET_RAW
from proxy.processes import channel
from proxy.processes.heartbeat import Pulse
from proxy.processes.messages import common as messages
from proxy.processes.messages import vrrp as vrrp_messages
from proxy.processes.signals import OURS, STOPPING
from proxy.processes.startup import inherit
from proxy.records import document, log
from vrrp.precedence import take_precedence
from vrrp.report import Handover, Moved
from vrrp.runner import Runner
from vrrp.settings import SCRIPT_TIMEOUT, Settings, former

LOOK = 0.1  # s between two checks of the master, and between two `Held` messages
STALL = 3.0  # s without a message from the master until it counts as dead
AT_ONCE = 0.5  # s that notify scripts get when the process ends in a hurry
NUMBERS = "vrrp-numbers.json"
"""The file in the state directory with the numbers of signed adverts."""
ORPHAN_INTERVALS = 5  # advert intervals within which an orphan is active again, or another host is

_log = logging.getLogger("steelyard.vrrp")


class _Stored:
    """The numbers of signed adverts, in the state directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def load(self) -> Any:
        """Return the document that was saved last."""
        try:
            return document.load(self._directory, NUMBERS)
        except document.StateError as error:
            raise OSError(str(error)) from error

    def save(self, numbers: Any) -> None:
        """Replace the document."""
        try:
            document.save(self._directory, NUMBERS, numbers)
        except document.StateError as error:
            raise OSError(str(error)) from error


class Vrrp:
    """Carries out the master's orders on the runner."""

    def __init__(self, sock: socket.socket, refused: list[str]) -> None:
        self._loop = asyncio.get_running_loop()
        self._refused = refused
        self._runner: Runner | None = None
        self._starting: asyncio.Task[None] | None = None  # the last start of routers, or change of them
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: list[messages.Message] = []  # messages that came before the runner was ready
        self._settings = Settings((), {})
        self._number = 0  # of the settings
        self._changing = False
        self._fitness = vrrp_messages.Fitness({}, {}, [], "")
        self._pulse = Pulse()
        self._beats = 0
        self._lost = ""
        self._silent = False
        self._held: dict[str, Handover] = {}  # the handovers that the master has
        self._orphaned: float | None = None  # when the master ended
        self._orphan_time = 0.0
        self.leave: asyncio.Future[bool] = self._loop.create_future()
        """Set when the process must leave: True to hand the addresses over first."""
        self.failed = False
        self._hurried = self._abandoning = False
        self._channel = channel.Channel(sock, self._on_message, self._on_end)
        self._send(messages.Ready(os.getpid()))
        self._look()

    # -- messages from the master

    def _on_message(self, message: messages.Message, fds: list[int]) -> None:
        for fd in fds:
            os.close(fd)
        self._beats += 1
        try:
            self._obey(message)
        except Exception:
            _log.exception("%s cannot be carried out: the vrrp process ends", type(message).__name__)
            self._fail()

    def _obey(self, message: messages.Message) -> None:
        runner = self._runner
        match message:
            case messages.Beat():
                pass
            case messages.Level(level, form):
                log.change(level, cast("log.Format", form))
            case vrrp_messages.Route():
                self._starting = self._loop.create_task(self._start(message), name="vrrp start")
            case vrrp_messages.Leave(how):
                self._abandoning = self._abandoning or how == "abandon"
                self._go(how == "hand over")
            case _ if runner is None or self._changing:
                self._waiting.append(message)
            case vrrp_messages.Reroute():
                self._changing = not self.leave.done()
                self._starting = self._loop.create_task(self._reroute(runner, message), name="vrrp reroute")
            case vrrp_messages.Fitness():
                self._fit(runner, message)
            case vrrp_messages.Standby():
                self._do(self._stand_by(runner, message), "vrrp standby")
            case vrrp_messages.Resume(names):
                for name in self._known(names):
                    runner.resume(name)
            case messages.Ask(number):
                self._send(vrrp_messages.Routing(number, runner.status(), runner.counters(), runner.notified()))

    async def _start(self, route: vrrp_messages.Route) -> None:
        try:
            self._settings = settings = Settings.from_tree(route.settings)
            self._number, self._orphan_time = route.number, route.orphaned
            store = _Stored(Path(route.state_dir))
            runner = Runner(settings, self._moved, self._told, trusted, store, self._taken, self._troubled)
            runner.adopt(route.handover, quiet=route.quiet)
            await runner.start()
            for name in self._known(route.standby):
                runner.standby(name, reason="in standby since before the start")
            self._runner = runner
            for words in self._refused:
                self._told("process", words)
            self._catch_up()
            self._judge()
            self._do(self._report(runner, route.number), "vrrp start")
        except Exception:
            _log.exception("the virtual routers cannot be started")
            self._fail()

    async def _reroute(self, runner: Runner, order: vrrp_messages.Reroute) -> None:
        """Put new settings into force; messages that come meanwhile wait, as they may be about new routers."""
        if not self._changing:
            return  # it leaves
        try:
            old, settings = self._settings, Settings.from_tree(order.settings)
            await runner.reroute(settings, order.parts)
            self._settings, self._number, self._orphan_time = settings, order.number, order.orphaned
            self._held = {}
            self._fitness = _carried(self._fitness, old, settings, order.parts)
            for name, causes in self._fitness.faults.items():
                for cause in causes:
                    runner.set_fault(name, cause, failed=True)
            for name in self._fitness.known:
                runner.first_verdicts(name)
        except Exception as error:
            _log.exception("the new settings of the virtual routers cannot be put into force")
            self._send(vrrp_messages.Rerouted(order.number, [f"not everything could be changed: {error!r}"]))
        else:
            self._do(self._report(runner, order.number), "vrrp rerouted")
        finally:
            self._changing = False
            self._catch_up()

    async def _report(self, runner: Runner, number: int) -> None:
        self._send(vrrp_messages.Rerouted(number, await runner.rerouted()))

    def _catch_up(self) -> None:
        """Obey the messages that have waited."""
        waiting, self._waiting = self._waiting, []
        for message in waiting:
            self._obey(message)

    def _do(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = self._loop.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _known(self, names: Collection[str]) -> list[str]:
        """Return those of the names that are routers, as some may be gone since."""
        there = {one.name for one in self._settings.routers}
        return [name for name in names if name in there]

    async def _stand_by(self, runner: Runner, order: vrrp_messages.Standby) -> None:
        names = self._known(order.names)
        for name in names:
            runner.standby(name, reason=order.reason, if_taken=runner.is_active(name))
        self._send(vrrp_messages.StoodBy(order.number, await runner.handed_over(names)))

    def _fit(self, runner: Runner, new: vrrp_messages.Fitness) -> None:
        old, self._fitness = self._fitness, new
        known = {one.name for one in self._settings.routers}
        for name, parts in new.parts.items():
            if name in known and parts != old.parts.get(name, {}):
                runner.set_priority_parts(name, parts)
        for name in known & new.faults.keys():
            causes = new.faults[name]
            before = old.faults.get(name, [])
            for cause in causes:
                if cause not in before:
                    runner.set_fault(name, cause, failed=True)
            for cause in before:
                if cause not in causes:
                    runner.set_fault(name, cause, failed=False)
        for name in new.known:
            if name in known and name not in old.known:
                runner.first_verdicts(name)
        self._judge()

    # -- whether this host serves behind the addresses

    def _look(self) -> None:
        self._loop.call_later(LOOK, self._look)
        now = time.monotonic()
        if self._orphaned is None:
            # Before the runner has started, silence of the master does not count.
            self._silent = self._runner is not None and self._pulse.silence(self._beats, now) >= STALL
        elif self._runner is not None and not self.leave.done():
            self._look_as_orphan(self._runner, now - self._orphaned)
        self._judge()
        self._hold()

    def _judge(self) -> None:
        """Tell the runner when the master or the workers are lost, and when they are back."""
        if self._orphaned is not None:
            lost = "the master is gone"
        elif self._silent:
            lost = f"no sign of life from the master for {STALL:g} s"
        else:
            lost = self._fitness.lost
        if self._runner is None or self.leave.done() or bool(lost) == bool(self._lost):
            return
        self._lost = lost
        if lost:
            self._runner.master_lost(lost)
        else:
            self._runner.master_back()

    def _look_as_orphan(self, runner: Runner, age: float) -> None:
        names = [one.name for one in self._settings.routers]
        longest = max((one.advert_interval for one in self._settings.routers), default=0.0)
        others = age > ORPHAN_INTERVALS * longest and not any(runner.is_active(name) for name in names)
        if others or age > self._orphan_time:
            self._go(hand_over=True)

    def _on_end(self) -> None:
        _log.warning("the master is gone: the addresses are left to the other hosts")
        self._orphaned = time.monotonic()
        for number in STOPPING:
            self._loop.add_signal_handler(number, self._go, True)
        if self._runner is None:
            self._go(hand_over=False)
        else:
            self._taken()
        self._judge()

    def _taken(self) -> None:
        """End without a master once other processes of this host have claimed all of our routers.

        With a master it stays: the master would start another one, which would claim the routers again, and so on.
        """
        if self._orphaned is not None and self._runner is not None and self._runner.taken:
            self._go(hand_over=False)

    def _go(self, hand_over: bool) -> None:
        if not self.leave.done():
            self.leave.set_result(hand_over)
        elif not hand_over and self._runner is not None:
            self._hurried = True
            self._runner.hurry()

    def _fail(self) -> None:
        self.failed = True
        self._go(hand_over=False)

    async def end(self, *, hand_over: bool) -> None:
        """Leave, and remove the addresses."""
        if self._starting is not None:
            await asyncio.wait([self._starting])
        if self._runner is not None:
            if self._abandoning:
                await self._runner.abandon()
            else:
                await self._runner.leave(hand_over=hand_over)
            self._send(vrrp_messages.Left())
            patient = (hand_over or self._abandoning) and not self._hurried
            await self._runner.finish(SCRIPT_TIMEOUT if patient else AT_ONCE)
        self._channel.close()

    # -- messages to the master

    def _hold(self, names: Collection[str] | None = None) -> None:
        """Send the master the handovers that have changed, of these routers or of all; this is also a sign of life."""
        if self._runner is None:
            self._send(messages.Beat())
            return
        news = {name: one for name, one in self._runner.handover(names).items() if self._held.get(name) != one}
        self._held |= news
        self._send(vrrp_messages.Held(self._number, {name: list(one) for name, one in news.items()}))

    def _moved(self, move: Moved) -> None:
        at = time.time()
        self._send(vrrp_messages.Moved(move.name, move.state, move.previous, move.reason, move.priority, at))
        if self._runner is not None:
            self._hold([move.name])

    def _told(self, name: str, text: str) -> None:
        self._send(vrrp_messages.Told(name, text, "info", time.time()))

    def _troubled(self, name: str, text: str) -> None:
        self._send(vrrp_messages.Told(name, text, "warning", time.time(), "notify"))

    def _send(self, message: messages.Message) -> None:
        if self._orphaned is not None:
            return
        with contextlib.suppress(channel.ChannelError):  # `_on_end` and `_look` notice a lost master
            self._channel.send(message)


def _carried(
    fitness: vrrp_messages.Fitness, old: Settings, new: Settings, parts: dict[str, dict[str, int]]
) -> vrrp_messages.Fitness:
    """Return what is known of the fitness under the names of new settings; nothing of routers that are new."""
    names = former(old, new)
    faults = {name: fitness.faults[was] for name, was in names.items() if was in fitness.faults}
    return vrrp_messages.Fitness(
        parts, faults, [name for name, was in names.items() if was in fitness.known], fitness.lost
    )


async def _route(sock: socket.socket, refused: list[str]) -> bool:
    vrrp = Vrrp(sock, refused)
    await vrrp.end(hand_over=await vrrp.leave)
    return not vrrp.failed


def main() -> None:
    """Run as `python -m proxy.vrrpd FD UID GID LEVEL FORMAT`; only the master starts it."""
    refused = take_precedence()  # before `inherit` drops the privileges for it
    sock = inherit(sys.argv[1:], keep=(CAP_NET_ADMIN, CAP_NET_RAW))
    for number in OURS:
        signal.signal(number, lambda *_: None)  # a handler, as scripts would inherit SIG_IGN
    if not asyncio.run(_route(sock, refused)):
        sys.exit(1)


if __name__ == "__main__":
    main()
