"""The priority of a process that starts beside a busy one."""

import os
import subprocess
import sys

import pytest

from proxy.host import priority
from proxy.host.privileges import CAP_SYS_NICE, holds

LOWERED = """
import os, subprocess, sys, threading
from proxy.host import priority
before = os.getpriority(os.PRIO_PROCESS, 0)
assert priority.lower() == before
stop = threading.Event()
threads = [threading.Thread(target=stop.wait) for _ in range(2)]
for thread in threads:
    thread.start()
child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
tasks = [int(task) for pid in (os.getpid(), child.pid) for task in os.listdir(f"/proc/{pid}/task")]
print([os.getpriority(os.PRIO_PROCESS, task) - before for task in tasks])
priority.restore(before, [os.getpid(), child.pid, 4194305])
print([os.getpriority(os.PRIO_PROCESS, task) - before for task in tasks])
stop.set()
child.communicate(b"\\n")
"""


@pytest.mark.skipif(not holds(CAP_SYS_NICE), reason="needs the right to raise a priority")
def test_it_is_lowered_and_restored():
    """The process, its threads and its children have less priority until it is restored; one that has ended is no error."""
    done = subprocess.run([sys.executable, "-c", LOWERED], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.splitlines() == [f"[{', '.join(['10'] * 4)}]", "[0, 0, 0, 0]"]


def test_without_the_right_nothing_is_lowered(monkeypatch):
    """A process that could not raise its priority again keeps it, and has none to restore."""
    monkeypatch.setattr(priority, "holds", lambda *_: False)
    before = os.getpriority(os.PRIO_PROCESS, 0)
    assert priority.lower() is None
    priority.restore(None, [os.getpid()])
    assert os.getpriority(os.PRIO_PROCESS, 0) == before
