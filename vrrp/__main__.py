"""`python -m vrrp --settings FILE`: one `Runner` by itself until SIGTERM, for tests and for development.

FILE is JSON in the shape of `vrrp.settings.Settings`.  Standard output has one JSON line an event: {"event": "state",
"name": ..., "state": ..., "reason": ..., "at": monotonic seconds}, {"event": "tell", ...}, {"event": "counters", ...}
at the end.  Signals: SIGTERM hands over and leaves, SIGINT leaves at once, SIGUSR1 is standby, SIGUSR2 resume, SIGHUP
prints status and counters, SIGQUIT reads FILE again and puts it into force.  It ends by itself when other processes of
this host have become all of its routers.
"""

import argparse
import asyncio
import json
import os
import signal
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vrrp.precedence import take_precedence
from vrrp.report import Moved
from vrrp.runner import Runner
from vrrp.settings import Settings


def _print(event: str, **fields: Any) -> None:
    print(json.dumps({"event": event, "at": time.monotonic(), **fields}), flush=True)  # noqa: T201 - its output


def _read(path: Path) -> Settings:
    return Settings.from_tree(json.loads(path.read_text(encoding="utf-8")))


async def _run(path: Path) -> None:
    loop = asyncio.get_running_loop()
    done: asyncio.Future[bool] = loop.create_future()

    def told(name: str, words: str) -> None:
        _print("tell", name=name, text=words)

    def moved(move: Moved) -> None:
        _print("state", **asdict(move))

    def report() -> None:
        _print("status", routers=runner.status(), counters=runner.counters(), handover=runner.handover())

    def each(call: str) -> None:
        for one in runner.status():
            getattr(runner, call)(one["name"])

    async def reroute() -> None:
        await runner.reroute(_read(path))
        _print("rerouted", faults=await runner.rerouted())

    def change() -> None:
        task = loop.create_task(reroute())
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def leave(hand_over: bool) -> None:
        if not done.done():
            done.set_result(hand_over)

    tasks: set[asyncio.Task[None]] = set()
    runner = Runner(_read(path), moved, told, on_taken=lambda: leave(False))
    loop.add_signal_handler(signal.SIGTERM, leave, True)
    loop.add_signal_handler(signal.SIGINT, leave, False)
    loop.add_signal_handler(signal.SIGUSR1, each, "standby")
    loop.add_signal_handler(signal.SIGUSR2, each, "resume")
    loop.add_signal_handler(signal.SIGHUP, report)
    loop.add_signal_handler(signal.SIGQUIT, change)
    await runner.start()
    _print("started", pid=os.getpid())
    await runner.shutdown(hand_over=await done)
    report()


def main() -> None:
    """Run until told to leave."""
    parser = argparse.ArgumentParser(prog="python -m vrrp", description="One virtual-router process, without the rest.")
    parser.add_argument("--settings", type=Path, required=True, help="a JSON file")
    path = parser.parse_args().settings
    for words in take_precedence():
        _print("tell", name="process", text=words)
    asyncio.run(_run(path))


if __name__ == "__main__":
    main()
