"""What is wrong with the daemon itself, in words, for every reader of a snapshot [pure]."""

from typing import Final, Literal, NamedTuple

from proxy.status.schema import Status, WorkerStatus
from proxy.words import counted, printable

STALLED: Final = 1.0
"""Seconds without a heartbeat after which a worker counts as stalled."""
LOOKED: Final = 10.0
"""Seconds after which a daemon has looked at its file."""


class Trouble(NamedTuple):
    """A text, and how bad it is."""

    text: str
    level: Literal["warning", "error"]


def serving_workers(status: Status) -> list[WorkerStatus]:
    """Return this daemon's own workers: those of a former one only finish what is open."""
    return [worker for worker in status["workers"] if not worker["draining"]] or status["workers"]


def troubles(status: Status) -> list[Trouble]:
    """Return what an operator should know before all services, in the order in which it is shown."""
    config = status["config"]
    found: list[Trouble] = []
    if status.get("state") == "stopping":
        closed = any(service["state"] == "stopping" for service in status["services"])
        served = "new clients are refused" if closed else "new clients are served until another takes over"
        found.append(Trouble(f"stopping: {served}", "error" if closed else "warning"))
    if not config["valid"]:
        why = printable((config["error"] or "").partition("\n")[0])
        found.append(Trouble(f"the last reload was refused, an older file is in force: {why}", "error"))
    if config["on_disk_sha256"] not in {None, config["sha256"]}:
        text = "the file on the disk is another than the one in force (steelyard reload --dry-run)"
        found.append(Trouble(text, "warning"))
    elif config["on_disk_sha256"] is None and status["uptime_s"] > LOOKED:
        found.append(Trouble("the file on the disk cannot be read", "warning"))
    pair = status.get("pair")
    if pair is not None and pair["state"] != "connected":
        found.append(Trouble(f"link to {pair['peer']}: {pair['state']}: {printable(str(pair['why']))}", "warning"))
    if config["overrides"]:
        found.append(Trouble(f"{counted(config['overrides'], 'override')} (steelyard overrides)", "warning"))
    return found + [trouble for worker in status["workers"] if (trouble := _of_worker(worker))]


def _of_worker(worker: WorkerStatus) -> Trouble | None:
    age = worker["heartbeat_age_s"]
    name = f"worker {worker['index']} (pid {worker['pid'] or '-'}, {worker['restarts']} restarts)"
    if not worker["alive"]:
        return Trouble(f"{name} is dead", "error")
    if age is not None and age > STALLED:
        return Trouble(f"{name} has sent no heartbeat for {age:.1f} s", "error")
    return Trouble(f"{name} is draining", "warning") if worker["draining"] else None
