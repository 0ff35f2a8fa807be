"""The states of services and backends as programs are told of them: those that the status shows [pure]."""

from collections.abc import Iterable, Iterator, Mapping

from proxy.backends.candidates import Candidates
from proxy.backends.effective import Running, written
from proxy.notify.changes import Known
from proxy.processes.messages.vrrp import Fit
from proxy.words import counted


def states_of(
    names: Iterable[str], running: Running, candidates: Candidates, able: Mapping[str, Fit]
) -> Iterator[Known]:
    """Yield the states of these services and their backends, without those that are unknown.

    `able` says of a service whether a backend can serve.
    """
    for name in names:
        found = candidates.of(name)
        fit = sum(one.wanted and one.verdict in {"up", "reserve"} for one in found)
        if isinstance(able.get(name), bool):
            state = "serving" if able[name] else "refusing"
            yield Known("service", name, state, fit, f"{fit} of {counted(len(found), 'backend')} can serve")
        for one in found:
            key = (name, one.name)
            verdict, loop, ejected = candidates.verdicts.get(key), candidates.looping.get(key), candidates.ejected(key)
            if loop is not None:
                yield Known("backend", written(key), "down", running.backends[key].weight, loop)
            elif verdict is not None and not verdict.unjudged and one.verdict != "unknown":
                reason = verdict.reason if ejected is None or verdict.state == "down" else ejected
                yield Known("backend", written(key), one.verdict, one.weight, reason)
