"""The commands `connections` and `disconnect`: what is open in all workers, asked for page by page."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from proxy.commands.find import EVERYWHERE, find_keys, find_service
from proxy.config.types import parse_cidr
from proxy.control.server import Request
from proxy.control.wire import BAD_REQUEST, BUSY, ControlError
from proxy.processes.messages import common as messages
from proxy.processes.messages import worker as worker_messages
from proxy.processes.requests import Question
from proxy.words import counted

if TYPE_CHECKING:
    from proxy.backends.effective import Running

ASKING: Final = 4
"""Commands of this kind at a time: each keeps a listing in every worker."""
PATIENCE: Final = 3.0
"""Seconds that a worker may take for a page; it takes a few milliseconds."""
QUEUED: Final = 2000
"""Events that may wait for one who follows."""
PORTION: Final = 200
"""Events a line."""

Heard = Callable[[int, list[dict[str, Any]], int], None]
Ask = Callable[[int, Question, float], Awaitable[messages.Message | None]]
"""`Supervisor.ask`: the index of a worker, a question, seconds -> the answer, None if there is none."""


class Feed:
    """What happened and was not yet sent to a follower: bounded, the oldest is dropped and counted."""

    def __init__(self) -> None:
        self._events: deque[dict[str, Any]] = deque()
        self._lost = 0
        self._wake = asyncio.Event()

    def put(self, worker: int, rows: list[dict[str, Any]], lost: int) -> None:
        """Take what happened in a worker; never waits."""
        self._events.extend({**row, "worker": worker} for row in rows)
        self._lost += lost
        while len(self._events) > QUEUED:
            self._events.popleft()
            self._lost += 1
        self._wake.set()

    async def get(self) -> tuple[list[dict[str, Any]], int]:
        """Return some events, once there are, and how many were lost before them."""
        while not self._events:
            self._wake.clear()
            await self._wake.wait()
        lost, self._lost = self._lost, 0
        return [self._events.popleft() for _ in range(min(len(self._events), PORTION))], lost


class Connections:
    """The commands.  `workers()` are the indices of those that serve, `inflight(services)` counts DNS queries,
    `tell(subject, text, fields)` records what was done.
    """  # noqa: D205 - one sentence needs two lines

    def __init__(
        self,
        running: "Running",
        workers: Callable[[], Collection[int]],
        ask: Ask,
        following: tuple[Callable[[worker_messages.Follow, Heard], None], Callable[[int], None]],
        inflight: Callable[[str], int],
        tell: Callable[[str, str, Mapping[str, Any]], None],
    ) -> None:
        self._running = running
        self._workers = workers
        self._ask = ask
        self._follow, self._unfollow = following
        self._inflight = inflight
        self._tell = tell
        self._listings = count(1)
        self._asking = {"list": 0, "reset": 0}  # apart: who may only read must not keep out who may do something
        self._followed = 0

    async def connections(self, request: Request) -> AsyncIterator[Mapping[str, Any]]:
        """Answer `connections`: those of `service`, `client` (a block) and `backend`, a page a line.

        The last line has the DNS queries in flight by service, which are only counted, and the workers that did not answer.
        """
        wanted = self._wanted(request)
        follow = request.arguments.get("follow", False) is True
        if follow and self._followed >= ASKING:
            raise ControlError(f"{ASKING} clients follow the connections already", BUSY)
        feed = Feed()
        number = next(self._listings)
        self._followed += follow
        try:
            if follow:  # before the list: nothing falls in between
                self._follow(
                    worker_messages.Follow(number, wanted["service"], wanted["client"], wanted["backend"], "on"),
                    feed.put,
                )
            async for line in self._list(wanted, more=follow):
                yield line
            while follow:
                events, lost = await feed.get()
                yield {"connections": [], "events": events, "lost": lost, "more": True}
        finally:
            self._followed -= follow
            self._unfollow(number)

    async def _list(self, wanted: Mapping[str, str], *, more: bool) -> AsyncIterator[Mapping[str, Any]]:
        missing: list[int] = []
        async for index, page in self._pages(wanted, "list", missing):
            yield {"connections": [{**row, "worker": index} for row in page.rows], "more": True}
        counted = {
            name: self._inflight(name)
            for name, service in self._running.services.items()
            if service.protocol == "dns" and wanted["service"] in {"", name}
        }
        yield {"connections": [], "queries_in_flight": counted, "unanswered": missing, "more": more}

    async def disconnect(self, request: Request) -> Mapping[str, Any]:
        """Answer `disconnect`: reset what is meant; `all` must be said where nothing else is."""
        wanted = self._wanted(request)
        meant = ", ".join(f"{name} {value}" for name, value in wanted.items() if value)
        if not meant and request.arguments.get("all") is not True:
            raise ControlError("name a service, a client or a backend, or use all", BAD_REQUEST)
        missing: list[int] = []
        total = 0
        try:
            async for _, page in self._pages(wanted, "reset", missing):
                total += page.met
        finally:
            # Also where who asked has left in the middle of it: what was done is done.
            self._tell(
                wanted["service"] or "*",
                f"{counted(total, 'connection or session', 'connections and sessions')} disconnected ({meant or 'all'}), "
                f"requested by uid {request.uid} (pid {request.pid})",
                {"disconnected": total, "uid": request.uid},
            )
        if missing:
            raise ControlError(
                f"{total} disconnected, but these workers did not answer: {', '.join(map(str, missing))}",
                disconnected=total,
            )
        return {"disconnected": total, "changed": total > 0}

    async def _pages(
        self, wanted: Mapping[str, str], act: str, missing: list[int]
    ) -> AsyncIterator[tuple[int, worker_messages.Listed]]:
        """Yield (worker, page) of all workers, one after the other, and note in `missing` who did not answer."""
        if self._asking[act] >= ASKING:
            raise ControlError(f"{ASKING} clients ask for connections already: try again", BUSY)
        self._asking[act] += 1
        try:
            for index in sorted(self._workers()):
                listing = next(self._listings)
                first, more = True, True
                while more:
                    question = _question(listing, first, wanted, act)
                    page = await self._ask(index, question, PATIENCE)
                    if not isinstance(page, worker_messages.Listed):
                        missing.append(index)
                        break
                    first, more = False, page.more
                    yield index, page
        finally:
            self._asking[act] -= 1

    def _wanted(self, request: Request) -> dict[str, str]:
        texts: dict[str, str] = {}
        for name in ("service", "client", "backend"):
            value = request.arguments.get(name, "")
            if not isinstance(value, str):
                raise ControlError(f"{name} must be a text", BAD_REQUEST)
            texts[name] = value
        if texts["service"]:
            find_service(self._running.services, texts["service"])
        if texts["client"]:
            try:
                texts["client"] = parse_cidr(texts["client"])
            except ValueError as error:
                raise ControlError(str(error), BAD_REQUEST) from None
        if texts["backend"]:
            find_keys(self._running.services, texts["service"] or EVERYWHERE, texts["backend"])
        return texts


def _question(listing: int, first: bool, wanted: Mapping[str, str], act: str) -> Question:
    def make(number: int) -> messages.Message:
        return worker_messages.Browse(
            number, listing, first, wanted["service"], wanted["client"], wanted["backend"], act
        )

    return make
