"""The signals that people and service managers send.

By default most of them end a process that has no handler, and nothing is logged.
"""

import signal
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio

_CRASHES: Final = {
    signal.SIGILL, signal.SIGTRAP, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGSEGV, signal.SIGSYS,
}  # fmt: skip
"""What the kernel sends for a bug, and a watchdog to get a core."""
_OTHERS: Final = {
    signal.SIGKILL, signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGCONT,
    signal.SIGCHLD, signal.SIGURG, signal.SIGWINCH, signal.SIGPIPE, signal.SIGXFSZ,
}  # fmt: skip
"""What has no handler, does no harm, or is ignored by Python already."""

OURS: Final = tuple(sorted(signal.valid_signals() - _CRASHES - _OTHERS))
"""Signals that only the master acts on: a terminal or a service manager sends some of them to all processes."""

QUIET: Final = 60.0
"""Seconds for which a signal that means nothing is not told again."""

STOPPING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that end a process whose master is gone."""

ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)
"""Signals that a master may end by before it listens to them."""


def hold() -> None:
    """Keep all signals that are not to end this process until `release`: its handlers are not there yet."""
    signal.pthread_sigmask(signal.SIG_BLOCK, set(OURS) - set(ENDING))


def release() -> None:
    """Take what has come meanwhile."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, OURS)


def listen(
    loop: "asyncio.AbstractEventLoop", acts: Mapping[int, Callable[[], None]], stray: Callable[[str], None]
) -> None:
    """Act on all signals of ours from now on: as `acts` says, or by telling `stray`, once in QUIET seconds, what came."""
    told: dict[int, float] = {}

    def tell(number: int) -> None:
        now = time.monotonic()
        if now - told.get(number, -QUIET) >= QUIET:
            told[number] = now
            stray(name(number))

    for number in OURS:
        loop.add_signal_handler(number, acts.get(number) or partial(tell, number))
    release()


def name(number: int) -> str:
    """Return what people call a signal: SIGUSR1, SIGRTMIN+3."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - signal.SIGRTMIN}"
