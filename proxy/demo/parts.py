"""The parts of both demos: processes of this package, and a daemon with its control socket."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from proxy.control.client import Client
from proxy.control.wire import ControlError

Say = Callable[[str], None]

READY_WITHIN = 15.0  # s
ENDS_WITHIN = 5.0  # s


class DemoError(Exception):
    """The demo cannot run here; says why."""


def spawn(module: str, *arguments: str, log: Path) -> "subprocess.Popen[bytes]":
    """Start `python -m MODULE` in a new session, with its output in the file `log`."""
    here = str(Path(__file__).resolve().parents[2])
    with log.open("ab") as file:
        return subprocess.Popen(  # noqa: S603 - ourselves, and no shell
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.DEVNULL, stdout=file, stderr=file,
            env={**os.environ, "PYTHONPATH": here}, start_new_session=True,
        )  # fmt: skip


class Daemon:
    """A running `steelyard run`."""

    def __init__(self, socket: Path, log: Path, *arguments: str) -> None:
        """Start it with `arguments`; `socket` is the control socket that its configuration names."""
        self._socket = str(socket)
        self._log = log
        self.process = spawn("proxy", "run", *arguments, log=log)

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Return the last line of the answer to a command. Raises ControlError."""
        with Client(self._socket) as client:
            *_, answer = client.stream(command, **arguments)
        return answer

    def status(self) -> dict[str, Any]:
        """Return the daemon's status. Raises ControlError."""
        status: dict[str, Any] = self.ask("status")["status"]
        return status

    def events(self) -> list[dict[str, Any]]:
        """Return the timeline, oldest first. Raises ControlError."""
        with Client(self._socket) as client:
            return [event for answer in client.stream("events") for event in answer["events"]]

    async def ready(
        self, more: Callable[[dict[str, Any]], bool] = lambda _: True, patience: float = READY_WITHIN
    ) -> None:
        """Wait until all services are up and `more` accepts the status. Raises DemoError after `patience` seconds."""
        deadline = time.monotonic() + patience
        while True:
            if self.process.poll() is not None or time.monotonic() > deadline:
                log = self._log.read_text(encoding="utf-8", errors="replace")
                raise DemoError(f"the daemon did not become ready. The end of its log:\n{log[-2000:]}")
            try:
                status = self.status()
                if all(service["state"] == "up" for service in status["services"]) and more(status):
                    return
            except ControlError:
                pass  # the socket does not exist yet
            await asyncio.sleep(0.1)

    def end(self) -> None:
        """Stop it with SIGINT, as no other daemon is to take its place, or after ENDS_WITHIN with SIGKILL."""
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(ENDS_WITHIN)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
