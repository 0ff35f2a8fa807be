"""Which command is answered by whom: what a command changes is announced."""

import asyncio

import pytest

from proxy.commands.registry import _announced
from proxy.control.server import Request

ASKED = Request("drain", {}, 1, 0)


async def test_an_act_is_announced_when_it_is_in_force():
    """R14: no status that was put together while an act was being saved outlives it."""
    order = []

    async def saved(_):
        await asyncio.sleep(0)
        order.append("in force")
        return {"changed": True}

    assert await _announced(saved, lambda: order.append("announced"))(ASKED) == {"changed": True}
    assert order == ["in force", "announced"]


async def test_a_refused_act_is_announced():
    """An act that fails half way is announced as well: a part of it may be in force."""
    announced = []

    def refused(_):
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await _announced(refused, lambda: announced.append(1))(ASKED)
    assert announced == [1]


async def test_each_line_of_an_answer_is_announced():
    """An act that answers in several lines is announced before each, as it goes on between them; it is closed with them."""
    order = []

    async def lines(_):
        try:
            for number in range(2):
                order.append("in force")
                yield {"line": number}
        finally:
            order.append("closed")

    answer = await _announced(lines, lambda: order.append("announced"))(ASKED)
    assert [line["line"] async for line in answer] == [0, 1]
    assert order == ["announced", "in force", "announced", "in force", "announced", "closed"]
