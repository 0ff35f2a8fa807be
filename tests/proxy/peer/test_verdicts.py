"""The peer's verdicts: only newer messages count, and only `up` has an effect."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.peer.framing import LARGEST
from proxy.peer.messages import CHUNK, VerdictRow, Verdicts, encode
from proxy.peer.verdicts import OurVerdicts, PeerVerdicts

KEY = ("dns", "10.0.0.1")


def row(state: str = "up", backend: str = KEY[1]) -> VerdictRow:
    """Return a verdict."""
    return VerdictRow(service=KEY[0], backend=backend, state=state, at=1.0, reason="probe")


def test_older_messages_change_nothing():
    """A replayed or older message changes nothing."""
    peer = PeerVerdicts()
    first, second = Verdicts(number=1, first=True, rows=(row("up"),)), Verdicts(number=2, rows=(row("down"),))
    assert peer.take(first) == {KEY}
    assert peer.seen_up(KEY)
    assert peer.take(second) == {KEY}
    assert peer.take(first) == peer.take(second) == set()
    assert not peer.seen_up(KEY)


def test_a_gap_is_noticed():
    """After a lost message the peer's word does not count until all has come again."""
    peer = PeerVerdicts()
    assert peer.is_behind(0)
    peer.take(Verdicts(number=1, first=True, rows=(row("up"),)))
    assert not peer.is_behind(1)
    assert peer.is_behind(2)
    peer.take(Verdicts(number=3, rows=()))
    assert peer.is_behind(3)
    assert not peer.seen_up(KEY)
    peer.take(Verdicts(number=4, first=True, rows=(row("reserve"),)))
    assert peer.seen_up(KEY)
    peer.restart()
    assert peer.get(KEY) is None


STATES = st.sampled_from(["up", "down", "reserve", "unknown"])


@given(st.lists(st.dictionaries(st.integers(0, 5), STATES, max_size=6), max_size=12), st.data())
def test_news_arrive(tables, data):
    """Invariant: a peer that gets every message knows all verdicts; one that missed some knows that it did."""
    ours, whole, lossy = OurVerdicts(), PeerVerdicts(), PeerVerdicts()
    rows = {}
    for table in tables:
        rows = {(KEY[0], str(key)): row(state, str(key)) for key, state in table.items()}
        for message in ours.news(rows):
            whole.take(message)
            if data.draw(st.booleans()):
                lossy.take(message)
        if tables:
            assert {key: whole.get(key) for key in rows} == rows
            assert not whole.is_behind(ours.number)
    if not lossy.is_behind(ours.number):
        assert {key: lossy.get(key) for key in rows} == rows


def test_many_verdicts_are_cut():
    """A message has as many verdicts as have room, and at most `CHUNK`; unchanged ones are not sent again, until all are asked for."""
    ours = OurVerdicts()
    rows = {(KEY[0], str(number)): row("up", str(number)) for number in range(2 * CHUNK + 1)}
    sent = list(ours.news(rows))
    assert [len(one.rows) for one in sent] == [CHUNK, CHUNK, 1]
    assert [one.first for one in sent] == [True, False, False]
    assert list(ours.news(rows)) == []
    ours.again()
    assert [one.number for one in ours.news(rows)] == [4, 5, 6]
    long = {key: one.model_copy(update={"reason": "\u20ac" * 200}) for key, one in rows.items()}
    sent = list(ours.news(long))
    assert sum(len(one.rows) for one in sent) == len(rows)
    assert max(len(encode(one)) for one in sent) <= LARGEST
