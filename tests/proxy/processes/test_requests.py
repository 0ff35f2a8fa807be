"""Questions to workers and their answers."""

import asyncio

from proxy.processes.messages import common as messages
from proxy.processes.messages import worker as worker_messages
from proxy.processes.requests import Questions


class Child:
    """A worker that keeps what it is sent."""

    def __init__(self):
        self.sent = []

    def send(self, message):
        """Keep it."""
        self.sent.append(message)


async def test_each_gets_its_own_answer():
    """Two who ask at a time get the answer to their own question, in whatever order the answers come."""
    questions, child = Questions(), Child()
    asks = [asyncio.create_task(questions.ask(child, messages.Ask, 5)) for _ in range(2)]
    await asyncio.sleep(0)
    numbers = [message.number for message in child.sent]
    for number in reversed(numbers):
        questions.answered(child, worker_messages.Listed(number, [], number, False))
    assert [(await ask).met for ask in asks] == numbers


async def test_who_does_not_answer():
    """Silence ends after the asker's patience, death at once; an answer of somebody else's, or a late one, is nobody's."""
    questions, child, other = Questions(), Child(), Child()
    assert await questions.ask(child, messages.Ask, 0.01) is None
    questions.answered(child, worker_messages.Listed(1, [], 0, False))
    ask = asyncio.create_task(questions.ask(child, messages.Ask, 5))
    await asyncio.sleep(0)
    questions.answered(other, worker_messages.Listed(2, [], 0, False))
    questions.gone(other)
    await asyncio.sleep(0)
    assert not ask.done()
    questions.gone(child)
    assert await ask is None
