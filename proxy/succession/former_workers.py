"""The workers of predecessors, which finish what is open: their counters go on counting here until they are gone.

Each is looked after by the daemon that started it, its nurse, which says when it is gone.
"""

import contextlib
import mmap
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from proxy.backends.effective import Running
from proxy.records.timeline import Event, Timeline
from proxy.stats.columns import Columns
from proxy.stats.layout import HEARTBEAT
from proxy.stats.table import Table, TableError
from proxy.stats.translation import Run, Shape, runs
from proxy.status.rows import WorkerRow
from proxy.succession import protocol
from proxy.succession.document import FormerRow
from proxy.succession.link import Link, LinkEndedError
from proxy.workers.listeners import Listeners
from proxy.workers.supervisor import Supervisor

HOLDER: Final = "a predecessor's workers"
"""What holds the slots that they use."""
SILENCE: Final = 3.0
"""Seconds without a heartbeat after which a worker without a nurse is gone."""
NURSES: Final = 4
"""Daemons that may look after their workers at a time."""


class _Mirror:
    """A column of another layout, copied into one of ours again and again."""

    def __init__(self, fd: int, shape: Shape, found: Sequence[Run], columns: Columns) -> None:
        """Own `fd`; raises TableError, and the caller still owns it, if it is shorter than its shape says."""
        if os.fstat(fd).st_size < 8 * shape.cells:
            raise TableError(f"descriptor {fd} is shorter than its layout says")
        self.fd = fd
        self._runs = found
        self._map = mmap.mmap(fd, 8 * shape.cells, prot=mmap.PROT_READ)
        self._theirs = memoryview(self._map).cast("q")
        self.table = Table.create(columns.layout)

    def refresh(self) -> None:
        for there, here, count in self._runs:
            self.table.cells[here : here + count] = self._theirs[there : there + count]

    def close(self) -> None:
        """Close the foreign column; `Columns` owns ours."""
        self._theirs.release()
        self._map.close()
        os.close(self.fd)


class FormerWorkers:
    """Those of all predecessors, by the number of their life."""

    def __init__(
        self, running: Running, columns: Columns, workers: Supervisor, listeners: Listeners, timeline: Timeline
    ) -> None:
        self.refused: Callable[[str], None] = lambda _: None
        """Called with the reason if a predecessor goes on after all."""
        self._running = running
        self._listeners = listeners
        self._columns = columns
        self._workers = workers
        self._timeline = timeline
        self._rows: dict[int, FormerRow] = {}
        self._journals: dict[int, int] = {}
        self._mirrors: dict[int, _Mirror] = {}
        self._nurses: dict[int, Link] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def attach(self, shape: Shape, base: int, rows: Sequence[FormerRow], take: Callable[[str], int]) -> None:
        """Begin with a predecessor's sums, in `base`, and the columns of its workers; `take(name)` returns descriptors.

        Raises OSError, TableError and ShapeError.
        """
        found = runs(shape, self._columns.layout)
        same = shape == Shape.of(self._columns.layout)
        with mmap.mmap(base, 8 * shape.counted, prot=mmap.PROT_READ) as area:
            theirs = memoryview(area).cast("q")
            sums = [0] * self._columns.layout.counted
            for there, here, count in found:
                sums[here : here + count] = theirs[there : there + count].tolist()
            theirs.release()
        os.close(base)
        self._columns.load(sums)
        for row in rows:
            self._attach(row, shape, None if same else found, take)
        self._workers.introduce()
        if not self._rows:
            self._release()

    def _attach(self, row: FormerRow, shape: Shape, found: Sequence[Run] | None, take: Callable[[str], int]) -> None:
        fd = take(f"column-{row.life}")
        if fd < 0:
            return  # it has ended in order: its counters are in the sums
        try:
            if found is None:
                table = Table.attach(fd, self._columns.layout)
            else:
                mirror = self._mirrors[row.life] = _Mirror(fd, shape, found, self._columns)
                mirror.refresh()
                table = mirror.table
        except BaseException:
            os.close(fd)
            raise
        self._columns.attach(row.life, table)
        self._rows[row.life] = row
        if (journal := take(f"journal-{row.life}")) >= 0:
            self._journals[row.life] = journal

    def nursed(self, pid: int, link: Link) -> None:
        """Take the reports of a nurse, the process `pid`."""
        self._nurses[pid] = link
        link.listen(lambda message, fds: self._heard(pid, message, fds), lambda: self._lost(pid))

    @property
    def nurses(self) -> Mapping[int, Link]:
        """The links to those who look after the workers, by process."""
        return self._nurses

    def rows(self) -> list[WorkerRow]:
        """Return the workers as the status shows them."""
        return [
            WorkerRow(row.index, row.pid, True, row.restarts, row.life, draining=True) for row in self._rows.values()
        ]

    def present(self) -> list[FormerRow]:
        """Return the workers for a successor."""
        return list(self._rows.values())

    def descriptors(self) -> dict[str, int]:
        """Return what a successor needs of them, by name; the descriptors stay ours."""
        found = {f"journal-{life}": fd for life, fd in self._journals.items()}
        found |= {f"column-{life}": self._columns.live[life].fd for life in self._rows}
        return found | {f"nurse-{pid}": link.fd for pid, link in self._nurses.items()}

    def look(self) -> None:
        """Read the counters of those with another layout; find those without a nurse that are gone."""
        for mirror in self._mirrors.values():
            mirror.refresh()
        for row in [row for row in self._rows.values() if not row.nurse]:
            silence = time.monotonic_ns() - self._columns.cell(row.life, HEARTBEAT)
            if silence > SILENCE * 1e9:
                self._gone(row, "")

    def tell(self, changes: Sequence[Any]) -> None:
        """Pass on verdicts, a row (service, backend, verdict, admin) each: connections may have to be cut."""
        for link in self._nurses.values():
            with contextlib.suppress(LinkEndedError):  # its end is told anyway
                link.send(protocol.Verdicts([list(change) for change in changes]))

    def end(self, timeout: float) -> None:
        """Let what they have open go on for so many seconds at most, as this daemon stops."""
        for link in self._nurses.values():
            with contextlib.suppress(LinkEndedError):
                link.send(protocol.Drain(timeout))

    def pause(self) -> None:
        """Read no reports until `resume`: a successor does."""
        for link in self._nurses.values():
            link.pause()

    def resume(self) -> None:
        """Read the reports again."""
        for link in self._nurses.values():
            link.resume()

    def close(self) -> None:
        """Let go of all of them."""
        for link in self._nurses.values():
            link.close()
        for mirror in self._mirrors.values():
            mirror.close()
        for fd in self._journals.values():
            os.close(fd)
        for known in (self._nurses, self._mirrors, self._journals, self._rows):
            known.clear()

    # -- what the nurses report

    def _heard(self, pid: int, message: protocol.Message, fds: list[int]) -> None:
        match message:
            case protocol.Gone(life, how):
                row = self._rows.get(life)
                if row is not None and row.nurse == pid:
                    self._gone(row, how)
            case protocol.Sessions(rows):
                self._workers.adopt(self._listeners.find, rows, fds)
            case protocol.Refused(why):
                self.refused(why)
            case protocol.Told(tree):
                self._told(tree)
        for fd in fds:
            os.close(fd)

    def _told(self, tree: Mapping[str, Any]) -> None:
        try:
            event = Event.from_dict(tree)
        except ValueError:
            return
        self._timeline.add(event.kind, event.subject, event.text, level=event.level, at=event.at, **event.fields)

    def _gone(self, row: FormerRow, how: str) -> None:
        del self._rows[row.life]
        mirror = self._mirrors.pop(row.life, None)
        if mirror is not None:
            mirror.refresh()
            mirror.close()
        self._columns.fold(row.life)
        if (journal := self._journals.pop(row.life, -1)) >= 0:
            self._workers.leave_behind(journal)
        self._workers.introduce()
        if how:
            text = f"a former worker, pid {row.pid}, ended: {how}"
            self._timeline.add("worker", f"worker {row.index}", text, level="warning")
        if not self._rows:
            self._release()

    def _release(self) -> None:
        for slots in self._running.slots:
            slots.release(HOLDER)

    def _lost(self, pid: int) -> None:
        link = self._nurses.pop(pid)
        link.close()
        for row in [row for row in self._rows.values() if row.nurse == pid]:
            self._gone(row, f"pid {pid}, which looked after it, is gone")
        self._timeline.add("reexec", f"pid {pid}", "the former daemon has ended")
