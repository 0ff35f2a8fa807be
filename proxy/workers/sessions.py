"""Which worker a predecessor's UDP sessions go to: the one that their clients' datagrams reach now."""

from collections.abc import Callable, Sequence
from typing import Any

from proxy.relay.udp.handover import where_to
from proxy.workers.member_owners import Members

Lot = tuple[list[list[Any]], list[int]]
"""Rows of sessions, and a descriptor for each."""


def lots(
    members: Members, listeners: Callable[[str], int | None], rows: Sequence[list[Any]], fds: Sequence[int]
) -> dict[int, Lot]:
    """Return the sessions by worker; those of members that nobody polls are left out.

    `listeners(text)` returns the number of a listener, None if there is none.
    """
    found: dict[int, Lot] = {}
    for row, fd in zip(rows, fds, strict=False):
        listener, member = where_to(row)
        number = listeners(listener)
        owner = None if number is None else members.owner(number, member)
        if owner is not None:
            some, sockets = found.setdefault(owner, ([], []))
            some.append(row)
            sockets.append(fd)
    return found
