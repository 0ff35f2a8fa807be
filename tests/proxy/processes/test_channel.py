"""Tests of the channel, over real sockets."""
# ruff: noqa: ASYNC110, D102, PT012, PTH208 - sockets are polled for what happened; the raise is somewhere in a loop

import array
import asyncio
import os
import resource
import socket
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.processes import channel, codec
from proxy.processes.channel import Channel, ChannelError
from proxy.processes.codec import MessageError
from proxy.processes.messages import common as messages
from proxy.processes.messages import worker as worker_messages


def descriptors():
    return sorted(os.listdir("/proc/self/fd"))


class End:
    """One end that notes what comes."""

    def __init__(self, sock):
        self.got = []
        self.ended = 0
        self.channel = Channel(sock, lambda message, fds: self.got.append((message, fds)), self.end)

    def end(self):
        self.ended += 1


@pytest.fixture
async def ends():
    one, two = channel.pair()
    both = End(one), End(two)
    yield both
    for end in both:
        end.channel.close()
        for _, fds in end.got:
            for fd in fds:
                os.close(fd)


async def until(condition, seconds=5.0):
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


async def test_order_and_size(ends):
    """Messages of any size arrive whole and in order, those above the kernel's limit in a sealed memfd."""
    one, two = ends
    sizes = [1, channel.INLINE - 200, channel.INLINE + 1, 300_000, 5_000_000, 2]
    before = len(descriptors())
    for size in sizes:
        one.channel.send(worker_messages.Setup({"x": "y" * size}))
    await until(lambda: len(two.got) == len(sizes))
    assert [len(message.plan["x"]) for message, _ in two.got] == sizes
    assert len(descriptors()) == before


async def test_descriptors_are_copies(ends):
    """Descriptors arrive as copies that are closed on exec; the sender's own stay open."""
    one, two = ends
    read, write = os.pipe()
    one.channel.send(worker_messages.Siblings(channel.DESCRIPTORS), [write] * channel.DESCRIPTORS)
    one.channel.send(worker_messages.Setup({"x": "y" * 100_000}), [write])
    await until(lambda: len(two.got) == 2)
    assert [len(fds) for _, fds in two.got] == [channel.DESCRIPTORS, 1]
    assert not any(os.get_inheritable(fd) for _, fds in two.got for fd in fds)
    os.write(two.got[1][1][0], b"x")
    assert os.read(read, 2) == b"x"
    os.close(read)
    os.close(write)
    with pytest.raises(ValueError, match="201 descriptors"):
        one.channel.send(worker_messages.Siblings(1), [0] * 201)


async def test_an_end_that_does_not_read(monkeypatch):
    """Who does not read makes neither the sender block nor its queue grow without bound, and leaks nothing."""
    before = descriptors()
    ours, theirs = channel.pair()
    end = End(ours)
    read, write = os.pipe()
    with pytest.raises(ChannelError, match="4096 messages"):
        for _ in range(10_000):
            end.channel.send(messages.Beat())
    assert end.channel.waiting == channel.QUEUE
    end.channel.close()
    theirs.close()
    monkeypatch.setattr(channel, "LARGEST", 2_000_000)
    for fds, message in ((200, messages.Beat()), (0, codec.encode(worker_messages.Setup({"x": "y" * 100_000})))):
        ours, theirs = channel.pair()
        end = End(ours)
        with pytest.raises(ChannelError):
            for _ in range(1000):
                end.channel.send(message, [write] * fds)
        end.channel.close()
        theirs.close()
    os.close(read)
    os.close(write)
    await asyncio.sleep(0)
    assert descriptors() == before


async def test_what_waited_arrives_later():
    """What the kernel did not take at once arrives in order, with its descriptors, when the other end reads again."""
    ours, theirs = channel.pair()
    one = End(ours)
    read, write = os.pipe()
    for number in range(2000):
        one.channel.send(messages.Ask(number), [write] if number % 100 == 0 else [])
    os.close(write)  # the copies live on
    assert one.channel.waiting > 0
    two = End(theirs)
    await until(lambda: len(two.got) == 2000)
    assert [message.number for message, _ in two.got] == list(range(2000))
    copies = [fd for _, fds in two.got for fd in fds]
    assert len(copies) == 20
    for fd in copies:
        os.write(fd, b"x")
        os.close(fd)
    assert os.read(read, 100) == b"x" * 20
    assert one.channel.waiting == 0
    os.close(read)
    one.channel.close()
    two.channel.close()


async def test_small_socket_buffers():
    """A message that the host's buffers do not take in one packet goes by memfd all the same."""
    ours, theirs = channel.pair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)
    one, two = End(ours), End(theirs)
    one.channel.send(worker_messages.Setup({"x": "y" * 50_000}))
    await until(lambda: two.got)
    assert len(two.got[0][0].plan["x"]) == 50_000
    one.channel.close()
    two.channel.close()


async def test_the_end_is_told_once(ends):
    """An end that goes away is told once, never in the middle of a send, and nothing can be sent afterwards."""
    one, two = ends
    two.channel.close()
    one.channel.send(messages.Beat())
    assert one.ended == 0
    await until(lambda: one.ended)
    with pytest.raises(ChannelError, match="gone"):
        one.channel.send(messages.Beat())
    assert (one.ended, two.ended) == (1, 0)


async def test_finish_takes_what_a_dead_end_had_sent(ends):
    """What the other end sent before it died is still taken."""
    one, two = ends
    for number in range(100):
        two.channel.send(messages.Ask(number))
    two.channel.close()
    one.channel.finish()
    assert len(one.got) == 100


async def test_out_of_descriptors():
    """Without descriptors a send fails in words, and a receiver refuses what was cut off; neither leaks."""
    ours, theirs = channel.pair()
    one = End(ours)
    while one.channel.waiting == 0:
        one.channel.send(messages.Beat())
    before = descriptors()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, before)) + 8, limits[1]))
    fill = []
    try:
        with suppress(OSError):
            while True:
                fill.append(os.dup(0))
        os.close(fill.pop())
        with pytest.raises(ChannelError, match="out of descriptors"):
            one.channel.send(messages.Beat(), [0] * 3)
        fill.append(os.dup(0))
        with pytest.raises(ChannelError, match="memory or descriptor"):
            one.channel.send(worker_messages.Setup({"x": "y" * 100_000}))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for fd in fill:
            os.close(fd)
    assert descriptors() == before
    one.channel.close()
    theirs.close()


def test_cut_off_descriptors():
    """MSG_CTRUNC: a message whose descriptors did not all fit is refused, and those that came are closed."""
    ours, theirs = channel.pair()
    theirs.setblocking(False)
    with ours, theirs:
        before = descriptors()
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0] * 253))
        ours.sendmsg([b"J" + codec.encode(messages.Beat())], [rights])
        with pytest.raises(MessageError, match="cut off"):
            channel.receive(theirs)
        ours.sendmsg([b""], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0]))])
        with suppress(MessageError):
            channel.receive(theirs)
        assert descriptors() == before


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(st.binary(min_size=1, max_size=300), st.integers(0, 3))
def test_random_packets(data, fds):
    """Random octets with descriptors are a message or a MessageError, and leave no descriptor open."""
    ours, theirs = channel.pair()
    with ours, theirs:
        before = descriptors()
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0] * fds))] if fds else []
        ours.sendmsg([data], rights)
        try:
            got = channel.receive(theirs)
        except (MessageError, OSError):
            got = None
        for fd in got[1] if got else ():
            os.close(fd)
        assert descriptors() == before


def test_a_memfd_that_is_too_large():
    """A sparse memfd of terabytes is refused before it is read."""
    ours, theirs = channel.pair()
    with ours, theirs:
        fd = os.memfd_create("large")
        os.ftruncate(fd, 1 << 40)
        before = descriptors()
        ours.sendmsg([b"M"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])
        with pytest.raises(MessageError, match="1099511627776 octets"):
            channel.receive(theirs)
        assert descriptors() == before
        os.close(fd)


async def test_a_message_that_is_too_large(caplog):
    """R14: a message above the bound of its channel closes it, unread; one below it is read."""
    ours, theirs = channel.pair()
    got, ended = [], asyncio.Event()
    reading = Channel(ours, lambda message, _: got.append(message), ended.set, largest=100_000)
    writing = Channel(theirs, lambda *_: None, lambda: None)
    writing.send(worker_messages.Listed(1, [{"a": "x" * 80_000}], 1, False))
    await until(lambda: got)
    writing.send(worker_messages.Listed(1, [{"a": "x" * 120_000}], 1, False))
    await asyncio.wait_for(ended.wait(), 5)
    assert len(got) == 1
    assert "100000 are allowed" in caplog.text
    for end in (reading, writing):
        end.close()


async def test_the_others_have_their_turn(monkeypatch):
    """R14: a channel that is full of messages leaves the loop to others when its time is over."""
    monkeypatch.setattr(channel, "TURN", 0.0)
    ours, theirs = channel.pair()
    turns, seen = 0, []
    reading = Channel(ours, lambda *_: seen.append(turns), lambda: None)
    writing = Channel(theirs, lambda *_: None, lambda: None)
    for _ in range(20):
        writing.send(messages.Beat())
    while len(seen) < 20:
        turns += 1
        await asyncio.sleep(0)
    assert len(set(seen)) == 20
    for end in (reading, writing):
        end.close()


async def test_last_words_are_heard(ends):
    """R12: what an end has said before it left is heard, even if it left something unread."""
    one, two = ends
    two.channel.pause()
    one.channel.send(messages.Ready(1))
    two.channel.send(messages.Ready(2))
    two.channel.close()
    await until(lambda: one.ended)
    assert [message.pid for message, _ in one.got] == [2]


async def test_a_pause(ends):
    """An end that pauses reads nothing, and all of it later."""
    one, two = ends
    two.channel.pause()
    one.channel.send(messages.Ready(1))
    await asyncio.sleep(0.05)
    assert two.got == []
    two.channel.resume()
    await until(lambda: two.got)


async def test_another_form_of_messages():
    """With another codec a channel carries other messages, large ones too; what that refuses ends it."""
    ours, theirs = channel.pair()
    got, ended = [], []

    def codec(data):
        if data == b"nonsense":
            raise MessageError("no")
        return data.decode()

    end = Channel(ours, lambda message, fds: got.append(message), lambda: ended.append(True), codec=codec)
    other = Channel(theirs, lambda *_: None, lambda: None)
    for data in (b"small", b"x" * 300_000, b"nonsense"):
        other.send(data)
    await until(lambda: ended)
    assert got == ["small", "x" * 300_000]
    other.close()
    end.close()
