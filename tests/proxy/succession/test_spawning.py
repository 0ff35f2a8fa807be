"""proxy.succession.spawning: the new daemon has its socket, its standard error, and nothing else of the old one."""

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

from proxy.processes import channel
from proxy.succession.spawning import VARIABLE, Spawned, arguments, inherited

ROOT = Path(__file__).parents[3]


def test_the_same_arguments():
    """The program is run anew by the same interpreter with the arguments that this process was started with."""
    assert arguments() == [sys.executable, *sys.orig_argv[1:]]


async def run(code, environment=None):
    """Run code in a new process that has inherited a socket; return the process and our end."""
    ours, theirs = channel.pair()
    with theirs:
        spawned = Spawned([sys.executable, "-c", code], theirs, os.environ | (environment or {}))
    return spawned, ours


async def test_the_socket_is_inherited_and_the_variable_is_gone():
    """The new process finds the socket by the variable, removes it, and lets none of its own children have the socket."""
    code = (
        "import os; from proxy.succession.spawning import VARIABLE, inherited; sock = inherited(os.environ);"
        "sock.send(f'{VARIABLE in os.environ} {sock.get_inheritable()}'.encode())"
    )
    spawned, ours = await run(code, {"PYTHONPATH": str(ROOT)})
    assert await spawned.ended == 0
    with ours:
        assert ours.recv(100) == b"False False"


async def test_what_it_says_before_is_kept_and_what_it_says_later_is_not(capfd):
    """What the interpreter says before it takes over standard error is kept; afterwards it goes where the old one's goes."""
    code = (
        "import os, sys; print('before', file=sys.stderr, flush=True);"
        "from proxy.succession.spawning import inherited; inherited(os.environ);"
        "print('after', file=sys.stderr, flush=True); sys.exit(3)"
    )
    spawned, ours = await run(code, {"PYTHONPATH": str(ROOT)})
    ours.close()
    assert await spawned.ended == 3
    assert (spawned.said, spawned.how()) == (["before"], "exit status 3: before")
    assert capfd.readouterr().err == "after\n"


async def test_much_is_said():
    """A new version that says a lot does not hang, and the first part is kept."""
    spawned, ours = await run("import sys; sys.stderr.write('x' * 300_000)")
    ours.close()
    assert await asyncio.wait_for(spawned.ended, 10) == 0
    assert 1000 < len(spawned.said[0]) <= 16 << 10


async def test_it_is_killed():
    """A new version that is given up is killed; to kill it again is harmless."""
    spawned, ours = await run("import time; time.sleep(60)")
    ours.close()
    spawned.kill()
    assert await spawned.ended == -signal.SIGKILL
    spawned.kill()
    assert spawned.how() == "killed by SIGKILL"


def test_nothing_is_inherited():
    """Without the variable, or with nonsense in it, there is no predecessor."""
    assert inherited({}) is None
    assert inherited({VARIABLE: "x,y"}) is None
    assert inherited({VARIABLE: "9999,9998"}) is None
    with socket.socket() as sock:  # a number that is open, and is not to be closed
        assert inherited({VARIABLE: f"{sock.fileno()},x"}) is None
        assert sock.getsockname()
