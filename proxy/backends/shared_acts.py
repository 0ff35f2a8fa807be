"""Puts the acts of the other host's operators into force here, and keeps what both hosts have done.

- The acts themselves, their order and their merging are `proxy.peer.acts`; this module applies them to `Admins` and
  `Membership`, one after the other, and saves them over a restart.
- An act that cannot be applied, such as one on a backend that only the other host's file has, is kept and tried again
  after a reload; its operator is told at once.
- A file is never written: an act is in force until the file changes what it is about, as one of this host's own.
"""

import asyncio
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from pydantic import ValidationError

from proxy.backends.admin import Admins
from proxy.backends.admin_acts import ADMINS, Act
from proxy.backends.edits import Edit
from proxy.backends.effective import Running, written
from proxy.backends.errors import FailedError, RefusedError
from proxy.backends.membership import Membership
from proxy.config.model import BackendKey
from proxy.moments import unix
from proxy.peer.acts import PARTS, Acts, Crossing, Entry, Key, Merged
from proxy.peer.clock import ZERO, Stamp
from proxy.peer.messages import Result
from proxy.records.document import Document, StateError
from proxy.records.timeline import Tell

SHARED: Final = "pair.json"
"""The file of the acts of both hosts, in the state directory."""


class SharedActs:
    """The acts of both hosts.

    `document` is loaded already.  `warm` means that this daemon takes another one's place, whose unsaved acts go on; after
    a start from nothing the peer may still know them.
    """

    def __init__(
        self, node: str, running: Running, admins: Admins, membership: Membership, tell: Tell, document: Document,
        *, warm: bool,
    ) -> None:  # fmt: skip
        self._running = running
        self._admins = admins
        self._membership = membership
        self._tell = tell
        self._document = document
        self._pending: dict[Key, tuple[Entry, str]] = {}
        self._turn = asyncio.Lock()
        self._applying: set[Key] = set()
        self._dirty = False
        self._saving: asyncio.Task[None] | None = None
        self.acts = Acts(node)
        self._restore(warm=warm)

    # -- this host's own acts

    def noted(self, command: str, keys: Iterable[BackendKey], by: str, now: float, **more: Any) -> list[Entry]:
        """Take note of an act that is in force here; returns it with its stamp, for the peer.  `now` in Unix seconds."""
        found = []
        for service, backend in keys:
            key = Key(PARTS[command], service[:256], backend[:256])
            values = {name: value for name, value in more.items() if value is not None}
            entry = Entry.model_validate({"key": key, "stamp": ZERO, "act": command, "by": by, "at": now, **values})
            self._pending.pop(key, None)
            found.append(self.acts.add(entry, _ms(now)))
            self._dirty = True
        return found

    def noted_clear(self, now: float) -> Stamp:
        """Take note that all acts have ended here; returns the stamp of that."""
        self.acts.clear(_ms(now))
        self._pending.clear()
        self._dirty = True
        return self.acts.floor

    # -- the peer's acts

    async def take(self, peer: str, floor: Stamp, entries: Sequence[Entry]) -> tuple[list[Result], str, list[Entry]]:
        """Take acts of the peer.

        Returns what became of each, in words why some were not taken at all, and our acts that have crossed with them and
        lost, of which the peer has not heard.
        """
        async with self._turn:
            merged = self.acts.merge(floor, entries, _ms(time.time()))
            for crossing in merged.crossed:
                self._tell_crossing(crossing)
            failed = await self._put(peer, merged)
        results = [Result(key=one.key, ok=one.key not in failed, text=failed.get(one.key, "")) for one in entries]
        losers = [one.loser for one in merged.crossed if one.winner in entries]
        return results, merged.refused, losers

    async def again(self) -> None:
        """Try once more what could not be applied, and forget what the file has ended: call it after a reload."""
        async with self._turn:
            for key, (entry, peer) in list(self._pending.items()):
                if self.acts.get(key) != entry or not await self._one(peer, entry):
                    self._pending.pop(key, None)
            self.settle()

    async def _put(self, peer: str, merged: Merged) -> dict[Key, str]:
        """Put into force what has changed; returns what failed, and why."""
        if merged.empty:
            return {}
        self._dirty = True
        news, failed = merged.news, {}
        if merged.cleared:
            by = f"the operator of {peer}"
            try:
                await self._membership.clear(Edit(by, time.time()))
                self._tell("admin", "overrides", f"cleared on both hosts, by {by}")
            except (FailedError, RefusedError, StateError) as error:
                self._tell("admin", "overrides", f"cleared on {peer}, but not here: {error}", level="error")
            news = [entry for entry in self.acts.entries if not entry.ended]  # what came later than the clearing
        for entry in news:
            if why := await self._one(peer, entry):
                failed[entry.key] = why
        return failed

    async def _one(self, peer: str, entry: Entry) -> str:
        """Apply one act; returns why it failed, "" if it did not."""
        self._applying.add(entry.key)
        try:
            await self._apply(entry, self._author(entry))
        except (FailedError, RefusedError, StateError) as error:
            if entry.key not in self._pending:
                self._tell(
                    "admin", written((entry.key.service, entry.key.backend)),
                    f"{entry.text}, by {self._author(entry)}, is not in force here: {error}", level="warning",
                )  # fmt: skip
            self._pending[entry.key] = (entry, peer)
            return str(error)[:400]
        finally:
            self._applying.discard(entry.key)
        return ""

    def _author(self, entry: Entry) -> str:
        return entry.by if entry.stamp.node == self.acts.node else f"{entry.by} on {entry.stamp.node}"

    async def _apply(self, entry: Entry, by: str) -> None:
        key = (entry.key.service, entry.key.backend)
        if key[0] not in self._running.services:
            raise RefusedError(f"there is no service {key[0]} here")
        if key not in self._running.backends and entry.act not in {"add", "remove"}:
            raise RefusedError(f"there is no backend {written(key)} here")
        edit = Edit(by, entry.at, entry.saved)
        match entry.act:
            case "add":
                await self._membership.add(*key, entry.weight, edit)
            case "remove":
                if key in self._running.backends:
                    await self._membership.remove(key[0], [key[1]], edit, force=entry.force)
            case "weight":
                await self._membership.weigh([key], entry.weight or 0, edit, force=True)
            case admin:
                timeout = None if entry.timeout is None else max(0.0, entry.at + entry.timeout - time.time())
                act = Act(ADMINS[admin], by, entry.reason, entry.at, entry.saved)
                await self._admins.act([key], act, timeout if admin == "drain" else None)

    def _tell_crossing(self, crossing: Crossing) -> None:
        winner, loser = crossing
        self._tell(
            "admin", written((winner.key.service, winner.key.backend)),
            f"two acts have crossed: {loser.text} by {loser.by} on {loser.stamp.node}, and {winner.text} by {winner.by} on "
            f"{winner.stamp.node}, which was the later one and holds on both hosts",
            level="warning", act=winner.text, lost=loser.text,
        )  # fmt: skip

    # -- what has ended

    def settle(self) -> None:
        """Note which acts are not in force here any more, because a file has changed what they are about."""
        for entry in list(self.acts.entries):
            waits = entry.key in self._pending or entry.key in self._applying
            if not entry.ended and not waits and not self._holds(entry):
                self.acts.end(entry.key)
                self._dirty = True

    def _holds(self, entry: Entry) -> bool:
        key = (entry.key.service, entry.key.backend)
        listed = key in self._running.backends
        match entry.act:
            case "add":
                return listed
            case "remove":
                return not listed or self._admins.leaves(key)
            case "weight":
                return listed and self._running.backends[key].weight == entry.weight
            case _:
                return listed and self._admins.state(key) == entry.act

    @property
    def pending(self) -> Mapping[Key, str]:
        """The acts that are not in force here, each with its host."""
        return {key: peer for key, (_, peer) in self._pending.items()}

    # -- over a restart

    def look(self) -> None:
        """Save what has changed, in the background."""
        if not self._dirty or (self._saving is not None and not self._saving.done()):
            return
        self._dirty = False
        self._saving = asyncio.get_running_loop().create_task(self._save(), name="save shared acts")

    async def _save(self) -> None:
        try:
            await self._document.commit(self.acts.rows, lambda: None)
        except StateError as error:
            self._tell("admin", SHARED, f"the acts of both hosts cannot be saved: {error}", level="error")

    def _restore(self, *, warm: bool) -> None:
        content = self._document.content
        if not isinstance(content, dict):
            self.acts.restore(ZERO, self._from_before())
            return
        entries: list[Entry] = []
        floor = ZERO
        try:
            floor = Stamp(*content.get("floor", ZERO))
            entries += [Entry.model_validate(row, strict=False) for row in content.get("acts", [])]
        except (TypeError, ValueError, ValidationError) as error:
            self._tell("admin", SHARED, f"the acts of both hosts cannot be read: {error}"[:300], level="error")
        self.acts.restore(floor, [one for one in entries if warm or _survives(one)])
        self.settle()

    def _from_before(self) -> list[Entry]:
        """Return the saved acts from before there was a pair, by the time of each."""
        rows: Collection[Mapping[str, Any]] = self._admins.rows()
        found = []
        for row in rows:
            at = unix(row["at"])
            stamp = Stamp(_ms(at), 0, self.acts.node)
            key = Key("admin", row["service"], row["backend"])
            found.append(
                Entry.model_construct(
                    key=key,
                    stamp=stamp,
                    act=row["act"],
                    by=row["by"],
                    at=at,
                    reason=row["reason"],
                    saved=row["saved"],
                )
            )
        return found


def _survives(entry: Entry) -> bool:
    """Returns True for an act that is in force after a start from nothing, and for one that ended another."""
    return entry.saved or entry.ended or entry.act == "ready"


def _ms(now: float) -> int:
    return max(0, int(now * 1000))
