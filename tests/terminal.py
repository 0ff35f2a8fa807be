"""The `steelyard` command on a terminal, for tests of what it shows there."""

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import time


class Terminal:
    """A command on a terminal of its own; `size` in lines and columns."""

    def __init__(self, *arguments: object, size: tuple[int, int] = (24, 80), **environment: str) -> None:
        kept = {key: value for key, value in os.environ.items() if key not in {"STEELYARD_SOCKET", "NO_COLOR"}}
        self.pid, self.fd = pty.fork()
        if self.pid == 0:  # pragma: no cover
            os.environ.clear()
            os.environ.update({**kept, "TERM": "xterm-256color", "LANG": "C.UTF-8", **environment})
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
            os.execv(sys.executable, [sys.executable, "-m", "proxy", *map(str, arguments)])
        self.seen = ""

    def until(self, text: str, patience: float = 40.0) -> str:
        """Read until a text has been written."""
        ends = time.monotonic() + patience
        while text not in self.seen:
            assert time.monotonic() < ends, self.seen
            if select.select([self.fd], [], [], 0.1)[0]:
                try:
                    self.seen += os.read(self.fd, 65536).decode(errors="replace")
                except OSError:
                    assert text in self.seen, self.seen
        return self.seen

    def forget(self) -> None:
        """Forget what was written so far."""
        self.seen = ""

    def press(self, keys: str) -> None:
        """Type keys; what was written before is forgotten."""
        self.forget()
        os.write(self.fd, keys.encode())

    def end(self) -> int | None:
        """Return how it ended; it is killed if it has not."""
        ends = time.monotonic() + 10
        while time.monotonic() < ends:
            if select.select([self.fd], [], [], 0.05)[0]:
                with contextlib.suppress(OSError):
                    self.seen += os.read(self.fd, 65536).decode(errors="replace")
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                os.close(self.fd)
                return os.waitstatus_to_exitcode(status)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.fd)
        return None
