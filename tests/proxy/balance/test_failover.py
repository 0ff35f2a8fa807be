"""failover."""

from proxy.balance.failover import Failover


def test_all_to_the_heaviest(make):
    """The backend of the highest weight takes everything, whatever its load."""
    backends = make([1, 5, 3])
    backends[1].active = 10_000
    selector = Failover(backends)
    assert {selector.pick(key) for key in range(10)} == {backends[1]}


def test_equal_weights_go_by_file_order(make):
    """Of equal weights the first in the file comes first, however the list was ordered."""
    backends = make([1, 2, 2])
    assert Failover((backends[2], backends[0], backends[1])).backends == (backends[1], backends[2], backends[0])


def test_retries_go_down_the_order(make):
    """Each retry goes to the next backend in order, and the last one gets None."""
    backends = make([1, 5, 3])
    selector = Failover(backends)
    tried = []
    while (backend := selector.pick(0, tried)) is not None:
        tried.append(backend)
    assert tried == [backends[1], backends[2], backends[0]]
