"""Tests of what becomes of unexpected exceptions; that the master goes on is in its own tests."""

import asyncio

import pytest

from proxy.processes.faults import IN_FULL, Faults


@pytest.fixture
def told():
    return []


def test_an_exception_is_reported_and_kept_from_the_caller(told, caplog):
    """An unexpected exception goes to the log with its traceback and to the events in one line, and the caller goes on."""
    faults = Faults(told.append)
    faults.guarded(lambda: 1 // 0)
    faults.guarded(lambda: None)
    assert told == [
        "internal error, the log has the traceback: ZeroDivisionError('integer division or modulo by zero')"
    ]
    assert caplog.records[0].exc_info[0] is ZeroDivisionError


def test_many_exceptions_flood_nothing(told):
    """The first exceptions are reported each, and after them one in a thousand."""
    faults = Faults(told.append)
    for _ in range(2000):
        faults.add(ValueError(), "here")
    assert len(told) == IN_FULL + 2


async def test_what_asyncio_catches(told):
    """An exception in a callback of the loop is reported as well."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(Faults(told.append).on_exception)
    loop.call_soon(lambda: 1 // 0)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(told) == 1
