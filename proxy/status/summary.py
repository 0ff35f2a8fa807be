"""The daemon's state in one line, which the service manager shows beside the process [pure]."""

from collections.abc import Mapping
from typing import Final

from proxy.words import counted

_NAMED: Final = 3  # services that the line names


def summary(
    listeners: int,
    services: Mapping[str, object],
    routers: Mapping[str, str],
    *,
    serving: bool,
    stopping: bool,
    refused: str | None = None,
) -> str:
    """Return "serving 5 services on 9 listeners; vip active".

    `services` has False for a service without a usable backend, `routers` each router's state; `serving` says that a
    worker is alive, `refused` why the last reload was refused.
    """
    parts = [_doing(listeners, services, serving=serving, stopping=stopping)]
    if routers:
        parts.append(", ".join(f"{name} {state}" for name, state in routers.items()))
    if refused and not stopping:
        parts.append(f"the last reload was refused: {refused.splitlines()[0]}")
    return "; ".join(parts)


def _doing(listeners: int, services: Mapping[str, object], *, serving: bool, stopping: bool) -> str:
    if stopping:
        return "stopping"
    if not services:
        return "no services"
    if not serving:
        return "no worker is alive"
    failing = [name for name, able in services.items() if able is False]
    where = counted(listeners, "listener")
    if not failing:
        return f"serving {counted(len(services), 'service')} on {where}"
    names = ", ".join(failing[:_NAMED]) + (f" and {len(failing) - _NAMED} more" if len(failing) > _NAMED else "")
    works = len(services) - len(failing)
    return f"serving {works} of {counted(len(services), 'service')} on {where}, no usable backend for {names}"
