"""What the tests of the balance package share."""

from collections.abc import Callable, Sequence

import pytest

from proxy.balance.backend import Backend


@pytest.fixture(scope="session")
def make() -> Callable[[Sequence[int]], tuple[Backend, ...]]:
    """Return a function that makes a backend that is up for each weight."""

    def backends(weights: Sequence[int]) -> tuple[Backend, ...]:
        return tuple(Backend(f"10.0.0.{place}", place, weight, "up") for place, weight in enumerate(weights))

    return backends
