"""Real servers of Debian in the foreground on loopback: nginx, postfix, dovecot, each ended by its process id."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

PASSWORD = "s3cret-phrase"


def needed(name: str) -> str:
    """Return the path of a Debian package's server; skip without it, but never under CI."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if found is None:
        _lacking(f"{name} is not installed")
    return found or ""


def needs_root(name: str) -> None:
    """Skip, but never under CI, where this process cannot become other users: in a user namespace of one user, too."""
    users = sum(int(line.split()[2]) for line in Path("/proc/self/uid_map").read_text().splitlines())
    if os.geteuid() != 0 or users < 65536:
        _lacking(f"{name} starts as root only, to become its own users")


def _lacking(message: str) -> None:
    pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)


def free_ports(count: int) -> list[int]:
    """Return TCP ports that are free just now."""
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in held]


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def running(command: list[str | Path], ports: list[int], log: Path, pid_file: Path | None = None) -> Iterator[None]:
    """Run a server until the context ends; it listens on all `ports` when the body begins."""
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            deadline = time.monotonic() + 20
            for port in ports:
                while not _listens(port):
                    if process.poll() is not None or time.monotonic() > deadline:
                        raise AssertionError(f"{command[0]} does not listen:\n{log.read_text()}")
                    time.sleep(0.05)
            yield
        finally:
            if pid_file is not None:
                with contextlib.suppress(OSError, ValueError):
                    os.kill(int(pid_file.read_text()), signal.SIGTERM)
            else:
                process.terminate()
            process.wait(15)
