"""When the alarm of a service whose probes are hindered is raised, and when it is over."""

from health.hindrances import Hindrances


def test_the_first_raises_the_alarm_and_the_last_ends_it() -> None:
    """The alarm stands from the first probe that is hindered until each that was hindered has judged `rise` times in a row."""
    service = Hindrances()
    assert not service.alarm
    service.hindered("a")
    service.hindered("b")
    for member in "aab":
        assert service.alarm
        service.judged(member, 2)
    assert service.alarm
    service.judged("b", 2)
    assert not service.alarm


def test_a_limit_met_now_and_then_is_one_alarm() -> None:
    """A probe that is hindered every other time stays hindered."""
    service = Hindrances()
    for _ in range(10):
        service.hindered("a")
        service.judged("a", 2)
        assert service.alarm


def test_others_say_nothing() -> None:
    """A probe that was never hindered neither raises nor ends an alarm, and one that is gone is forgotten."""
    service = Hindrances()
    service.judged("a", 1)
    service.hindered("b")
    service.judged("a", 1)
    assert service.alarm
    service.keep({"a"})
    assert not service.alarm
