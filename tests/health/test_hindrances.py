"""What keeps this host from probing: one alarm a service and cause."""

from health.hindrances import Change, Hindrances

CAUSE = "tls-ca-file /ca.pem is missing"
RAISED = Change("web", f"the http probe cannot run ({CAUSE}): the verdicts stay as they are", active=True)
OVER = Change("web", f"the http probe is no longer kept from running ({CAUSE})", active=False)


def test_one_alarm_for_all_probes_of_a_cause() -> None:
    """H13: however many probes of a service cannot run for the same cause, one alarm says so, and one that all can again."""
    held = Hindrances()
    said = [change for _ in range(3) for probe in "abc" for change in held.note(probe, "web", "http", CAUSE)]
    assert said == [RAISED]
    assert held.note("a", "web", "http", "") == []
    assert held.note("b", "web", "http", "") == []
    assert held.note("c", "web", "http", "") == [OVER]


def test_one_moment_is_no_alarm() -> None:
    """H13: a probe that was kept from a single run is no news; two in a row are."""
    held = Hindrances()
    for _ in range(5):
        assert held.note("a", "web", "http", CAUSE) == []
        assert held.note("a", "web", "http", "") == []
    assert held.note("a", "web", "http", CAUSE) == []
    assert held.note("a", "web", "http", CAUSE) == [RAISED]


def test_another_cause_is_another_alarm() -> None:
    """H13: a cause that gives way to another ends its alarm, and the other has one of its own."""
    held = Hindrances()
    held.note("a", "web", "http", CAUSE)
    assert held.note("a", "web", "http", CAUSE) == [RAISED]
    assert held.note("a", "web", "http", "no descriptor") == [OVER]
    assert [one.active for one in held.note("a", "web", "http", "no descriptor")] == [True]


def test_a_probe_that_is_gone_holds_no_alarm() -> None:
    """A probe that is no longer asked for ends the alarm that it alone held."""
    held = Hindrances()
    for probe in "aabb":
        held.note(probe, "web", "http", CAUSE)
    assert held.keep({"b"}) == []
    assert held.keep(set()) == [OVER]
