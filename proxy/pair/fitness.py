"""Computes this host's fitness from what its virtual routers track: penalties, faults, missing verdicts [pure].

Laws:
- A service can serve while one of its backends may get traffic; a service without verdicts yet costs nothing.
- A tracked service or probe that fails lowers the priority by its penalty; without a penalty its failure is a fault.
  The vrrp process itself tracks interfaces.
- A service or probe that this host cannot judge through its own fault, such as a refused login, costs the same penalty;
  without one it costs the whole priority, but is no fault.  So this host leaves the address to a host that can judge,
  and takes it if there is none.
- `service = "*"` fails while any service fails, and costs its penalty once.
"""

from collections.abc import Mapping, Sequence

from proxy.config.model import Track, Vrrp
from proxy.processes.messages.vrrp import Fit, Fitness

Known = Mapping[str, Fit]
"""By name."""

_NAMED = 3  # services that a cause names
_WHOLE = 254  # the largest penalty: it leaves a priority of 1


def fitness(routers: Sequence[Vrrp], services: Known, probes: Known, lost: str) -> Fitness:
    """Return the message for the vrrp process; `lost` is the reason why this host serves nothing at all, or ""."""
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
    """Name what of a track is `fit` (False or "unjudged"); "" if nothing is."""
    if track.probe is not None:
        return f"probe {track.probe}" if probes.get(track.probe) == fit else ""
    found = [name for name in _services(track, services) if services.get(name) == fit]
    if not found:
        return ""
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return f"service {', '.join(found[:_NAMED])}{more}"


def _waits(track: Track, services: Known, probes: Known) -> bool:
    """Returns True if there is no first verdict yet (V24)."""
    if track.probe is not None:
        return probes.get(track.probe) is None
    return any(services.get(name) is None for name in _services(track, services))


def _services(track: Track, services: Known) -> Sequence[str]:
    if track.service is None:
        return ()
    return list(services) if track.service == "*" else [track.service]
