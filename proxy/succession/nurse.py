"""What is left of a daemon when a successor has taken over: it looks after its workers until their connections are over.

It owns no address, no socket that clients connect to, no file and no control socket any more.  It reports to the
successor, and ends with its last worker; it goes on if the successor ends.
"""

import asyncio
import math
import os
from collections.abc import Callable, Collection, Sequence
from typing import Final, get_args

from proxy.backends.effective import Running
from proxy.balance.backend import Admin, Verdict
from proxy.processes.messages import worker as worker_messages
from proxy.records.timeline import Event
from proxy.succession import protocol
from proxy.succession.link import Link, LinkEndedError
from proxy.workers.supervisor import Supervisor

GRACE: Final = 1.0  # s that workers have beyond their time
_VERDICTS: Final = get_args(Verdict)
_ADMINS: Final = get_args(Admin)


class Nurse:
    """Reports to the successor behind `link`; `over()` is called when there is nothing left to do."""

    def __init__(self, link: Link, running: Running, workers: Supervisor, over: Callable[[], None]) -> None:
        self._link = link
        self._running = running
        self._workers = workers
        self._over = over
        self._lives = {place.life for place in workers.present()}

    def begin(self, timeout: float, given_up: Collection[int]) -> None:
        """Let the workers finish what is open within `timeout` seconds, and what waits in listeners that are given up."""
        self._link.listen(self._heard, self._link.close)
        self._workers.on_sessions = self._pass_on
        self._workers.close_listeners(given_up)
        self._workers.drain(timeout, hand_over=True)
        if timeout != math.inf:
            asyncio.get_running_loop().call_later(timeout + GRACE, self._over)

    def hurry(self, timeout: float = 0.0) -> None:
        """Cut what is open, after `timeout` seconds."""
        self._workers.drain(timeout, hand_over=True)
        asyncio.get_running_loop().call_later(timeout + GRACE, self._over)

    def look(self) -> None:
        """Report the workers that are gone."""
        living = {place.life for place in self._workers.present()}
        for life in sorted(one for one in self._lives - living if one is not None):
            self._send(protocol.Gone(life))
        self._lives &= living

    def forward(self, event: Event) -> bool:
        """Pass an event on to the successor's timeline; returns False if there is none any more."""
        return self._send(protocol.Told(event.as_dict()))

    def close(self) -> None:
        """Report for the last time."""
        self.look()
        self._link.close()

    def _pass_on(self, sessions: worker_messages.Sessions, fds: list[int]) -> None:
        """Pass UDP sessions on to the successor; without one they are over, as their worker has let go of them."""
        self._send(protocol.Sessions(sessions.rows, sessions.last), fds)

    def _send(self, message: protocol.Message, fds: Sequence[int] = ()) -> bool:
        try:
            self._link.send(message, fds)
        except LinkEndedError:
            return False
        return True

    def _heard(self, message: protocol.Message, fds: list[int]) -> None:
        for fd in fds:
            os.close(fd)
        match message:
            case protocol.Verdicts(changes):
                self._judge(changes)
            case protocol.Drain(timeout) if 0 <= timeout < math.inf:
                self.hurry(timeout)

    def _judge(self, changes: list[object]) -> None:
        """Tell the workers new verdicts on the backends that they know."""
        services, backends = self._running.slots
        rows = [
            [services[service], backends[service, backend], verdict, admin]
            for service, backend, verdict, admin in _whole(changes)
            if service in services and (service, backend) in backends and verdict in _VERDICTS and admin in _ADMINS
        ]
        if rows:
            self._workers.tell(worker_messages.Verdicts(rows))


def _whole(changes: list[object]) -> list[tuple[str, str, str, str]]:
    """Return the rows that are whole: another version may have sent them."""
    return [
        (row[0], row[1], row[2], row[3])
        for row in changes
        if isinstance(row, list) and len(row) == 4 and all(isinstance(one, str) for one in row)  # noqa: PLR2004 - a row
    ]
