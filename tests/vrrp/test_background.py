"""Threads for what may block."""

import os
import threading

from vrrp.background import start_thread


def test_a_thread_is_small_ordinary_and_not_waited_for():
    """V17: a thread has a small stack, which is locked memory, no real-time priority, and the end does not wait for it."""
    before, seen, done = threading.stack_size(), {}, threading.Event()

    def look() -> None:
        thread = threading.current_thread()
        seen["found"] = (thread.daemon, thread.name, os.sched_getscheduler(threading.get_native_id()))
        done.set()

    start_thread("a name", look)
    assert done.wait(10)
    assert seen["found"] == (True, "a name", os.SCHED_OTHER)
    assert threading.stack_size() == before
