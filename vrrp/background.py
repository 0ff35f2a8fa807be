"""Threads for work that may block: files, pipes, scripts.  They delay neither adverts nor the end of the process."""

import threading
from collections.abc import Callable

# Octets.  All memory is locked (vrrp/precedence.py), so the usual 8 MB of each thread would take real memory at once.
_STACK = 1 << 20


def start_thread(name: str, work: Callable[[], None]) -> None:
    """Run `work()` in a thread; the process does not wait for it at its end."""
    usual = threading.stack_size(_STACK)
    try:
        threading.Thread(target=work, name=name, daemon=True).start()
    finally:
        threading.stack_size(usual)
