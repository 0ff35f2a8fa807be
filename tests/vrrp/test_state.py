"""What a router knows, and when it wants to be woken."""

import math

from tests.vrrp.transcript import configuration
from vrrp import events as ev
from vrrp.router import Router


def router_of(*words):
    router = Router(configuration(["r", *words]), 0.0)
    router.handle(ev.Startup(), 0.0)
    return router


def test_deadline_is_the_earliest():
    """V3, V8, V24: a router wants to be woken for whatever comes first in its state, and never without a reason."""
    assert Router(configuration(["r"]), 0.0).deadline is None
    assert router_of("awaits_verdicts=true").deadline == 3.0
    assert router_of("awaits_verdicts=true", "start_delay=7").deadline == 7.0
    assert router_of("priority=128").deadline == 3.5
    assert router_of("priority=255").deadline == 1.0
    assert router_of("priority=255", "advert_interval=30").deadline == 5.0
    assert router_of("priority=255", "advert_interval=30", "lease=2").deadline == 2.0
    assert router_of("source=none").deadline is None


def test_never_is_not_a_deadline():
    """V8: what the configuration sets to never wakes nobody."""
    router = router_of("priority=255", "advert_interval=30", "announce_repeat_after=inf", "announce_refresh=inf")
    assert router.deadline == 30.0
    assert math.isfinite(router.deadline)


def test_what_status_shows():
    """V11: priority, its parts, faults, and since when and why, follow what happened."""
    router = router_of()
    router.handle(ev.PriorityChanged((("service dns", -60),)), 1.0)
    assert router.effective_priority == router.own_priority == 40
    assert router.priority_parts == (("configured", 100), ("service dns", -60))
    router.handle(ev.Fault("probe gateway"), 2.0)
    router.handle(ev.LinkDown(), 3.0)
    assert (router.state, router.since, router.faults) == ("fault", 2.0, ("probe gateway", "the link is down"))
    assert router.reason == "probe gateway; the link is down"
