"""The schedule of announcements."""

import math
from dataclasses import replace
from ipaddress import ip_address

from vrrp.announcing import Announcing
from vrrp.events import Announce, RouterConfig

ADDRESSES = (ip_address("198.51.100.10"),)
CONFIG = RouterConfig("r", 51, ADDRESSES, ip_address("192.0.2.1"))


def test_schedule():
    """V8: five at once, five after 5 s, then one every 60 s."""
    announcing = Announcing()
    assert announcing.begin(CONFIG, 100.0) == Announce(ADDRESSES, 5)
    assert announcing.due(CONFIG, 104.9) == ()
    assert announcing.due(CONFIG, 105.0) == (Announce(ADDRESSES, 5),)
    assert announcing.at == 165.0
    assert announcing.due(CONFIG, 165.0) == (Announce(ADDRESSES, 1),)
    assert announcing.at == 225.0


def test_stopped():
    """V8: who is not active announces nothing."""
    announcing = Announcing()
    assert announcing.due(CONFIG, 1e9) == ()
    announcing.begin(CONFIG, 1.0)
    announcing.stop()
    assert announcing.at == math.inf


def test_without_a_repetition_the_refresh_goes_on():
    """V8: with repeat-after = "never", or later than the refresh, the addresses are announced on the refresh interval."""
    config = replace(CONFIG, announce_repeat_after=math.inf, announce_refresh=60.0)
    announcing = Announcing()
    announcing.begin(config, 0.0)
    assert announcing.at == 60.0
    announcing.due(config, 60.0)
    assert announcing.at == 120.0


def test_again():
    """V8, V19: a conflict is announced in full, a second one that comes at once only once, a third one when time is over."""
    announcing = Announcing()
    announcing.begin(CONFIG, 0.0)
    assert announcing.again(CONFIG, 50.0) == (Announce(ADDRESSES, 5),)
    assert announcing.again(CONFIG, 50.1) == (Announce(ADDRESSES, 1),)
    assert announcing.at == 55.1
    assert announcing.again(CONFIG, 50.2) == ()
    assert announcing.at == 50.6
    assert announcing.due(CONFIG, 50.6) == (Announce(ADDRESSES, 1),)
    assert announcing.due(CONFIG, 55.6) == (Announce(ADDRESSES, 5),)


def test_a_storm_of_conflicts_is_bounded():
    """V8: 4,000 adverts of a loser in two seconds make four announcements a second, and the last one is not forgotten."""
    announcing = Announcing()
    announcing.begin(CONFIG, 0.0)
    made = []
    for number in range(4000):
        now = 10 + number / 2000
        made += [(now, one) for one in (*announcing.due(CONFIG, now), *announcing.again(CONFIG, now))]
    assert len(made) == 8
    assert sum(one.count for _, one in made) == 12
    assert announcing.due(CONFIG, 12.0) == (Announce(ADDRESSES, 1),)


def test_answer_is_bounded():
    """V8: two hosts that contradict each other's claims do so at most once an interval."""
    announcing = Announcing()
    announcing.begin(CONFIG, 0.0)
    answers = [announcing.answer(CONFIG, number / 1000) for number in range(3001)]
    assert sum(len(answer) for answer in answers) == 3


def test_flapping_is_bounded():
    """V8: a takeover is announced at once, however soon after the last one; only once for each address then, and again later."""
    announcing = Announcing()
    announcing.begin(CONFIG, 0.0)
    announcing.stop()
    assert announcing.begin(CONFIG, 0.1) == Announce(ADDRESSES, 1)
    assert announcing.due(CONFIG, 0.5) == (Announce(ADDRESSES, 1),)
    assert announcing.due(CONFIG, 5.5) == (Announce(ADDRESSES, 5),)


def test_a_tiny_refresh_is_bounded():
    """V8: an interval of a microsecond between refreshes makes two announcements a second, not a million."""
    tiny = replace(CONFIG, announce_refresh=1e-6, announce_repeat_after=0.0)
    announcing = Announcing()
    announcing.begin(tiny, 0.0)
    assert sum(len(announcing.due(tiny, number / 1000)) for number in range(10_001)) == 20
