"""The commands `connections` and `disconnect`: what they ask of the workers, and how many may."""

import asyncio
from types import SimpleNamespace

import pytest

from proxy.commands.connections import ASKING, Connections
from proxy.control.server import Request
from proxy.control.wire import ControlError
from proxy.processes.messages import worker as worker_messages


@pytest.fixture
async def bed():
    """Two workers that answer when they are let; each has one connection."""
    told, gate = [], asyncio.Event()

    async def ask(index, question, patience):
        await asyncio.wait_for(gate.wait(), patience)
        return worker_messages.Listed(1, [{"client": f"192.0.2.{index}:1"}], 1, False)

    running = SimpleNamespace(services={"dns": SimpleNamespace(name="dns", protocol="dns")})
    following = (lambda *_: None, lambda *_: None)
    commands = Connections(running, lambda: (0, 1), ask, following, lambda _: 7, lambda *act: told.append(act))
    return SimpleNamespace(commands=commands, gate=gate, told=told)


def asked(command, **arguments):
    return Request(command, arguments, 1, 1000)


async def rows(bed):
    return [row async for line in bed.commands.connections(asked("connections")) for row in line["connections"]]


async def test_readers_do_not_keep_out_who_disconnects(bed):
    """R7: as many as may list do not keep out an operator who ends connections, only one more who lists."""
    readers = [asyncio.ensure_future(rows(bed)) for _ in range(ASKING)]
    await asyncio.sleep(0)
    with pytest.raises(ControlError, match="ask for connections already"):
        await rows(bed)
    acts = asyncio.ensure_future(bed.commands.disconnect(asked("disconnect", service="dns")))
    await asyncio.sleep(0)
    bed.gate.set()
    assert (await acts)["changed"]
    assert {row["client"] for row in await readers[0]} == {"192.0.2.0:1", "192.0.2.1:1"}
    await asyncio.gather(*readers)
    assert len(await rows(bed)) == 2
