"""Threads for what may block: files, pipes, scripts.  None of them holds up adverts, or the end of the process."""

import threading
from collections.abc import Callable

_STACK = (
    1 << 20
)  # octets; all memory is locked (vrrp/precedence.py), and the usual 8 MB a thread would be in use at once


def start_thread(name: str, work: Callable[[], None]) -> None:
    """Run `work()` in a thread that the end of the process does not wait for."""
    usual = threading.stack_size(_STACK)
    try:
        threading.Thread(target=work, name=name, daemon=True).start()
    finally:
        threading.stack_size(usual)
