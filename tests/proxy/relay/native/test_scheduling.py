"""A worker asks for short turns."""

import os
import threading

import pytest

from proxy.relay.native.scheduling import shorten_turns, turns


def in_thread(function):
    """Run it in a thread of its own, whose scheduling ends with it."""
    got = []
    one = threading.Thread(target=lambda: got.append(function()))
    one.start()
    one.join()
    return got[0]


def test_turns_are_shortened():
    """After asking, the kernel tells the new length, and the niceness of the thread is what it was; before 6.12 nothing changes."""

    def ask():
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 3)
        done = shorten_turns(300_000)
        return done, turns(), os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    done, length, nice = in_thread(ask)
    assert (done, nice) == (True, 3)
    assert length in {0, 300_000}


def test_another_policy_is_left_alone():
    """A thread under another policy keeps it."""

    def ask():
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        return shorten_turns(300_000), os.sched_getscheduler(0)

    assert in_thread(ask) == (False, os.SCHED_BATCH)


@pytest.mark.parametrize("nanoseconds", [1, 1 << 40])
def test_lengths_are_bounded(nanoseconds):
    """The kernel keeps a length within its bounds."""
    assert in_thread(lambda: (shorten_turns(nanoseconds), turns()))[1] <= 100_000_000
