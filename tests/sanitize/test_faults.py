"""The library of faults: what fails, where, and what it promises when it does.  Each test runs in a process that has it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sanitize import faults

BEGIN = """
import errno, select, socket
from proxy.relay.native.timers import Timers
from tests.sanitize.faults import SHORT, Faults
faults = Faults()
faults.here()
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return faults.compiled(tmp_path_factory.mktemp("faults"))


def run(library: Path, text: str) -> None:
    """Run a program with the library; fails if the program does."""
    env = os.environ | {"LD_PRELOAD": str(library)}
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + text], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_nth_call_fails(library: Path):
    """The n-th call after the rule fails, and no other one."""
    run(
        library,
        """
faults.rule("socket", errno.EMFILE, nth=2)
socket.socket().close()
try:
    socket.socket()
    raise AssertionError
except OSError as error:
    assert error.errno == errno.EMFILE
socket.socket().close()
assert faults.failed("socket") == 1
""",
    )


def test_other_threads_do_not_fail(library: Path):
    """Only the calls of threads that ask for it fail."""
    run(
        library,
        """
from concurrent.futures import ThreadPoolExecutor
faults.rule("socket", errno.EMFILE, chance=1.0)
with ThreadPoolExecutor(1) as pool:
    pool.submit(socket.socket).result().close()
assert faults.failed("socket") == 0
""",
    )


def test_an_edge_follows(library: Path):
    """After a read that "would block" or took too little, an edge-triggered set reports the socket again."""
    run(
        library,
        """
for way in (errno.EAGAIN, SHORT):
    one, other = socket.socketpair()
    one.setblocking(False)
    epoll = select.epoll()
    epoll.register(one, select.EPOLLIN | select.EPOLLET)
    other.send(bytes(1000))
    assert epoll.poll(1)
    faults.rule("recv", way, nth=1)
    try:
        assert 0 < len(one.recv(1000)) < 1000
        assert way == SHORT
    except BlockingIOError:
        assert way == errno.EAGAIN
    assert epoll.poll(1)
    assert not epoll.poll(0)
    faults.clear()
""",
    )


def test_memory_of_native_modules_fails(library: Path):
    """An allocation of a native module fails, those of Python do not; what a module has not freed is known."""
    run(
        library,
        """
before = faults.live
timers = Timers()
timers.add(1.0, print)
assert faults.live == before + 1
faults.rule("memory", errno.ENOMEM, chance=1.0)
other = Timers()
numbers = [number for number in range(100_000)]
try:
    other.add(1.0, print)
    raise AssertionError
except MemoryError:
    pass
assert faults.failed("memory") >= 1
faults.clear()
timers.clear()
before = faults.live
del timers
assert faults.live == before - 1
""",
    )


def test_a_process_without_the_library(library: Path):
    """The controls say so if the library was not loaded."""
    with pytest.raises(OSError, match="not preloaded"):
        faults.Faults()
