"""Tests of the table of metrics."""

import re

import pytest

from proxy.stats.layout import SERVICE_CELLS
from proxy.web import names


@pytest.mark.parametrize("name", names.ALL, ids=lambda one: one.name)
def test_names_keep_the_conventions(name):
    """R8: names are in Prometheus' form with base units, every one is explained, and the node's label is never said twice."""
    assert re.fullmatch(r"steelyard_[a-z][a-z0-9_]*", name.written)
    assert not re.search(r"(_total|_info|_ms|_milliseconds|_count|_sum|_bucket)$", name.name)
    assert name.meaning.endswith(".")
    assert "node" not in name.labels


def test_refusals_are_counters_of_services():
    """The reasons of a refusal are counters that a service has, each with a name of its own."""
    cells = {name for name, kind in SERVICE_CELLS if kind == "counter"}
    assert names.REFUSED.keys() | set(names.ACCEPTED) <= cells
    assert len(set(names.REFUSED.values())) == len(names.REFUSED)
