"""Steelyard itself in the bed: the command of this environment, a file, and the answers of its control socket."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.e2e.bed import Bed
from tests.e2e.process import BedError, EndedError, Proc, cpu_seconds, descendants, until

ROOT = Path(__file__).parents[2]
Status = dict[str, Any]  # the document of `steelyard status --json`


def settled(status: Status) -> bool:
    """Return True if every worker is alive and every backend has a verdict."""
    workers = status["workers"]
    backends = [backend for service in status["services"] for backend in service["backends"]]
    return bool(workers) and all(w["alive"] for w in workers) and all(b["state"] != "unknown" for b in backends)


def backend_of(status: Status, service: str, backend: str) -> dict[str, Any]:
    """Return one backend's part of a status. Raises LookupError."""
    for found in status["services"]:
        if found["name"] == service:
            for candidate in found["backends"]:
                if candidate["name"] == backend:
                    part: dict[str, Any] = candidate
                    return part
    message = f"no backend {backend} of service {service} in the status"
    raise LookupError(message)


class Daemon:
    """`steelyard run` on a host of the bed, with a control socket and a state directory of its own.

    `text` is the file without [node] and [control], which are added; `node` has more keys of [node], as TOML values.
    The constructor returns when `ready` accepts the status, and raises BedError with the daemon's output otherwise.
    """

    def __init__(
        self,
        bed: Bed,
        host: str,
        text: str,
        *,
        workers: int = 2,
        node: Mapping[str, str] | None = None,
        ready: Callable[[Status], bool] = settled,
        patience: float = 20.0,
        command: Sequence[str] = (sys.executable, "-m", "proxy"),
        env: dict[str, str] | None = None,
        cpus: str | None = None,
        nofile: int | None = None,
    ) -> None:
        self.bed, self.host, self.base = bed, host, list(command)
        self.dir = Path(tempfile.mkdtemp(prefix="steelyard-", dir=bed.dir))
        self.socket = self.dir / "control.sock"
        self.file = self.dir / "steelyard.toml"
        keys = {"name": f'"{host}"', "workers": str(workers), "state-dir": f'"{self.dir / "state"}"'}
        lines = [f"{key} = {value}" for key, value in (keys | dict(node or {})).items()]
        self._own = "\n".join(["[node]", *lines, "", "[control]", f'socket = "{self.socket}"', ""])
        self.write(text)
        self.env = {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))} | (
            env or {}
        )
        self.proc: Proc = bed.spawn(
            host, [*self.base, "run", "-c", self.file], name="steelyard", env=self.env, cpus=cpus, nofile=nofile
        )
        self.proc.ending = signal.SIGINT  # SIGTERM lets it wait for a successor
        self.until(ready, "the daemon to be ready", patience)

    def write(self, text: str) -> None:
        """Write the file anew: `text`, and its own [node] and [control]."""
        self.file.write_text(f"{text}\n{self._own}")

    def cli(self, *arguments: str, timeout: float = 20.0) -> subprocess.CompletedProcess[str]:
        """Run another command of steelyard against this daemon, on its host."""
        command = [*self.bed.enter(self.host), *self.base, "--socket", str(self.socket), *arguments]
        return subprocess.run(
            command, env=os.environ | self.env, capture_output=True, text=True, timeout=timeout, check=False
        )

    def status(self) -> Status:
        """Return the status over the control socket: starting a command each time would load the bed.

        Raises OSError while the daemon does not answer, ValueError or LookupError if the answer is not a status.
        """
        status: Status = self._ask("status")["status"]
        return status

    def _ask(self, command: str) -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(5)
            control.connect(str(self.socket))
            control.sendall(json.dumps({"command": command}).encode() + b"\n")
            with control.makefile("rb") as lines:
                answer: dict[str, Any] = json.loads(lines.readline())
                return answer

    def until(self, condition: Callable[[Status], bool], what: str, timeout: float = 20.0) -> Status:
        """Return the first status that `condition` accepts. Raises BedError with the daemon's output."""

        def look() -> Status:
            if not self.proc.alive:
                message = f"the daemon ended\n{self.proc.report()}"
                raise EndedError(message)
            status = self.status()
            if not condition(status):
                message = f"status is {json.dumps(status)}"
                raise BedError(message)
            return status

        try:
            return until(look, timeout, what, every=0.1)
        except BedError as error:
            message = f"{error}\n{self.proc.report()}"
            raise BedError(message) from error

    def until_backend(self, service: str, backend: str, state: str, timeout: float = 20.0) -> Status:
        """Return the first status in which a backend is in `state`."""
        what = f"{service}/{backend} to be {state}"
        return self.until(lambda status: bool(backend_of(status, service, backend)["state"] == state), what, timeout)

    def events(self) -> list[dict[str, Any]]:
        """Return the timeline, oldest first, over the control socket. Raises OSError, ValueError and LookupError."""
        events: list[dict[str, Any]] = self._ask("events")["events"]
        return events

    def workers(self) -> list[int]:
        """Return the process ids of the living workers, in the order of their indices."""
        return [worker["pid"] for worker in self.status()["workers"] if worker["alive"]]

    def pids(self) -> list[int]:
        """Return the ids of the master and all its children."""
        return descendants(self.proc.pid)

    def cpu_seconds(self) -> float:
        """Return the processor time of all its processes so far."""
        return cpu_seconds(self.pids())

    def stop(self, timeout: float = 40.0) -> int:
        """Send SIGINT to the master, and return its exit code when all has drained."""
        self.proc.signal(self.proc.ending, whole=False)
        return self.proc.wait(timeout)
