"""Two workers of one host in this process: relays that share the slots of their services, and see each other's columns."""

from collections.abc import Iterator
from contextlib import contextmanager

from proxy.stats.table import Table
from tests.proxy.relay.conftest import LAYOUT, Relay


@contextmanager
def pair() -> Iterator[tuple[Relay, Relay]]:
    """Yield two relays, not started; add the same services to both in the same order, and `join` them when started."""
    one, two = Relay(), Relay()
    try:
        yield one, two
    finally:
        two.close()
        one.close()


def join(one: Relay, two: Relay) -> None:
    """Introduce two started relays to each other, as the master does."""
    for here, there in ((one, two), (two, one)):
        table = Table.attach(there.table.readonly_fd(), LAYOUT)
        here.call(lambda here=here, table=table: here.engine.siblings([table]))
