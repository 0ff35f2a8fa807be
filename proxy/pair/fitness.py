"""How able this host is, by what its virtual routers track: penalties, faults, and what is not known yet [pure].

Laws:
- A service can serve while one of its backends may get traffic; one whose backends have no verdict yet costs nothing.
- What is tracked with a penalty lowers the priority while it fails, without one it is a fault; interfaces are the vrrp
  process's own business.
- `service = "*"` fails while any service does, and costs its penalty once, however many do.
"""

from collections.abc import Mapping, Sequence

from proxy.config.model import Track, Vrrp
from proxy.processes.messages.vrrp import Fitness

Known = Mapping[str, bool | None]
"""Name -> whether it is well; None: nobody knows yet."""

_NAMED = 3  # failing services that a cause names


def fitness(routers: Sequence[Vrrp], services: Known, probes: Known, lost: str) -> Fitness:
    """Return what the vrrp process is told; `lost` says in words why nobody serves here at all, "" if somebody does."""
    parts: dict[str, dict[str, int]] = {}
    faults: dict[str, list[str]] = {}
    for router in routers:
        failing = [(track, cause) for track in router.track if (cause := _cause(track, services, probes))]
        parts[router.name] = {cause: -track.penalty for track, cause in failing if track.penalty is not None}
        faults[router.name] = [cause for track, cause in failing if track.penalty is None]
    known = [router.name for router in routers if not any(_waits(one, services, probes) for one in router.track)]
    return Fitness(parts, faults, known, lost)


def _cause(track: Track, services: Known, probes: Known) -> str:
    """Return in words what of a tracked thing fails, "" if nothing does."""
    if track.probe is not None:
        return f"probe {track.probe}" if probes.get(track.probe) is False else ""
    failing = [name for name in _services(track, services) if services.get(name) is False]
    if not failing:
        return ""
    more = f" and {len(failing) - _NAMED} more" if len(failing) > _NAMED else ""
    return f"service {', '.join(failing[:_NAMED])}{more}"


def _waits(track: Track, services: Known, probes: Known) -> bool:
    """Whether there is no first verdict yet (V24)."""
    if track.probe is not None:
        return probes.get(track.probe) is None
    return any(services.get(name) is None for name in _services(track, services))


def _services(track: Track, services: Known) -> Sequence[str]:
    if track.service is None:
        return ()
    return list(services) if track.service == "*" else [track.service]
