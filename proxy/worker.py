"""A worker: one data-plane process on uvloop, without privileges.

It takes its orders from the master's channel and everything else from the engine.  When the master is gone it finishes
what is open and leaves.
"""

import asyncio
import contextlib
import logging
import os
import socket
import sys
import time
from typing import Any, cast

import uvloop

from proxy.processes import channel
from proxy.processes.messages import common as messages
from proxy.processes.messages import worker as worker_messages
from proxy.processes.startup import inherit
from proxy.records import log
from proxy.relay.clients.store import Store
from proxy.relay.engine import Engine
from proxy.relay.native.rates import Rates
from proxy.relay.native.scheduling import shorten_turns
from proxy.relay.observe.wanted import Wanted
from proxy.relay.plan import LogPlan, Member, from_tree, service_from_tree
from proxy.stats.layout import HEARTBEAT
from proxy.stats.table import Table
from proxy.words import counted

ORPHAN_TIMEOUT = 30.0  # s that an orphan may still serve what is open
TURN = 100_000  # ns that a worker asks the kernel for at a time: others on its processor are not to delay its clients
SLICE = 0.005  # s that verdicts are applied for before the traffic has its turn
CROWDED = 8  # messages that wait for the master; while there are more, no UDP sessions are handed over
DRAIN_LOOK = 0.05  # s between two looks whether a draining worker is idle

_log = logging.getLogger("steelyard.worker")


class Worker:
    """The orders of the master, carried out on the engine."""

    def __init__(self, sock: socket.socket, setup: worker_messages.Setup, fds: list[int]) -> None:
        self._loop = asyncio.get_running_loop()
        plan = from_tree(setup.plan)
        column, journal, templates, shared_rates = fds
        self._table = Table.attach(column, plan.layout, writable=True)
        self._layout = plan.layout
        salt = bytes.fromhex(plan.salt)
        store, rates = Store(templates, salt), Rates(shared_rates, salt)
        os.close(shared_rates)
        self._engine = Engine(
            self._loop, plan, self._table, journal, self._hint, self._want, store, rates, self._failing
        )
        os.close(journal)
        self._deadline: float | None = None
        self.done = asyncio.Event()
        self.failed = False
        self._verdicts: dict[int, dict[int, tuple[int, int, str, str]]] = {}  # not yet applied, by service
        self._channel = channel.Channel(sock, self._on_message, self._on_end)
        self._channel.send(messages.Ready(os.getpid()))

    def _hint(self, service: int, backend: int) -> None:
        # A master that is gone or busy has no use for a hint.
        with contextlib.suppress(channel.ChannelError):
            self._channel.send(worker_messages.Hint(service, backend))

    def _want(self, family: int, kind: int, count: int) -> None:
        with contextlib.suppress(channel.ChannelError):
            self._channel.send(worker_messages.Prepare(family, kind, count))

    def _failing(self, service: int, backend: int, failures: int) -> None:
        with contextlib.suppress(channel.ChannelError):
            self._channel.send(worker_messages.Failing(service, backend, failures, time.time()))

    def _on_message(self, message: messages.Message, fds: list[int]) -> None:
        try:
            self._obey(message, fds)
        except Exception:
            self._give_up(type(message).__name__)

    def _guarded_apply(self) -> None:
        try:
            self._apply(time.monotonic() + SLICE)
        except Exception:
            self._give_up("Verdicts")

    def _give_up(self, what: str) -> None:
        # Who misses an order serves what it should not, or not what it should: a successor is better.
        _log.exception("%s could not be obeyed: giving up", what)
        self.failed = True
        self.done.set()

    def _obey(self, message: messages.Message, fds: list[int]) -> None:
        if self._took(message, fds):
            return
        if not self._changed(message):
            self._do(message, fds)
        for fd in fds:
            os.close(fd)

    def _do(self, message: messages.Message, fds: list[int]) -> None:
        match message:
            case worker_messages.Unlisten(members, drain):
                for listener, index in members:
                    self._engine.unlisten(listener, index, drain)
            case worker_messages.Verdicts(changes):
                self._learn(changes)
            case worker_messages.Browse() | worker_messages.Pick() | worker_messages.Follow():
                self._answer(message)
            case worker_messages.Replay(number):
                self._replay(number, fds[0])
            case worker_messages.Drain(timeout, hand_over):
                self._drain(timeout, hand_over=hand_over)
            case _:
                _log.error("a worker has no use for %s", type(message).__name__)

    def _changed(self, message: messages.Message) -> bool:
        """Take over a change of the configuration; return True if the message was one."""
        match message:
            case worker_messages.Services(generation, trees, gone):
                self._apply(float("inf"))  # what was said before concerns those that were listed before
                plans, leaving = [*map(service_from_tree, trees)], [(slot, seconds) for slot, seconds in gone]
                self._engine.change(plans, leaving, generation, self._confirm)
            case worker_messages.Settings(most, tree):
                self._engine.settings(most, LogPlan(**tree))
            case messages.Level(level, form):
                log.change(level, cast("log.Format", form))
            case worker_messages.Weights(weights):
                self._engine.weigh([(one[0], one[1], one[2]) for one in weights])
            case _:
                return False
        return True

    def _took(self, message: messages.Message, fds: list[int]) -> bool:
        """Take over what a message brings along, the engine's from now on; whether it was such a message."""
        match message:
            case worker_messages.Listen(members):
                self._apply(float("inf"))  # no listener is polled before it is known which backends are usable
                for row, fd in zip(members, fds, strict=True):
                    self._engine.listen(Member(*row), socket.socket(fileno=fd))
            case worker_messages.Siblings():
                self._engine.siblings([Table.attach(fd, self._layout) for fd in fds])
            case worker_messages.Prepared(family, kind, asked):
                socks = [socket.socket(family, kind, fileno=fd) for fd in fds]
                self._engine.prepared(family, kind, asked, socks)
            case worker_messages.LogFile():
                self._engine.log_to(fds[0])
            case worker_messages.Sessions(rows):
                dropped = self._engine.adopt(rows, fds)
                if dropped:
                    _log.warning("%s cannot go on here", counted(dropped, "UDP session of the predecessor"))
            case _:
                return False
        return True

    def _confirm(self, generation: int) -> None:
        with contextlib.suppress(channel.ChannelError):
            self._channel.send(worker_messages.Confirmed(generation))

    def _learn(self, changes: list[list[Any]]) -> None:
        if not self._verdicts:
            self._loop.call_soon(self._guarded_apply)
        for service, backend, verdict, admin in changes:
            self._verdicts.setdefault(service, {})[backend] = (service, backend, verdict, admin)

    def _apply(self, until: float) -> None:
        """Take over verdicts until this time, service by service, and go on with it when the traffic has had its turn.

        A scheduler's tables take time to build: thousands at once would keep clients waiting, and look like a stall.
        """
        while self._verdicts:
            changes = self._verdicts.pop(next(iter(self._verdicts)))
            self._engine.apply(list(changes.values()))
            self._table.cells[HEARTBEAT] = time.monotonic_ns()
            if self._verdicts and time.monotonic() >= until:
                self._loop.call_soon(self._guarded_apply)
                return

    def _answer(self, asked: worker_messages.Browse | worker_messages.Pick | worker_messages.Follow) -> None:
        answer: messages.Message
        if isinstance(asked, worker_messages.Follow):
            meant = Wanted(asked.service, asked.client, asked.backend) if asked.act == "on" else None
            self._engine.follow(asked.follower, meant, self._happened)
            return
        if isinstance(asked, worker_messages.Browse):
            wanted = Wanted(asked.service, asked.client, asked.backend) if asked.first else None
            rows, met, more = self._engine.browse(asked.listing, wanted, reset=asked.act == "reset")
            answer = worker_messages.Listed(asked.number, rows, met, more)
        else:
            found = self._engine.foretell(asked.service, asked.client, asked.port, asked.query)
            answer = worker_messages.Picked(asked.number, found)
        with contextlib.suppress(channel.ChannelError):
            self._channel.send(answer)

    def _happened(self, follower: int, rows: list[dict[str, Any]], lost: int) -> None:
        with contextlib.suppress(channel.ChannelError):
            self._channel.send(worker_messages.Happened(follower, rows, lost))

    def _replay(self, number: int, fd: int) -> None:
        count = 0
        try:
            count = self._engine.replay(fd)
        except Exception:
            # Else what killed one worker would kill them all, one after the other.
            _log.exception("the queries of a lost worker cannot be asked again")
        with contextlib.suppress(channel.ChannelError):
            self._channel.send(worker_messages.Replayed(number, count, time.time()))

    def _on_end(self) -> None:
        _log.warning("the master is gone: finishing what is open")
        self._drain(ORPHAN_TIMEOUT)

    def _drain(self, timeout: float, *, hand_over: bool = False) -> None:
        if hand_over:
            self._engine.hand_over(self._hand_on)
        else:
            self._engine.drain()
        until = time.monotonic() + timeout
        if self._deadline is None:
            self._deadline = until
            self._look()
        else:
            self._deadline = min(self._deadline, until)

    def _hand_on(self, rows: list[list[Any]], fds: list[int], last: bool) -> bool:
        if self._channel.waiting >= CROWDED:
            return False
        try:
            self._channel.send(worker_messages.Sessions(rows, last), fds)
        except channel.ChannelError:
            return False
        return True

    def _look(self) -> None:
        assert self._deadline is not None  # noqa: S101 - for the type checker: _drain set it
        if self._engine.idle or time.monotonic() >= self._deadline:
            self.done.set()
        else:
            self._loop.call_later(DRAIN_LOOK, self._look)

    def close(self) -> None:
        """End what is left."""
        self._engine.close()
        self._channel.close()
        self._table.close()


async def _serve(sock: socket.socket, setup: worker_messages.Setup, fds: list[int]) -> bool:
    worker = Worker(sock, setup, fds)
    await worker.done.wait()
    worker.close()
    return not worker.failed


def main() -> None:
    """Run as `python -m proxy.worker FD UID GID LEVEL FORMAT`, started by the master only."""
    sock = inherit(sys.argv[1:])
    try:
        first = channel.receive(sock)
        if first is None or not isinstance(first[0], worker_messages.Setup):
            return
        shorten_turns(TURN)
        if not uvloop.run(_serve(sock, first[0], first[1])):
            sys.exit(1)
    except Exception:
        _log.exception("a worker cannot go on")
        sys.exit(1)


if __name__ == "__main__":
    main()
