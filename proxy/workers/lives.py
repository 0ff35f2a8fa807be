"""The life of one worker process in its place: what it begins with, what it is given with descriptors, what is left of it."""

import os
from collections.abc import Callable, Sequence

from proxy.processes import channel
from proxy.processes.child import Child, Identity
from proxy.processes.heartbeat import Pulse
from proxy.processes.messages import common as messages
from proxy.processes.messages import worker as worker_messages
from proxy.relay.dns import journal
from proxy.stats.table import Table
from proxy.workers.member_owners import Key
from proxy.workers.place import Place
from proxy.workers.provision import Provision

LARGEST = 1 << 20  # octets of a worker's message at most: an attacker may have taken the worker over


def begin_life(
    place: Place,
    provision: Provision,
    identity: Identity,
    life: int,
    on_message: Callable[[messages.Message, list[int]], None],
    on_death: Callable[[str], None],
) -> Child:
    """Start a process for a place, as its life number `life`; raises OSError, and keeps nothing, if that is impossible."""
    setup = provision.setup()
    queries = journal.create()
    table = None
    shared: list[int] = []
    try:
        shared = provision.shared()
        table = Table.create(provision.columns.layout)
        child = Child("proxy.worker", identity, on_message, on_death, LARGEST)
    except BaseException:
        for fd in (queries, *shared):
            os.close(fd)
        if table is not None:
            table.close()
        raise
    provision.columns.attach(life, table)
    provision.hold(life)
    place.life, place.journal = life, queries
    place.stalled = False
    place.pulse = Pulse()
    child.send(setup, [table.fd, queries, *shared])
    for fd in shared:
        os.close(fd)
    return child


def end_life(place: Place, provision: Provision) -> None:
    """Fold the counters of a process that has ended into the sums, and drop the rest of it."""
    if place.life is not None:
        provision.columns.fold(place.life)
        provision.release(place.life)
        place.life = None
    if place.journal >= 0:
        os.close(place.journal)
        place.journal = -1


def grant(place: Place, provision: Provision, keys: Sequence[Key]) -> None:
    """Have a worker poll these members."""
    if place.child is None:
        return
    for first in range(0, len(keys), channel.DESCRIPTORS):
        members = [provision.member(key) for key in keys[first : first + channel.DESCRIPTORS]]
        rows = [[m.listener, m.index, m.service, m.transport, m.address, m.port] for m, _ in members]
        place.child.send(worker_messages.Listen(rows), [fd for _, fd in members])


def prepare(child: Child, provision: Provision, wanted: worker_messages.Prepare) -> None:
    """Give a worker the transparent sockets that it asks for."""
    made = provision.prepare(wanted)
    child.send(worker_messages.Prepared(wanted.family, wanted.kind, wanted.count), [sock.fileno() for sock in made])
    for sock in made:
        sock.close()
