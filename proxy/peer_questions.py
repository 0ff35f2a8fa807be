"""What the hosts of a pair ask each other over the link, and answer: for now, the files of their configuration.

A question and its answer are bounded in size and in time, and one is answered at a time: a peer that asks without end
gets no more of the master than that.
"""

import asyncio
import base64
import binascii
import hashlib
import itertools
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from proxy import __version__
from proxy.backends.effective import Running
from proxy.partner import Partner
from proxy.peer import messages

if TYPE_CHECKING:
    from proxy.herald.peer_link import PeerLink

FILES: Final = "files"
"""The question for the files."""
PATIENCE: Final = 5.0
"""Seconds for an answer, and for reading files."""
LARGEST: Final = 2 << 20
"""Characters of an answer."""
TEXT_MAX: Final = 256 << 10
"""Octets of a file that are compared line by line; larger ones by their digest alone."""
_PART: Final = 30_000
_SECRET: Final = re.compile(r"""^(\s*[\w.-]*(?:password|secret|token)[\w-]*(?<!-file)\s*=\s*).+$""", re.IGNORECASE)


class NoAnswerError(Exception):
    """The peer does not answer; says why."""


class Questions:
    """Asks the peer, and answers it."""

    def __init__(self, partner: Partner, running: Running) -> None:
        self._link: PeerLink = partner.link
        self._running = running
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[str]] = {}
        self._parts: dict[int, list[str]] = {}
        self._answering: asyncio.Task[None] | None = None
        partner.on_more = self._take

    async def files(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the files of this host and of the peer; raises NoAnswerError."""
        theirs = await self._ask(FILES)
        return await self._files(), theirs

    async def _ask(self, what: str) -> dict[str, Any]:
        if not self._link.connected:
            raise NoAnswerError(f"{self._link.peer} is away: {self._link.state.why}")
        number = next(self._numbers)
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        self._parts[number] = []
        try:
            self._link.send(messages.Ask(number=number, what=what))
            text = await asyncio.wait_for(future, PATIENCE)
            found = json.loads(base64.b64decode(text, validate=True))
        except TimeoutError:
            raise NoAnswerError(f"{self._link.peer} has not answered within {PATIENCE:g} s") from None
        except (ValueError, binascii.Error, RecursionError):
            raise NoAnswerError(f"{self._link.peer} has sent an answer that cannot be read") from None
        finally:
            self._waiting.pop(number, None)
            self._parts.pop(number, None)
        if not isinstance(found, dict):
            raise NoAnswerError(f"{self._link.peer} has sent an answer that cannot be read")
        return found

    def _take(self, message: messages.Any_) -> None:
        if isinstance(message, messages.Ask):
            if self._answering is None or self._answering.done():
                self._answering = asyncio.get_running_loop().create_task(self._answer(message))
        elif isinstance(message, messages.Reply):
            self._take_reply(message)

    def _take_reply(self, reply: messages.Reply) -> None:
        future, parts = self._waiting.get(reply.number), self._parts.get(reply.number)
        if future is None or parts is None or future.done():
            return
        if reply.error:
            future.set_exception(NoAnswerError(f"{self._link.peer}: {reply.error}"))
        elif reply.part != len(parts) or len(parts) * _PART > LARGEST:
            future.set_exception(NoAnswerError(f"{self._link.peer} has sent an answer that is not whole"))
        else:
            parts.append(reply.text)
            if reply.last:
                future.set_result("".join(parts))

    async def _answer(self, ask: messages.Ask) -> None:
        if ask.what != FILES:
            self._link.send(
                messages.Reply(number=ask.number, error=f"version {__version__} does not know this question")
            )
            return
        text = base64.b64encode(json.dumps(await self._files()).encode()).decode()
        parts = [text[at : at + _PART] for at in range(0, len(text), _PART)]
        for place, part in enumerate(parts):
            self._link.send(messages.Reply(number=ask.number, part=place, last=place == len(parts) - 1, text=part))

    async def _files(self) -> dict[str, Any]:
        config = self._running.config
        try:
            rows = await asyncio.wait_for(asyncio.to_thread(read, config.sources), PATIENCE)
        except TimeoutError:
            rows = []
        return {"node": config.node.name, "version": __version__, "sha256": config.sha256, "files": rows}


def read(paths: Sequence[str]) -> list[dict[str, Any]]:
    """Return the path, the digest and the masked text of each file, as they are on the disk now; blocks."""
    found: list[dict[str, Any]] = []
    room = LARGEST // 2
    for path in paths[:100]:
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            found.append({"path": path, "sha256": None, "text": None, "error": error.strerror})
            continue
        shown = len(content) <= min(TEXT_MAX, room)
        room -= len(content) if shown else 0
        text = masked(content.decode(errors="replace")) if shown else None
        found.append({"path": path, "sha256": hashlib.sha256(content).hexdigest(), "text": text})
    return found


def masked(text: str) -> str:
    """Return a file's text without what looks like a secret: a file should have none, only names of files that do."""
    return "\n".join(_SECRET.sub(r"\1***", line) for line in text.split("\n"))
