"""Shows each worker the counters of the others, which schedulers and limits of the whole host need."""

import os
from collections.abc import Collection

from proxy.processes import channel
from proxy.processes.messages import worker as worker_messages
from proxy.stats.columns import Columns
from proxy.workers.place import Place


def introduce(able: Collection[Place], places: Collection[Place], columns: Columns) -> None:
    """Give each worker that is able a view of the other columns.

    These are those of the able workers, and those of a predecessor's workers, which belong to none of the `places`: they
    have connections and get no new ones.  Raises OSError, and gives nobody anything, if descriptors run out.
    """
    ours = {place.life for place in places}
    shown = [place.life for place in able if place.life is not None]
    shown += [life for life in columns.live if life not in ours]
    views: dict[int, int] = {}
    try:
        for life in shown:
            if len(shown) > 1:
                views[life] = columns.live[life].readonly_fd()
        for place in able:
            fds = [fd for life, fd in views.items() if life != place.life][: channel.DESCRIPTORS]
            if place.child is not None:
                place.child.send(worker_messages.Siblings(len(fds)), fds)
    finally:
        for fd in views.values():
            os.close(fd)
