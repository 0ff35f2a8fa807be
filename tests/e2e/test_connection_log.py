"""The connection log of a whole daemon: its defaults, rotation, and destinations that fail."""

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.e2e.loopback import ROOT, Backend, Node, connected, echo_service, exchange, free_port, lift_loopback
from tests.e2e.process import until


@pytest.fixture
def backend():
    lift_loopback()
    one = Backend()
    yield one
    one.close()


@pytest.fixture
def node(tmp_path, backend):
    """Start a daemon whose log goes where the test says."""
    made = []

    def start(log="", workers=2, **options):
        port = free_port()
        one = Node(tmp_path, f"{log}\n{echo_service(port, [backend])}", workers=workers)
        one.port = port
        made.append(one)
        return one.start(**options)

    yield start
    for one in made:
        one.end()


def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def good(port):
    """Make one connection that ends well."""
    with connected(port) as sock:
        assert exchange(sock, b"hello") == b"hello"
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(1) == b""


def bad(port):
    """Make one connection that the client resets."""
    with connected(port) as sock:
        assert exchange(sock, b"hello") == b"hello"
        reset(sock)


def lines(path):
    return [line for line in path.read_text().splitlines() if " connection kind=" in line] if path.exists() else []


def lost(node):
    return any("lines of the connection log are lost" in line for line in node.output().splitlines())


def test_the_default(node):
    """By default, only failed connections are logged, on standard output, each in one line of text."""
    one = node()
    for _ in range(3):
        good(one.port)
        bad(one.port)
    until(lambda: len(lines(one.log)) >= 3, 5, "three lines")
    time.sleep(0.3)
    told = lines(one.log)
    assert len(told) == 3
    for line in told:
        for part in ("kind=tcp", "node=n", "service=echo", f"listener=127.0.0.1:{one.port}", "backend=b0", "bytes_in=5",
                     "bytes_out=5", "closed=client-reset", "failed=yes"):  # fmt: skip
            assert f" {part}" in line


def test_off(node):
    """With `off`, nothing is logged."""
    one = node('[log]\nconnections = "off"')
    bad(one.port)
    time.sleep(0.5)
    assert lines(one.log) == []


def test_rotation_loses_nothing(node, tmp_path):
    """While the file is moved away again and again, every connection has its line, in one of the files, whole."""
    folder = tmp_path / "log"
    folder.mkdir(mode=0o755)
    path = folder / "connections.log"
    one = node(f'[log]\nformat = "json"\nconnections = "all"\nconnections-to = "{path}"', workers=2)
    for turn in range(3):
        for _ in range(20):
            good(one.port)
        path.rename(folder / f"connections.log.{turn}")
        until(path.exists, 5, "a new file")
    good(one.port)

    def told():
        return [json.loads(line) for file in folder.iterdir() for line in file.read_text().splitlines()]

    until(lambda: len(told()) >= 61, 5, "every line")
    assert len(told()) == 61
    assert {(row["closed"], row["bytes_in"], row["bytes_out"]) for row in told()} == {("client-fin", 5, 5)}
    assert path.stat().st_mode & 0o777 == 0o640
    assert not lost(one)


def test_a_worker_that_was_replaced_logs_too(node, tmp_path):
    """A worker that was restarted logs to the file too."""
    folder = tmp_path / "log"
    folder.mkdir(mode=0o755)
    path = folder / "c"
    one = node(f'[log]\nconnections = "all"\nconnections-to = "{path}"', workers=1)
    (pid,) = one.workers()
    os.kill(pid, 9)
    one.until(lambda status: status["workers"][0]["restarts"] == 1 and status["workers"][0]["alive"], "a new worker")
    good(one.port)
    until(lambda: len(lines(path)) == 1, 5, "a line")


def test_a_full_disk(node, tmp_path):
    """A full disk costs lines, reported once, but no connection; when there is room again, lines are written again."""
    folder = tmp_path / "log"
    folder.mkdir(mode=0o755)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=755", "none", folder], check=False).returncode:
        pytest.skip("needs the right to mount")
    try:
        path = folder / "c"
        one = node(f'[log]\nconnections = "all"\nconnections-to = "{path}"', workers=1)
        filler = folder / "filler"
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            for _ in range(32):
                file.write(bytes(4096))
        assert os.statvfs(folder).f_bavail == 0
        for _ in range(50):
            good(one.port)
        until(lambda: lost(one), 5, "the loss to be told")
        filler.unlink()
        for _ in range(5):
            good(one.port)
        until(lambda: len(lines(path)) >= 5, 5, "lines again")
        assert sum("are lost" in line for line in one.output().splitlines()) == 1
        one.end()
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_a_stalled_reader_of_standard_output(tmp_path, backend):
    """If the reader of standard output stalls, traffic, the control socket and the stop of the daemon do not wait."""
    one = Node(tmp_path, "", workers=1)
    port = free_port()
    # Names are long, so that the pipe and what may wait are full soon.
    one.text += f'[log]\nconnections = "all"\n{echo_service(port, [backend])}'
    one.file.write_text(one.text)
    reader, writer = os.pipe()
    with (tmp_path / "errors").open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "proxy", "run", "-c", one.file],
            stdout=writer, stderr=errors, stdin=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
    os.close(writer)
    try:
        until(
            lambda: one.socket.exists() and all(w["alive"] for w in one.status()["workers"]),
            15,
            "the daemon",
            every=0.1,
        )
        until(lambda: one.status()["services"][0]["backends"][0]["state"] == "up", 10, "a backend")
        filled = b"x" * (1 << 16)
        own = os.open(f"/proc/self/fd/{reader}", os.O_WRONLY | os.O_NONBLOCK)  # fill it, as lines of hours would
        assert os.write(own, filled) > 0
        os.close(own)
        for _ in range(300):
            good(port)
        status = one.status()
        assert status["services"][0]["counters"]["closed"] >= 300
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait(5)
        os.close(reader)


def test_a_collector_that_goes_and_returns(node):
    """Lines go by UDP, one in each datagram; while the collector is away they are lost and reported, then they arrive again."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)
        where = server.getsockname()
        one = node(f'[log]\nformat = "json"\nconnections-to = "udp://127.0.0.1:{where[1]}"', workers=1)
        bad(one.port)
        assert json.loads(server.recv(9000))["closed"] == "client-reset"
    for _ in range(20):
        bad(one.port)
        time.sleep(0.02)
    until(lambda: lost(one), 5, "the loss to be told")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(where)
        server.settimeout(5)
        bad(one.port)
        assert json.loads(server.recv(9000))["service"] == "echo"


def test_a_place_that_is_not_safe(node, tmp_path):
    """S5: the daemon does not write through a link planted in the file's place, reports it, and still serves traffic."""
    folder = tmp_path / "log"
    folder.mkdir(mode=0o755)
    target = tmp_path / "target"
    target.write_text("")
    (folder / "c").symlink_to(target)
    one = node(f'[log]\nconnections = "all"\nconnections-to = "{folder}/c"')
    good(one.port)
    assert one.told("the connection log cannot be written", str(folder / "c"))
    assert target.read_text() == ""
    (folder / "c").unlink()
    until(lambda: one.told("the connection log is written again"), 5, "the file")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_workers_cannot_open_the_file(node, tmp_path):
    """S1: the master owns the file; a worker, which runs as an unprivileged user, writes to it but could not open it."""
    folder = tmp_path / "log"
    folder.mkdir(mode=0o700)
    one = node(f'[log]\nconnections = "all"\nconnections-to = "{folder}/c"', workers=1)
    good(one.port)
    until(lambda: len(lines(folder / "c")) == 1, 5, "a line")
    (pid,) = one.workers()
    assert Path(f"/proc/{pid}").stat().st_uid != 0
