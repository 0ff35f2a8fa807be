"""Real-time scheduling and locked memory, in a process of their own."""

import subprocess
import sys
from pathlib import Path

LOOK = """
import gc, os, subprocess, sys
import vrrp.runner
from vrrp.precedence import take_precedence
before = len(gc.get_objects())
refused = take_precedence()
print("collected", len(gc.get_objects()) < before / 100)
print("refused", *refused, sep=";")
print("policy", os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK == os.SCHED_RR)
print("locked", [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmLck")][0] != "0")
child = subprocess.run([sys.executable, "-c", "import os; print(os.sched_getscheduler(0))"], capture_output=True, text=True)
print("child", child.stdout.strip())
bytearray(300 << 20)
"""


def look() -> dict[str, str]:
    """Return what the process has to say, by the first word of each line."""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", LOOK], cwd=root, capture_output=True, text=True, check=True)
    return dict(
        line.split(None, 1) if " " in line else (line, "") for line in done.stdout.replace(";", " ").splitlines()
    )


def test_taken_or_told():
    """V17: real-time scheduling and locked memory are taken, or refused in words; what it starts is ordinary."""
    found = look()
    assert (found["policy"] == "True") != ("real-time" in found["refused"])
    assert (found["locked"] == "True") != ("not locked" in found["refused"])
    assert found["child"] == "0"


def test_no_long_collections():
    """V17: what the imports have made, tens of thousands of objects, is not looked at again by the garbage collector."""
    assert look()["collected"] == "True"
