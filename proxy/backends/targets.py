"""The targets that health probes, from the configuration in force.  Pure."""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from proxy.backends.effective import Running, written
from proxy.config.model import Backend, BackendKey, Service
from proxy.status.rows import Verdict

if TYPE_CHECKING:
    from health.state import Require

TRACKED = "probe "


class Made:
    """The targets that were made last, by backend: most of them do not change from one list to the next."""

    def __init__(self) -> None:
        self._made: dict[BackendKey, tuple[Service, Backend, dict[str, Any]]] = {}

    def target(self, key: BackendKey, service: Service, backend: Backend) -> dict[str, Any]:
        """Return `target(service, backend)`."""
        made = self._made.get(key)
        if made is None or made[0] is not service or made[1] is not backend:
            made = self._made[key] = service, backend, target(service, backend)
        return made[2]

    def forget(self, listed: Collection[BackendKey]) -> None:
        """Forget the targets of all backends but these."""
        for key in self._made.keys() - set(listed):
            del self._made[key]


def targets(
    running: Running,
    verdicts: Mapping[BackendKey, Verdict],
    tracked: Mapping[str, Verdict],
    resting: Collection[BackendKey] = (),
    made: Made | None = None,
) -> list[dict[str, Any]]:
    """Return the targets for health, with the verdicts known so far.

    Those in `resting` are in maintenance, and not watched.  A backend's key is "SERVICE/BACKEND", that of a probe which
    virtual routers track TRACKED and its name.  `made` has the targets of the last call.
    """
    watched = {key: backend for key, backend in running.backends.items() if key not in resting}
    made = made or Made()
    made.forget(running.backends)
    return [
        {
            **made.target(key, running.services[key[0]], backend),
            "state": known.state if (known := verdicts.get(key)) else "unknown",
            "weight": known.weight if known else None,
        }
        for key, backend in watched.items()
    ] + [
        {
            "key": f"{TRACKED}{name}",
            "service": "",
            "name": name,
            "address": probe.address or "",
            "port": probe.port or 0,
            "probes": [probe.model_dump(mode="json", by_alias=True)],
            "require": "all",
            "state": tracked[name].state if name in tracked else "unknown",
            "weight": None,
        }
        for name, probe in running.config.probes.items()
    ]


def target(service: Service, backend: Backend) -> dict[str, Any]:
    """Return one backend in the form that `health.monitor.Target` takes."""
    require: Require = service.probe_require
    return {
        "key": written((service.name, backend.name)),
        "service": service.name,
        "name": backend.name,
        "address": backend.address,
        "port": backend.port or service.listeners[0].port,
        "probes": [probe.model_dump(mode="json", by_alias=True) for probe in backend.probes],
        "require": require,
        "weight_from": service.weight_from,
    }
