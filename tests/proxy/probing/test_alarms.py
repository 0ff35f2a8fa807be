"""proxy.probing.alarms: what is raised now."""

from proxy.probing.alarms import Alarms
from proxy.processes.messages.health import Alarm


def alarm(service="mail", about="login mysql probe", state="raised", text="every backend refuses the login", at=60.0):
    return Alarm(service, text, state, at, about)


def test_an_alarm_is_shown_until_it_is_over():
    """An alarm has its service, its words and the time of its raise, and is gone when what it is about is over."""
    alarms = Alarms()
    alarms.take(alarm())
    alarms.take(alarm(at=120.0))
    alarms.take(alarm(service="web", about="probes", at=-5.0))
    assert alarms.rows == [
        {"service": "mail", "text": "every backend refuses the login", "since": "1970-01-01T00:01:00.000Z"},
        {"service": "web", "text": "every backend refuses the login", "since": "1970-01-01T00:00:00.000Z"},
    ]
    alarms.take(alarm(state="over", text="the login succeeds again"))
    assert [row["service"] for row in alarms.rows] == ["web"]
    alarms.take(alarm(state="over", about="nothing of this kind"))


def test_what_is_gone_is_no_alarm():
    """The alarms of removed services, and those of a health process that is gone, are forgotten."""
    alarms = Alarms()
    alarms.take(alarm())
    alarms.take(alarm(service="web"))
    alarms.keep({"web"})
    assert [row["service"] for row in alarms.rows] == ["web"]
    alarms.clear()
    assert alarms.rows == []
