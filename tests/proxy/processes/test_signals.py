"""Tests of which signals are whose."""

import signal
import threading

from proxy.processes import signals


def test_what_people_send():
    """All signals whose default would end a process, and that people send, are ours; those that tell of a crash are not."""
    for number in (
        "HUP",
        "INT",
        "QUIT",
        "USR1",
        "USR2",
        "ALRM",
        "TERM",
        "VTALRM",
        "PROF",
        "IO",
        "PWR",
        "XCPU",
        "RTMIN",
    ):
        assert getattr(signal, f"SIG{number}") in signals.OURS
    for number in ("SEGV", "ABRT", "KILL", "STOP", "CHLD", "TSTP", "WINCH"):
        assert getattr(signal, f"SIG{number}") not in signals.OURS


def test_names():
    """A signal is called what people call it, also where Python has no name for it."""
    numbers = (signal.SIGUSR1, signal.SIGRTMIN, signal.SIGRTMIN + 3)
    assert [signals.name(number) for number in numbers] == ["SIGUSR1", "SIGRTMIN", "SIGRTMIN+3"]


def test_held_and_released():
    """What comes while signals are held is taken afterwards; those that end a process are not held."""
    taken = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: taken.append(number))
    try:
        signals.hold()
        assert not set(signals.ENDING) & signal.pthread_sigmask(signal.SIG_BLOCK, [])
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
        assert taken == []
        signals.release()
        assert taken == [signal.SIGUSR1]
    finally:
        signals.release()
        signal.signal(signal.SIGUSR1, before)
