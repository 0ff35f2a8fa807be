"""A child process of the master: its start, its channel, its end."""

import asyncio
import os
import select
import signal
import site
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from proxy.processes import channel
from proxy.processes.messages import common as messages
from proxy.processes.signals import OURS

FIRST_PAUSE = 0.1  # s before a child is restarted that died soon after its start, doubled each time
LONGEST_PAUSE = 5.0  # s
SETTLED = 10.0  # s of life after which a child is taken to be well
START = 15.0  # s that a child may take to be ready, doubled each time that it is not: the host may be loaded
LONGEST_START = 120.0  # s
# Children keep these variables: the path of programs, the language of messages, OpenSSL's trusted authorities, and which
# descriptor is the journal.  None of the service manager's: neither its socket nor the directory of its credentials.
KEPT = frozenset({"PATH", "LANG", "LC_ALL", "TZ", "VIRTUAL_ENV", "SSL_CERT_FILE", "SSL_CERT_DIR", "JOURNAL_STREAM"})
FAREWELL = 1.0  # s that a child may live after it closed its channel


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom the children run as; None: as the master."""

    uid: int | None
    gid: int | None
    level: str
    format: str

    def arguments(self, fd: int) -> list[str]:
        """Return what `proxy.processes.startup.inherit` takes."""
        return [str(fd), *("-" if one is None else str(one) for one in (self.uid, self.gid)), self.level, self.format]


class Child:
    """One life of one child.  `on_message(message, fds)` as `Channel` has it; `on_death(how)` once it is reaped."""

    def __init__(
        self,
        module: str,
        identity: Identity,
        on_message: channel.Receiver,
        on_death: Callable[[str], None],
        largest: int = channel.LARGEST,
    ) -> None:
        """Start `python -m MODULE`; OSError, and nothing started, if that is impossible.

        A message of more than `largest` octets ends it.
        """
        self._loop = asyncio.get_running_loop()
        self._on_death = on_death
        self.started = self._loop.time()
        self.ready = False
        self.gone = asyncio.Event()
        ours, theirs = channel.pair()
        try:
            with theirs:
                self._process = _spawn(module, identity.arguments(theirs.fileno()), theirs.fileno())
        except BaseException:
            ours.close()
            raise
        self.pid = self._process.pid
        try:
            self._pidfd = os.pidfd_open(self.pid)
        except BaseException:
            ours.close()
            self._process.kill()
            self._process.wait()
            raise
        self._ended = select.poll()
        self._ended.register(self._pidfd, select.POLLIN)
        self._loop.add_reader(self._pidfd, self._reap)
        self.channel = channel.Channel(ours, on_message, self._left, largest)

    @property
    def alive(self) -> bool:
        """Whether it lives; one that is dead and not reaped yet does not."""
        return self._pidfd >= 0 and not self._ended.poll(0)

    def kill(self) -> None:
        """End it now, whatever it does; `on_death` follows."""
        if self._pidfd >= 0:
            self._process.send_signal(signal.SIGKILL)

    def send(self, message: messages.Message | bytes, fds: Sequence[int] = ()) -> None:
        """Send; a child that has stopped reading is killed, as it would miss what it must know."""
        try:
            self.channel.send(message, fds)
        except channel.ChannelError:
            self.kill()

    def _left(self) -> None:
        # Its end of the channel goes a moment before it does; one that stays is of no use any more.
        self._loop.call_later(FAREWELL, self.kill)

    def _reap(self) -> None:
        code = self._process.wait()
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._pidfd = -1
        try:
            self.channel.finish()
        finally:
            self.channel.close()
            self.gone.set()
            self._on_death(f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}")


class Pace:
    """How long to wait before a restart, and for the child to be ready.

    Before the restart not at all after a child that was well, ever longer after one that dies at once.
    """

    def __init__(self) -> None:
        self._pause = 0.0
        self.patience = START
        """Seconds that the next child may take to be ready."""

    def late(self) -> None:
        """Give the next child more time: killed again and again in its start, none would ever serve on a loaded host."""
        self.patience = min(2 * self.patience, LONGEST_START)

    def delay(self, lived: float) -> float:
        """Seconds to wait after a child that lived `lived` seconds since it was ready, 0 if it never was."""
        if lived >= SETTLED:
            self._pause = 0.0
            self.patience = START
        pause = self._pause
        self._pause = min(max(2 * pause, FIRST_PAUSE), LONGEST_PAUSE)
        return pause


def _spawn(module: str, arguments: list[str], fd: int) -> subprocess.Popen[bytes]:
    # Blocked until the child ignores them: a signal to the whole group must not end one that is still importing.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, OURS)
    try:
        return subprocess.Popen(  # noqa: S603 - ourselves, and no shell
            # -P: the directory that the master was started in is no place to import from.
            [sys.executable, "-P", "-m", module, *arguments],
            pass_fds=(fd,),
            stdin=subprocess.DEVNULL,
            env=environment(os.environ),
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def environment(ours: "os._Environ[str] | dict[str, str]") -> dict[str, str]:
    """Let the child find the same packages, wherever the master was started from, and inherit nothing odd."""
    kept = {name: value for name, value in ours.items() if name in KEPT}
    kept["PYTHONDONTWRITEBYTECODE"] = "1"
    here = str(Path(__file__).resolve().parents[2])
    if here not in [str(Path(one).resolve()) for one in site.getsitepackages()]:
        kept["PYTHONPATH"] = here  # a checkout; never site-packages, which would come before the standard library
    return kept
