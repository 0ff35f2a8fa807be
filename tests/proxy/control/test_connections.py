"""What waits for one who follows connections."""

from proxy.control.connections import PORTION, QUEUED, Feed


async def test_a_feed_is_bounded():
    """The oldest events make room for new ones, and how many were lost is told once, before what is left."""
    feed = Feed()
    feed.put(3, [{"n": number} for number in range(QUEUED + 5)], 2)
    events, lost = await feed.get()
    assert (events[0], len(events), lost) == ({"n": 5, "worker": 3}, PORTION, 7)
    assert (await feed.get())[1] == 0
