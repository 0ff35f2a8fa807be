"""How able this host is, by what its virtual routers track: penalties, faults, and what is not known yet [pure].

Laws:
- A service can serve while one of its backends may get traffic; one whose backends have no verdict yet costs nothing.
- What is tracked with a penalty lowers the priority while it fails, without one it is a fault; interfaces are the vrrp
  process's own business.
- What this host cannot judge through its own fault, as a service whose login is refused, costs the same penalty; without
  one it costs the whole priority but no fault.  So this host leaves the address to one that can judge, and takes it
  where there is none.
- `service = "*"` fails while any service does, and costs its penalty once, however many do.
"""

from collections.abc import Mapping, Sequence

from proxy.config.model import Track, Vrrp
from proxy.processes.messages.vrrp import Fit, Fitness

Known = Mapping[str, Fit]
"""By name."""

_NAMED = 3  # services that a cause names
_WHOLE = 254  # of a priority: what is left is 1


def fitness(routers: Sequence[Vrrp], services: Known, probes: Known, lost: str) -> Fitness:
    """Return what the vrrp process is told; `lost` says in words why nobody serves here at all, "" if somebody does."""
    parts: dict[str, dict[str, int]] = {}
    faults: dict[str, list[str]] = {}
    for router in routers:
        failing = [(track, cause) for track in router.track if (cause := _cause(track, services, probes, fit=False))]
        unjudged = [
            (track, f"{cause} cannot be judged")
            for track in router.track
            if track not in [one for one, _ in failing] and (cause := _cause(track, services, probes, fit="unjudged"))
        ]
        parts[router.name] = {cause: -track.penalty for track, cause in failing if track.penalty is not None}
        parts[router.name] |= {
            cause: -(_WHOLE if track.penalty is None else track.penalty) for track, cause in unjudged
        }
        faults[router.name] = [cause for track, cause in failing if track.penalty is None]
    known = [router.name for router in routers if not any(_waits(one, services, probes) for one in router.track)]
    return Fitness(parts, faults, known, lost)


def _cause(track: Track, services: Known, probes: Known, *, fit: Fit) -> str:
    """Return in words what of a tracked thing is `fit`, which is False or "unjudged"; "" if nothing is."""
    if track.probe is not None:
        return f"probe {track.probe}" if probes.get(track.probe) == fit else ""
    found = [name for name in _services(track, services) if services.get(name) == fit]
    if not found:
        return ""
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return f"service {', '.join(found[:_NAMED])}{more}"


def _waits(track: Track, services: Known, probes: Known) -> bool:
    """Whether there is no first verdict yet (V24)."""
    if track.probe is not None:
        return probes.get(track.probe) is None
    return any(services.get(name) is None for name in _services(track, services))


def _services(track: Track, services: Known) -> Sequence[str]:
    if track.service is None:
        return ()
    return list(services) if track.service == "*" else [track.service]
