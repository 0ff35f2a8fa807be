"""The last datagram of each session, kept while ICMP may say that it was not delivered."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.relay.native.udp_unanswered import KEPT, End, Holder, Unanswered
from proxy.relay.plan import BackendPlan
from proxy.relay.target import Target
from proxy.stats.layout import Layout

TARGET = Target(BackendPlan(0, "b", "192.0.2.1", 53, 1, "up"), 0, Layout(1, 1))


def end() -> End:
    """Return an end without datagrams."""
    return End(TARGET, "192.0.2.1", 53)


def holders(count: int, where: End) -> list[Holder]:
    """Return holders of datagrams to one end."""
    return [Holder(where) for _ in range(count)]


def test_the_last_one_is_kept():
    """Of a session's datagrams the last one is there, once, with the backends that had refused it."""
    kept, (a,) = Unanswered(100), holders(1, end())
    kept.keep(a, b"first", (), 1.0)
    kept.keep(a, b"second", (TARGET,), 1.1)
    assert kept.take(a, 1.2) == (b"second", (TARGET,))
    assert kept.take(a, 1.2) is None
    assert (len(kept), kept.size) == (0, 0)


def test_a_copy_is_kept():
    """Later reads into the same buffer do not change kept datagrams."""
    buffer = bytearray(b"first")
    kept, (a,) = Unanswered(100), holders(1, end())
    kept.keep(a, memoryview(buffer), (), 1.0)
    buffer[:] = b"other"
    assert kept.take(a, 1.0) == (b"first", ())


def test_an_answer_ends_it():
    """A datagram that the backend has answered is dropped; dropping an unknown one does nothing."""
    kept, (a, b) = Unanswered(100), holders(2, end())
    kept.keep(a, b"x", (), 1.0)
    kept.forget(a)
    kept.forget(b)
    assert kept.take(a, 1.0) is None


def test_an_empty_one_is_kept():
    """U12: a datagram of no octets is one, too."""
    kept, (a,) = Unanswered(100), holders(1, end())
    kept.keep(a, b"", (), 1.0)
    assert len(kept) == 1
    assert kept.take(a, 1.0) == (b"", ())


def test_an_end_has_what_was_sent_there():
    """What is unanswered at one end is found together, the oldest first, and nothing of it once it is gone."""
    kept, one, two = Unanswered(100), end(), end()
    (a, c, d), (b,) = holders(3, one), holders(1, two)
    for holder in (a, b, c, d, a):
        kept.keep(holder, b"x", (), 1.0)
    kept.forget(c)
    assert (kept.holders(one), kept.holders(two), kept.holders(end())) == ([d, a], [b], [])
    for holder in (a, b, d):
        kept.take(holder, 1.0)
    assert kept.holders(one) == kept.holders(two) == []


def test_its_time_is_short():
    """After KEPT seconds a datagram is no longer there, and goes with the next one that is kept."""
    kept, (a, b, c) = Unanswered(100), holders(3, end())
    kept.keep(a, b"x", (), 1.0)
    kept.keep(b, b"y", (), 1.5)
    assert kept.take(a, 1.0 + KEPT + 0.01) is None
    kept.keep(c, b"z", (), 1.5 + KEPT + 0.01)
    assert len(kept) == 1


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 60), st.booleans()), max_size=60))
def test_the_octets_are_bounded(steps):
    """U18: after any operations the kept ones are a plain model's: within the limit, the newest ones, in their order."""
    kept, ends = Unanswered(100), [end(), end()]
    all_of_them = [Holder(ends[number % 2]) for number in range(8)]
    model: dict[int, bytes] = {}
    for now, (number, size, leaves) in enumerate(steps):
        model.pop(number, None)
        if leaves:
            kept.forget(all_of_them[number])
        else:
            model[number] = bytes(size)
            kept.keep(all_of_them[number], bytes(size), (), now * 0.01)
        while sum(map(len, model.values())) > 100:
            del model[next(iter(model))]
        assert (len(kept), kept.size) == (len(model), sum(map(len, model.values())))
        assert [kept.holders(one) for one in ends] == [
            [all_of_them[held] for held in model if held % 2 == odd] for odd in range(2)
        ]
    for number, holder in enumerate(all_of_them):
        assert kept.take(holder, 1.0) == ((model[number], ()) if number in model else None)


def test_what_exceeds_the_bound_alone_is_not_kept():
    """A datagram larger than the whole bound leaves nothing behind."""
    kept, (a,) = Unanswered(10), holders(1, end())
    kept.keep(a, bytes(11), (), 1.0)
    assert (len(kept), kept.size) == (0, 0)


def test_thousands_of_sessions_cost_no_more_than_the_bound():
    """U18: 65,536 sessions with a datagram of 1,400 octets each keep 4 MiB."""
    kept, many = Unanswered(), holders(65536, end())
    for number, holder in enumerate(many):
        kept.keep(holder, bytes(1400), (), number * 1e-6)
    assert kept.size <= 4 << 20
    assert kept.take(many[-1], 0.1) is not None
    assert kept.take(many[0], 0.1) is None
