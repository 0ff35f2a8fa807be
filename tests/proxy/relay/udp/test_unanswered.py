"""The last datagram of each session, kept while ICMP may say that it was not delivered."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.relay.udp.unanswered import KEPT, UnansweredTable


def table(most: int = 100) -> UnansweredTable[str]:
    """Return an empty table for this many octets."""
    return UnansweredTable(most)


def test_the_last_one_is_kept():
    """Of a session's datagrams the last one is there, once."""
    kept = table()
    kept.keep("a", b"first", "end", (), 1.0)
    kept.keep("a", b"second", "end", (), 1.1)
    assert kept.take("a", 1.2) == (b"second", "end", (), 1.1)
    assert kept.take("a", 1.2) is None
    assert (len(kept), kept.size) == (0, 0)


def test_a_copy_is_kept():
    """Later reads into the same buffer do not change kept datagrams."""
    buffer = bytearray(b"first")
    kept = table()
    kept.keep("a", memoryview(buffer), "end", (), 1.0)
    buffer[:] = b"other"
    assert kept.take("a", 1.0).data == b"first"


def test_an_answer_ends_it():
    """A datagram that the backend has answered is dropped; dropping an unknown one does nothing."""
    kept = table()
    kept.keep("a", b"x", "end", (), 1.0)
    kept.forget("a")
    kept.forget("b")
    assert kept.take("a", 1.0) is None


def test_an_end_has_what_was_sent_there():
    """What is unanswered at one end is found together, the oldest first, and nothing of it once it is gone."""
    kept = table()
    for holder, end in (("a", 1), ("b", 2), ("c", 1), ("d", 1), ("a", 1)):
        kept.keep(holder, b"x", end, (), 1.0)
    kept.forget("c")
    assert (kept.holders(1), kept.holders(2), kept.holders(3)) == (["d", "a"], ["b"], [])
    kept.keep("b", b"x", 1, (), 1.0)
    assert kept.holders(2) == []
    for holder in "abd":
        kept.take(holder, 1.0)
    assert not kept._ends


def test_its_time_is_short():
    """After KEPT seconds a datagram is no longer there, and goes with the next one that is kept."""
    kept = table()
    kept.keep("a", b"x", "end", (), 1.0)
    kept.keep("b", b"y", "end", (), 1.5)
    assert kept.take("a", 1.0 + KEPT + 0.01) is None
    kept.keep("c", b"z", "end", (), 1.5 + KEPT + 0.01)
    assert len(kept) == 1


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 60), st.booleans()), max_size=60))
def test_the_octets_are_bounded(steps):
    """U18: after any operations `size` is that of the kept datagrams, at most the limit, and the newest ones are kept."""
    kept = table(100)
    for now, (holder, size, leaves) in enumerate(steps):
        if leaves:
            kept.forget(holder)
        else:
            kept.keep(holder, bytes(size), "end", (), now * 0.01)
            assert kept._kept[holder].data == bytes(size)
        assert kept.size == sum(len(one.data) for one in kept._kept.values()) <= 100


def test_what_exceeds_the_bound_alone_is_not_kept():
    """A datagram larger than the whole bound leaves nothing behind."""
    kept = table(10)
    kept.keep("a", bytes(11), "end", (), 1.0)
    assert (len(kept), kept.size) == (0, 0)


def test_thousands_of_sessions_cost_no_more_than_the_bound():
    """U18: 65,536 sessions with a datagram of 1,400 octets each keep 4 MiB."""
    kept: UnansweredTable[int] = UnansweredTable()
    for number in range(65536):
        kept.keep(number, bytes(1400), "end", (), number * 1e-6)
    assert kept.size <= 4 << 20
    assert kept.take(65535, 0.1) is not None
    assert kept.take(0, 0.1) is None
