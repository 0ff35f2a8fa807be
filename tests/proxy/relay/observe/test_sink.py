"""Where lines go: real files, pipes, full devices and sockets."""

import os
import resource
import socket
import threading
import time

import pytest

from proxy.relay.observe.sink import Collector, Descriptor, Nowhere, Writer
from tests.proxy.relay.conftest import eventually

LINES = [b"%04d %s\n" % (number, b"x" * 95) for number in range(1000)]


@pytest.fixture
def append(tmp_path):
    """Open a file for appending, as often as the test likes."""
    path = tmp_path / "log"

    def opened():
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    opened.path = path
    return opened


def test_a_file_gets_all(append):
    """Every line is in the file, in order, in writes of many lines."""
    sink = Descriptor(append())
    assert sink.write(LINES) == 0
    sink.close()
    assert append.path.read_bytes() == b"".join(LINES)


def test_several_writers_do_not_mix(append):
    """Two that append to one file at a time leave whole lines only."""
    sinks = [Descriptor(append()) for _ in range(2)]
    threads = [threading.Thread(target=lambda one=one: [one.write(LINES) for _ in range(20)]) for one in sinks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    for one in sinks:
        one.close()
    got = append.path.read_bytes().splitlines(keepends=True)
    assert len(got) == 2 * 20 * len(LINES)
    assert set(got) == set(LINES)


def test_several_writers_to_a_pipe_do_not_mix():
    """Standard output may be a pipe that all workers share: one write is never longer than PIPE_BUF."""
    reader, end = os.pipe()
    sinks = [Descriptor(os.dup(end)) for _ in range(3)]
    os.close(end)
    threads = [threading.Thread(target=lambda one=one: (one.write(LINES), one.close())) for one in sinks]
    for thread in threads:
        thread.start()
    got = b""
    while piece := os.read(reader, 1 << 20):
        got += piece
        time.sleep(0.001)  # so that it is full now and then
    os.close(reader)
    for thread in threads:
        thread.join(10)
    lines = got.splitlines(keepends=True)
    assert len(lines) == 3 * len(LINES)
    assert set(lines) == set(LINES)


def test_a_full_device_costs_lines_only(append):
    """ENOSPC: all lines are lost and counted, none is an exception."""
    sink = Descriptor(os.open("/dev/full", os.O_WRONLY))
    assert sink.write(LINES[:10]) == 10
    sink.close()


def test_a_disk_that_fills_up_and_has_room_again(append):
    """A line that was cut short ends there: the next one begins on a line of its own; each lost one is counted."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    sink = Descriptor(append())
    resource.setrlimit(resource.RLIMIT_FSIZE, (250, hard))  # two lines and a half
    try:
        assert sink.write(LINES[:5]) == 3
        assert sink.write(LINES[5:7]) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert sink.write(LINES[7:9]) == 0
    sink.close()
    assert append.path.read_bytes() == b"".join(LINES)[:250] + b"\n" + LINES[7] + LINES[8]


def test_a_collector_gets_a_datagram_a_line():
    """Each line is one datagram, without its newline."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)
        sink = Collector(*server.getsockname())
        assert sink.write(LINES[:20]) == 0
        assert [server.recv(9000) for _ in range(20)] == [line.rstrip(b"\n") for line in LINES[:20]]
        sink.close()


def test_a_collector_that_is_gone_and_returns():
    """Lines to a closed port are lost and counted; when a collector listens again, the next lines arrive."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        where = server.getsockname()
    sink = Collector(*where)
    lost = sum(sink.write([line]) for line in LINES[:10])
    assert lost >= 4  # each refusal is told with the datagram after it
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(where)
        server.settimeout(5)
        sink.write(LINES[:2])
        assert server.recv(9000) == LINES[0].rstrip(b"\n")
        assert sink.write(LINES[2:4]) == 0
    sink.close()


def test_no_way_to_a_collector():
    """A collector that no route leads to costs lines, and no more than a try a second."""
    sink = Collector("fe80::1%no-such-interface", 514)
    assert sink.write(LINES[:100]) == 100
    sink.close()


def test_a_stalled_reader_blocks_the_thread_alone():
    """Whoever hands lines on never waits for a reader that has stopped, nor does the end for longer than a moment.

    What is not written by then is counted as lost.
    """
    reader, end = os.pipe()
    writer = Writer(Descriptor(end))
    began = time.monotonic()
    for _ in range(100):
        writer.put(LINES)
    assert time.monotonic() - began < 1
    assert writer.done == 0  # it is in the middle of the first ones
    writer.close()
    assert time.monotonic() - began < 3
    assert writer.lost == 100 * len(LINES)
    os.close(reader)  # the thread meets EPIPE, and ends
    eventually(lambda: not writer._thread.is_alive())


def test_another_file_takes_over(append, tmp_path):
    """Lines that were handed on before a change of the file go to the old file, later ones to the new file."""
    writer = Writer(Nowhere())
    writer.put(LINES[:1])
    writer.turn_to(Descriptor(append()))
    writer.put(LINES[1:2])
    append.path.rename(tmp_path / "log.1")
    writer.turn_to(Descriptor(append()))
    writer.put(LINES[2:3])
    writer.close()
    assert writer.lost == 1
    assert ((tmp_path / "log.1").read_bytes(), append.path.read_bytes()) == (LINES[1], LINES[2])
