"""Snapshots for the dashboard's tests."""

from types import SimpleNamespace

import pytest

from proxy.dashboard.board import Scene
from tests.proxy.cli.conftest import backend, whole_status
from tests.proxy.dashboard.lively import NOW, events, lively


@pytest.fixture
def make():
    """Return what makes statuses and backends."""
    return SimpleNamespace(status=whole_status, backend=backend)


@pytest.fixture
def scene():
    """Return the scene of a lively installation after two looks."""
    made = Scene(events=events(NOW), taken=NOW + 1, now=NOW + 1)
    for at in range(2):
        made.status = lively(at, NOW + at)
        made.history.take(made.status, float(at))
    return made
