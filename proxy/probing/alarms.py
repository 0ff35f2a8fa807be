"""The alarms that are raised now: faults of this host, such as a refused password, that hide verdicts [pure]."""

from collections.abc import Collection

from proxy.moments import LAST, rfc3339
from proxy.processes.messages.health import Alarm
from proxy.status.schema import AlarmStatus


class Alarms:
    """Keeps each alarm from its raise to its end."""

    def __init__(self) -> None:
        self._raised: dict[tuple[str, str], AlarmStatus] = {}

    def take(self, alarm: Alarm) -> None:
        """Note an alarm that is raised or over."""
        key = alarm.service, alarm.about
        if alarm.state == "raised":
            since = rfc3339(min(max(alarm.at, 0.0), LAST))
            self._raised.setdefault(key, {"service": alarm.service, "text": alarm.text, "since": since})
        else:
            self._raised.pop(key, None)

    def clear(self) -> None:
        """Forget all: a new health process raises those that are so again."""
        self._raised.clear()

    def keep(self, services: Collection[str]) -> None:
        """Forget those of services that are gone."""
        self._raised = {key: row for key, row in self._raised.items() if key[0] in services}

    @property
    def rows(self) -> list[AlarmStatus]:
        """The alarms as the status shows them."""
        return list(self._raised.values())
