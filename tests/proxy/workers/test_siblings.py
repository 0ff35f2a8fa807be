"""proxy.workers.siblings: whose counters a worker sees."""

import os
from types import SimpleNamespace

import pytest

from proxy.stats.columns import Columns
from proxy.stats.layout import Layout
from proxy.stats.table import Table
from proxy.workers.siblings import introduce

PLAN = Layout(1, 1)


@pytest.fixture
def columns():
    made = Columns(PLAN)
    for life in (1, 2, 3, 9):
        made.attach(life, Table.create(PLAN))
    yield made
    made.close()


def place(life, given):
    """Return a place whose worker notes the memory that it is shown."""
    child = SimpleNamespace(send=lambda message, fds: given.update({life: {os.fstat(fd).st_ino for fd in fds}}))
    return SimpleNamespace(life=life, child=child)


def test_each_sees_all_others(columns):
    """R12: each able worker sees the columns of the others that are able, and of former daemons' workers, and not its own."""
    given = {}
    places = [place(life, given) for life in (1, 2, 3)]
    introduce(places[:2], places, columns)
    inodes = {life: os.fstat(table.fd).st_ino for life, table in columns.live.items()}
    assert given == {1: {inodes[2], inodes[9]}, 2: {inodes[1], inodes[9]}}


def test_a_worker_alone(columns):
    """A worker without any other is shown nothing, and told so."""
    columns.fold(9)
    given = {}
    places = [place(life, given) for life in (1, 2, 3)]
    introduce(places[:1], places, columns)
    assert given == {1: set()}
