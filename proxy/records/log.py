"""Log lines to standard error: text or JSON, one a transition, never blocking, never more than one line each.

Much of what is logged was written by strangers (a backend's banner in a probe's reason, a peer's host name), so every
control character is escaped: a line can neither be forged nor steer a terminal. Whoever reads the lines may also stop
reading, and the master must not wait for that: a line that does not fit is dropped, counted, and told afterwards. A file
does not say whether it takes a line at once, so a thread writes to it.

Where the descriptor is the journal of systemd, a line begins with its priority, "<4>" (sd-daemon(3)), and has no time and
no name of its level: the journal has both.
"""

import contextlib
import fcntl
import json
import logging
import os
import select
import stat
from datetime import UTC, datetime
from typing import Final, Literal

from proxy.moments import rfc3339
from proxy.records.disk_thread import DiskThread, StuckError
from proxy.words import printable

Format = Literal["text", "json"]

LINE_MAX: Final = 4096
"""Bytes of a line, newline included: PIPE_BUF, what a pipe that is ready for writing takes without blocking."""

FAREWELL: Final = 0.5
"""Seconds that what waits for a file may take at the end."""

_PRIORITIES: Final = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.NOTSET, 7))
"""The lowest level -> the priority of syslog(3)."""

_OWN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def is_journal(fd: int = 2) -> bool:
    """Return True if a descriptor leads to the journal of systemd: JOURNAL_STREAM names its device and inode."""
    try:
        found = os.fstat(fd)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def prefix(level: int, *, journal: bool) -> str:
    """Return what a line of a level begins with: its priority for the journal, nothing elsewhere."""
    return f"<{next(number for least, number in _PRIORITIES if level >= least)}>" if journal else ""


class TextFormatter(logging.Formatter):
    """`2026-11-22T18:22:10.123+01:00 warning dns/10.0.0.11 down: no answer within 1 s`, in local time.

    For the journal: `<4>dns/10.0.0.11 down: no answer within 1 s`.
    """

    def __init__(self, *, journal: bool = False) -> None:
        super().__init__()
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its newline."""
        line = record.getMessage()
        if not self._journal:
            moment = datetime.fromtimestamp(record.created, UTC).astimezone()
            line = f"{moment.isoformat(timespec='milliseconds')} {record.levelname.lower()} {line}"
        if record.exc_info:
            line += f" | {self.formatException(record.exc_info)}"
        return prefix(record.levelno, journal=self._journal) + printable(line)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `at` (RFC 3339, UTC), `level`, `message`, and the fields the record was given.

    For the journal: its priority, then the object without `at`.
    """

    def __init__(self, *, journal: bool = False) -> None:
        super().__init__()
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its newline."""
        entry: dict[str, object] = {} if self._journal else {"at": rfc3339(record.created)}
        entry |= {"level": record.levelname.lower(), "message": record.getMessage()}
        for key, value in vars(record).items():
            if key not in _OWN and key not in entry:
                entry[key] = value
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        # ASCII only: escaped by construction
        return prefix(record.levelno, journal=self._journal) + json.dumps(entry, default=str)


class LineHandler(logging.Handler):
    """Writes whole lines to a descriptor and drops, and counts, those that would have to wait for their reader."""

    def __init__(self, fd: int = 2) -> None:
        super().__init__()
        self._fd = fd
        self._ready = select.poll()
        self._ready.register(fd, select.POLLOUT)
        self._disk = DiskThread("log") if _is_file(fd) else None
        self._file = -1  # what the thread writes to
        self.journal = is_journal(fd)
        """True if the descriptor leads to the journal of systemd."""
        self.lost = 0

    def flush(self) -> None:
        """Let the thread, if there is one, write what waits, within FAREWELL."""
        if self._disk is not None:
            self._disk.wait(FAREWELL)

    def close(self) -> None:
        """Write what waits, and let go of what only the thread has."""
        if self._disk is not None:
            with contextlib.suppress(StuckError):
                self._disk.submit(self._let_go)
            self.flush()
        super().close()

    def _let_go(self) -> None:
        if self._file not in {-1, self._fd}:
            os.close(self._file)
        self._file = -1

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record if the descriptor takes it now."""
        try:
            if self.lost and self._write(self._lost_line(record)):
                self.lost = 0
            if not self._write(self.format(record)):
                self.lost += 1
        except Exception:
            self.lost += 1

    def _lost_line(self, record: logging.LogRecord) -> str:
        notice = logging.makeLogRecord(
            {
                "levelno": logging.WARNING,
                "levelname": "WARNING",
                "created": record.created,
                "msg": f"{self.lost} log lines lost: the reader was too slow",
            }
        )
        return self.format(notice)

    def _write(self, line: str) -> bool:
        if not any(events & select.POLLOUT for _, events in self._ready.poll(0)):
            return False
        data = line.encode("utf-8", "backslashreplace")
        if len(data) >= LINE_MAX:
            data = self._shortened(line, data)
        if self._disk is None:
            os.write(self._fd, data + b"\n")
            return True
        try:
            self._disk.submit(lambda: self._append(data + b"\n"))
        except StuckError:
            return False
        return True

    def _append(self, data: bytes) -> None:
        try:
            if self._file < 0:
                self._file = _own(self._fd)
            os.write(self._file, data)
        except OSError:
            self.lost += 1

    def _shortened(self, line: str, data: bytes) -> bytes:
        if isinstance(self.formatter, JsonFormatter):  # half an object is no JSON: keep what says what happened
            start = line.index("{")
            entry = json.loads(line[start:])
            short = {key: str(entry[key])[:300] for key in ("at", "level", "message") if key in entry}
            return (line[:start] + json.dumps({**short, "shortened": True})).encode()
        return data[: LINE_MAX - 4].decode("utf-8", "ignore").encode() + b"..."


def _own(fd: int) -> int:
    """Return a descriptor of a log file that shares no lock with other processes, if that is possible.

    While a write to a file hangs, a process with the same open file as standard output or error cannot even start.
    """
    if not fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_APPEND:
        return fd  # processes that share it write one after the other
    try:
        return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    except OSError:
        return fd


def _is_file(fd: int) -> bool:
    try:
        return stat.S_ISREG(os.fstat(fd).st_mode)
    except OSError:
        return False


def change(level: str, style: Format) -> None:
    """Log at another level and in another style from now on, to the same descriptor; nothing that waits is lost."""
    root = logging.getLogger()
    root.setLevel(level.upper())
    for handler in root.handlers:
        if isinstance(handler, LineHandler):
            handler.setFormatter(_formatter(style, journal=handler.journal))


def _formatter(style: Format, *, journal: bool) -> logging.Formatter:
    return JsonFormatter(journal=journal) if style == "json" else TextFormatter(journal=journal)


def setup(level: str = "info", style: Format = "text", fd: int = 2) -> logging.Logger:
    """Send everything logged in this process at `level` or above to `fd`, in this style; returns the root logger.

    To be called again after a reload: it replaces what it set up before and nothing else.
    """
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, LineHandler):
            root.removeHandler(handler)
            handler.close()
    handler = LineHandler(fd)
    handler.setFormatter(_formatter(style, journal=handler.journal))
    root.addHandler(handler)
    root.setLevel(level.upper())
    return root
