"""Takes the verdicts from health and passes them to the workers, the routers and the status.

Verdicts that come together are passed on together: a service of a thousand backends is one message, not a thousand.
"""

import asyncio
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from health.units import format_duration
from proxy.backends import targets
from proxy.backends.admin import Admins
from proxy.backends.candidates import Candidates
from proxy.backends.choice import Candidate, Choice, Rules, choose, ordered
from proxy.backends.effective import STEPS, Running, written
from proxy.backends.ejector import Ejecting
from proxy.backends.known import states_of
from proxy.backends.memory import Memory, RampRow, choice_of, choice_row, known_row, sent_row, verdict_of
from proxy.backends.shown import shown
from proxy.backends.slow_start import SlowStart
from proxy.balance.names import FAILOVER
from proxy.config.model import BackendKey, Service
from proxy.notify.changes import Known
from proxy.processes.messages import common as messages
from proxy.processes.messages import health as health_messages
from proxy.processes.messages import worker as worker_messages
from proxy.processes.messages.vrrp import Fit
from proxy.records.timeline import Level, Tell
from proxy.status.rows import NO_VERDICT, Verdict

_NAMED = 3  # backends without a verdict that an event names


class Readiness:
    """All verdicts of a daemon.

    `to_workers(message)` sends changes to the workers; `on_change(services)` is called afterwards.
    """

    def __init__(
        self,
        running: Running,
        tell: Tell,
        to_workers: Callable[[messages.Message], None],
        on_change: Callable[[Collection[str]], None],
        admins: Admins,
    ) -> None:
        self._running = running
        self._tell = tell
        self._to_workers = to_workers
        self._on_change = on_change
        self._admins = admins
        self._loop = asyncio.get_running_loop()
        self._candidates = Candidates(running, admins.state)
        self._verdicts = self._candidates.verdicts
        self._slow = SlowStart(running, self._grown)
        self._rested = set(self._resting)  # backends not up since they were added or in maintenance
        self._ejecting = Ejecting(running, tell, self._candidates.usable, self._ejected)
        self._candidates.ejected = self._ejecting.reason
        self._made = targets.Made()
        self._tracked: dict[str, Verdict] = {}  # of the probes that routers track
        self._choices: dict[str, Choice] = {}
        self._sent: dict[BackendKey, tuple[str, str]] = {}  # verdict and admin state, as the workers know them
        self._own: dict[BackendKey, str] = {}  # their own verdicts at the last choice
        self._changed: set[str] = set()  # services with changes that are not passed on yet
        self.able: dict[str, Fit] = {name: self._candidates.is_able(name) for name in running.services}
        """By service: whether it has a backend that can serve; "unjudged" if a fault of this host hides that."""
        self.on_states: Callable[[Sequence[Known]], None] = lambda _: None
        """Called with the states of services that may have changed, and of their backends."""

    # -- from health

    def targets(self) -> list[dict[str, Any]]:
        """Return the targets for health, with the verdicts known so far."""
        return targets.targets(self._running, self._verdicts, self._tracked, self._resting, self._made)

    @property
    def _resting(self) -> set[BackendKey]:
        """The backends in maintenance."""
        return {key for key in self._running.backends if self._admins.state(key) == "maint"}

    def probed(self, change: health_messages.Probed) -> None:
        """Take a verdict from health; a verdict that is known already changes nothing."""
        if change.key.startswith(targets.TRACKED):
            self._probed_alone(change)
            return
        service, _, backend = change.key.partition("/")
        key = (service, backend)
        if key not in self._running.backends:
            return  # it was removed meanwhile
        if self._admins.state(key) == "maint":
            return  # it was under way
        before = self._verdicts.get(key)
        weight = None if change.weight < 0 else change.weight
        if weight != (before.weight if before is not None else None):
            self._weighed(key, before, weight, change)
        if before is not None and (before.state, before.unjudged) == (change.state, change.unjudged):
            return
        state: Any = change.state
        self._verdicts[key] = Verdict(state, change.reason, change.at, weight=weight, unjudged=change.unjudged)
        self._tell(
            "verdict", written(key), f"{change.state}: {change.reason}",
            level="warning" if change.state == "down" or change.unjudged else "info", at=change.at,
            state=change.state, previous=before.state if before else "unknown",
        )  # fmt: skip
        self._note(key[0])
        if state == "down":
            self._slow.left(key)
        elif state == "unknown" and not change.unjudged:
            return
        elif (before is not None and before.state == "down") or key in self._rested:
            self._rested.discard(key)
            self._returned(key)

    def _returned(self, key: BackendKey) -> None:
        """Begin the slow start of a backend that is back: the workers get its weight before its verdict."""
        time = self._slow.returned(key)
        if time:
            self._tell("weight", written(key), f"slow start: its share grows for {format_duration(time)}")
            self._grown(key)

    def failing(self, message: worker_messages.Failing) -> None:
        """Take a worker's report that real traffic fails on a backend."""
        key = self._running.key_at(message.service, message.backend)
        if key is not None:
            self._ejecting.failing(key, message.failures, message.at)

    def _ejected(self, key: BackendKey, out: bool) -> None:
        """Pass on that a backend is ejected, or no longer."""
        known = self._verdicts.get(key)
        if not out and known is not None and known.state != "down":
            self._returned(key)
        self._note(key[0])

    def stranded_by(self, going: Collection[BackendKey]) -> list[str]:
        """Return the services that are served now and would have no backend without these."""
        return [
            name
            for name in sorted({key[0] for key in going})
            if self._would_strand(name, self._candidates.without(going, name))
        ]

    def stranded_by_file(self) -> list[str]:
        """Return the services that are served now and would have no backend with the file's own settings."""
        return [
            service.name
            for service in self._running.file.services
            if self._would_strand(service.name, self._candidates.as_filed(service))
        ]

    def _would_strand(self, name: str, candidates: Sequence[Candidate]) -> bool:
        rules, before = _rules(self._running.services[name]), self._choices.get(name)
        serving = choose(rules, self._candidates.of(name), before).serving
        return bool(serving) and not choose(rules, candidates, before).serving

    def _grown(self, key: BackendKey) -> None:
        self._to_workers(worker_messages.Weights([self._weight(key)]))

    def _probed_alone(self, change: health_messages.Probed) -> None:
        """Take the verdict of a probe that routers track."""
        name = change.key.removeprefix(targets.TRACKED)
        state: Any = change.state
        if name in self._running.config.probes:
            self._tracked[name] = Verdict(state, change.reason, change.at, unjudged=change.unjudged)
            level: Level = "warning" if state == "down" or change.unjudged else "info"
            self._tell("probe", name, f"{state}: {change.reason}", level=level, at=change.at, state=state)
            self._on_change(())

    def _weighed(
        self, key: BackendKey, before: Verdict | None, weight: int | None, change: health_messages.Probed
    ) -> None:
        """Pass on the weight that a backend's probe asks for."""
        self._verdicts[key] = replace(
            before or Verdict("unknown", NO_VERDICT, None), weight=weight, reason=change.reason
        )
        if key in self._running.weighed:
            return  # the operator's weight overrides the probe's
        shown = self._candidates.weight(key)
        self._tell("weight", written(key), f"weight {shown}: {change.reason}", at=change.at, weight=shown)
        self._grown(key)
        self._note(key[0])

    def administered(self, keys: Collection[BackendKey]) -> None:
        """Take a change of these backends' admin states; maintenance discards the verdict."""
        for key in keys:
            self._ejecting.forget(key)
            if self._admins.state(key) == "maint":
                known = self._verdicts.pop(key, None)
                self._slow.left(key)
                self._rested.add(key)
                if known is not None and known.weight is not None:
                    self._grown(key)  # what it asked for is forgotten, too
            self._note(key[0])

    def relisted(self, service: str, new: Collection[BackendKey]) -> None:
        """Take a service's new list of backends; `new` ones have no verdict yet, removed ones lose theirs."""
        self.reconfigured([service], new)

    def reconfigured(self, changed: Collection[str], new: Collection[BackendKey]) -> None:
        """Take another configuration: these services are new, changed or gone.

        `new` backends have no verdict yet, removed ones lose theirs; all others keep what is known of them.
        """
        listed, services = self._running.backends, self._running.services
        for key in [key for key in self._sent.keys() | self._verdicts.keys() | self._rested if key not in listed]:
            self._ejecting.forget(key)
            self._slow.left(key)
            self._rested.discard(key)
            for known in (self._verdicts, self._sent, self._own):
                known.pop(key, None)
        for name in self.able.keys() - services.keys():
            del self.able[name]
            self._choices.pop(name, None)
        for name in self._tracked.keys() - self._running.config.probes.keys():
            del self._tracked[name]
        self._ejecting.changed(changed)
        # When a service starts, none of its backends begins slowly.
        self._rested |= {key for key in new if self.able.get(key[0]) is not None}
        self.able.update({name: self._candidates.is_able(name) for name in services.keys() - self.able.keys()})
        for name in services.keys() & set(changed):
            self._note(name)

    def looping(self, reasons: Mapping[BackendKey, str]) -> None:
        """Take the backends that lead back to this host: they get no clients and lose the ones that they have."""
        changed = reasons.keys() ^ self._candidates.looping.keys()
        self._candidates.looping = reasons
        for key in changed & self._running.backends.keys():
            self._note(key[0])

    def reweighed(self, key: BackendKey) -> None:
        """Take a change of a backend's weight by an operator."""
        self._ejecting.changed([key[0]])
        self._grown(key)
        self._note(key[0])

    def _note(self, service: str) -> None:
        if not self._changed:
            self._loop.call_soon(self._pass_on)
        self._changed.add(service)

    def wait_no_longer(self) -> None:
        """End the wait for first verdicts: from now on unjudged backends serve, and `fail-open` applies."""
        if not self._candidates.late:
            self._candidates.late = True
            self._changed |= self._running.services.keys()
            self._pass_on()

    def _pass_on(self) -> None:
        changed, self._changed = self._changed & self._running.services.keys(), set()
        news: list[BackendKey] = []
        for name in changed:
            self._ejecting.verdicts_changed(name)
            news += self._choose(name)
            able = self._candidates.is_able(name)
            if able is None and self.able[name] is not None:
                able = (
                    False  # a verdict was known once: that a backend is to be probed again makes the service no abler
                )
            self.able[name] = able
        if news:
            self._to_workers(worker_messages.Verdicts([self._row(key) for key in news]))
        self._on_change(changed)
        self.on_states(self.states(changed))

    def states(self, names: Collection[str] | None = None) -> list[Known]:
        """Return the known states of these services, by default of all, and of their backends."""
        return list(
            states_of(self._running.services if names is None else names, self._running, self._candidates, self.able)
        )

    # -- the choice

    def _choose(self, name: str) -> list[BackendKey]:
        """Choose the backends that serve; return those whose verdict for the workers has changed."""
        candidates = self._candidates.of(name)
        before = self._choices.get(name)
        rules = _rules(self._running.services[name])
        choice = self._choices[name] = choose(rules, candidates, before, late=self._candidates.late)
        self._tell_choice(name, before, choice)
        news = []
        for one in candidates:
            key = (name, one.name)
            verdict = ordered(one, choice)
            known = self._verdicts.get(key)
            if verdict == "down" and known is not None and known.state != "down":
                verdict = "ejected"  # which keeps its connections
            if self._admins.leaves(key) and verdict in {"up", "reserve"}:
                verdict = "ejected"  # it is to be removed: its connections may finish, its UDP sessions move
            if verdict == "reserve" and self._stood_in(key):
                verdict = "relieved"  # better backends serve again; this one is not worse than before
            self._own[key] = one.verdict
            told = ("down", "maint") if key in self._candidates.looping else (verdict, self._admins.acted(key))
            if self._sent.get(key, ("unknown", self._running.backends[key].admin)) != told:
                self._sent[key] = told
                news.append(key)
        return news

    def _stood_in(self, key: BackendKey) -> bool:
        """Returns True if a backend in reserve has served, or still has clients from then."""
        sent = self._sent.get(key, ("unknown", ""))[0]
        return sent == "relieved" or (sent == "up" and self._own.get(key) == "reserve")

    def _tell_choice(self, name: str, before: Choice | None, choice: Choice) -> None:
        """Record that another tier or another failover backend serves, once all first verdicts are there."""
        if not choice.settled:
            return
        service = self._running.services[name]
        last = before if before is not None and before.settled else None
        if last is not None and last.level == choice.level:
            if service.scheduler == FAILOVER and choice.serving != last.serving:
                self._tell("service", name, f"{choice.serving[0]} serves, no longer {last.serving[0]}")
            return
        best = min((one.tier for one in service.backends), default=0)
        worse = choice.rank > (best if last is None else last.rank)
        if last is not None or worse:
            self._tell("service", name, choice.why, level="warning" if worse else "info")

    # -- for a successor of this daemon

    def remembered(self) -> Generator[None, None, Memory]:
        """Return what a successor must know, so that no verdict, choice, ejection or slow start begins anew; in slices."""
        verdicts, sent = [], []
        for key, known in [*self._verdicts.items(), *((("", name), one) for name, one in self._tracked.items())]:
            yield
            verdicts.append(known_row(key, known))
        for key, (verdict, admin) in list(self._sent.items()):
            yield
            sent.append(sent_row(key, verdict, admin, self._own.get(key, "")))
        return Memory(
            verdicts=tuple(verdicts),
            choices=tuple(choice_row(name, choice) for name, choice in self._choices.items()),
            sent=tuple(sent),
            rested=tuple(self._rested),
            ramps=tuple(RampRow(service=key[0], backend=key[1], since=at) for key, at in self._slow.since.items()),
            ejections=self._ejecting.remembered(),
            late=self._candidates.late,
        )

    def restore(self, memory: Memory) -> None:
        """Take what a predecessor knew, in the place of all that is known here; the workers learn all of it."""
        listed, services = self._running.backends, self._running.services
        self._candidates.late = memory.late
        for one in memory.verdicts:
            if (one.service, one.backend) in listed:
                self._verdicts[one.service, one.backend] = verdict_of(one)
            elif not one.service and one.backend in self._running.config.probes:
                self._tracked[one.backend] = verdict_of(one)
        self._choices |= {one.service: choice_of(one) for one in memory.choices if one.service in services}
        for sent in memory.sent:
            if (key := (sent.service, sent.backend)) in listed:
                self._sent[key], self._own[key] = (sent.verdict, sent.admin), sent.own
        known = {(one.service, one.backend) for one in memory.sent}
        self._rested = (self._rested - known) | {key for key in memory.rested if key in listed}
        for ramp in memory.ramps:
            if (key := (ramp.service, ramp.backend)) in listed:
                self._slow.resume(key, ramp.since)
        self._ejecting.restore(memory.ejections)
        self._to_workers(self.verdicts())
        self._to_workers(self.weights())
        self._changed |= services.keys()
        self._pass_on()

    # -- for the workers

    def verdicts(self) -> worker_messages.Verdicts:
        """Return all verdicts that the workers act on."""
        return worker_messages.Verdicts([self._row(key) for key in self._sent])

    def weights(self) -> worker_messages.Weights:
        """Return the weights in effect of all backends: those of a worker's `Setup` may be older."""
        return worker_messages.Weights([self._weight(key) for key in self._running.backends])

    def weights_of(self, service: str) -> dict[str, int]:
        """Return the weights in effect of a service's backends, as its workers count them."""
        names = [one.name for one in self._running.services[service].backends]
        return {name: self._weight((service, name))[2] for name in names}

    def _row(self, key: BackendKey) -> list[Any]:
        return [self._running.slots[0][key[0]], self._running.slots[1][key], *self._sent[key]]

    def _weight(self, key: BackendKey) -> list[int]:
        slots = self._running.slots
        return [slots[0][key[0]], slots[1][key], self._candidates.weight(key) * self._slow.factor(key)]

    # -- for the master and the status

    def is_known(self, name: str) -> bool:
        """Returns True if it is certain which backends serve: no better one is without a verdict."""
        choice = self._choices.get(name)
        return choice is not None and not choice.waits

    def why_late(self, name: str, waited: float) -> str:
        """Say which backends of a service have no verdict after `waited` seconds, why, and which ones serve."""
        why = self._choices[name].why
        wanted = [(name, one.name) for one in self._candidates.of(name) if one.wanted]
        unknown = [key for key in wanted if (known := self._verdicts.get(key)) is None or known.state == "unknown"]
        if not unknown:
            return why
        more = f" and {len(unknown) - _NAMED} more" if len(unknown) > _NAMED else ""
        names = f"{', '.join(backend for _, backend in unknown[:_NAMED])}{more}"
        unjudged = [key for key in unknown if self._candidates.is_unjudged(key)]
        if unjudged:
            taken = "all" if len(unjudged) == len(unknown) else str(len(unjudged))
            names = f"{names} ({self._verdicts[unjudged[0]].reason}): {taken} taken as up"
        return f"no verdict after {waited:g} s on {names}: {why}"

    @property
    def tracked(self) -> dict[str, Fit]:
        """By name: whether a tracked probe passes, for those with a verdict and those that cannot be judged."""
        return {
            name: "unjudged" if known.unjudged else known.state == "up"
            for name, known in self._tracked.items()
            if known.state != "unknown" or known.unjudged
        }

    def shown(self, probes: Mapping[str, Sequence[Any]]) -> Generator[None, None, dict[BackendKey, Verdict]]:
        """Return the verdicts with the last results in `probes` (`Prober.report`); work in slices."""
        found: dict[BackendKey, Verdict] = {}
        for key, backend in self._running.backends.items():  # bound now: the configuration may change between slices
            yield
            known = self._verdicts.get(key)
            if known is not None:
                known = replace(known, weight=self._shown_weight(key, known))
            choice = self._choices.get(key[0])
            serving = choice is not None and key[1] in choice.serving
            rows = probes.get(written(key), [])
            one = shown(known, backend.probes, rows, self._ejecting.reason(key), serving=serving)
            if one is not None:
                found[key] = one
            if key in self._candidates.looping:
                known = found.get(key, Verdict("unknown", NO_VERDICT, None))
                found[key] = replace(known, state="down", reason=self._candidates.looping[key], serving=False)
        return found

    def _shown_weight(self, key: BackendKey, known: Verdict) -> float | None:
        """Return the weight that a backend's probe asks for, or its part of the weight during a slow start."""
        tenths = self._slow.tenths(key)
        if tenths == STEPS:
            return None if key in self._running.weighed else known.weight
        return self._candidates.weight(key) * tenths / STEPS


def _rules(service: Service) -> Rules:
    return Rules(
        service.quorum, service.quorum_hysteresis, service.fail_open, service.failback, service.scheduler == FAILOVER
    )
