"""proxy.stats.meanings: the words for counters."""

from proxy.stats.layout import BACKEND_CELLS, SERVICE_CELLS
from proxy.stats.meanings import BACKEND, SERVICE


def test_every_counter_has_a_meaning() -> None:
    """Each counter and gauge of a service and of a backend is explained, in their order, and nothing else is."""
    assert list(SERVICE) == [name for name, _ in SERVICE_CELLS]
    assert list(BACKEND) == [name for name, _ in BACKEND_CELLS if not name.startswith("spare")]
    assert all(SERVICE.values())
    assert all(BACKEND.values())
