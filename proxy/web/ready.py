"""Whether this host can serve, from a snapshot: what a router or an orchestrator in front of it asks [pure]."""

from collections.abc import Mapping
from typing import Any


def why_not_ready(status: Mapping[str, Any]) -> str:
    """Return why this host can serve nobody new, "" if it can: one working service is enough."""
    if status.get("state") == "stopping":
        return "the daemon is stopping"
    services = status.get("services", ())
    workers = [worker for worker in status.get("workers", ()) if not worker["draining"]]
    if services and not any(worker["alive"] for worker in workers):
        return "no worker is alive"
    if services and all(service["state"] in {"down", "stopping"} for service in services):
        return "no service has a usable backend"
    return ""
