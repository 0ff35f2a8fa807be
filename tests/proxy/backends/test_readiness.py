"""Tests of what becomes of verdicts; that they reach the workers together and first is in the master's tests."""

import asyncio
import json

import pytest

from proxy.backends.admin import Admins
from proxy.backends.effective import Running
from proxy.backends.memory import Memory
from proxy.backends.readiness import Readiness
from proxy.backends.saved import SAVED, SavedActs
from proxy.commands.admin import admin_handler
from proxy.config.loader import load
from proxy.control.server import Request
from proxy.control.wire import ControlError
from proxy.processes.messages import health as health_messages
from proxy.processes.messages import worker as worker_messages
from proxy.records.disk_thread import DiskThread
from proxy.records.document import Document
from proxy.stats.slots import Slots
from proxy.status.slices import finished

FILE = """
[node]
name = "n"
workers = 1
[vrrp.v]
interface = "eth0"
vrid = 1
addresses = ["192.0.2.10/24"]
track = [{ probe = "gateway", penalty = 10 }]
[probe.gateway]
type = "ping"
address = "192.0.2.1"
[service.a]
listen = ["v:53/udp"]
backends = ["192.0.2.11", "192.0.2.12"]
probe = { type = "none" }
"""

FIRST, SECOND = "a/192.0.2.11", "a/192.0.2.12"


class Bed:
    """A service of two backends, a probe that a router tracks, and what became of their verdicts."""

    def __init__(self, path, keys="", second='"192.0.2.12"'):
        file = FILE.replace("workers = 1", f'workers = 1\nstate-dir = "{path.parent}"')
        path.write_text(file.replace('"192.0.2.12"', second) + keys)
        self.running = Running(load(path), Slots(16), Slots(64))
        self.told, self.sent, self.changed = [], [], []
        self.times = []
        self.admins = Admins(
            self.running,
            SavedActs(Document(DiskThread("disk"), path.parent, SAVED), self.tell),
            self.tell,
            self.administered,
            lambda _: 0,
        )
        self.ready = Readiness(self.running, self.tell, self.sent.append, self.changed.append, self.admins)

    async def administer(self, command, backend="192.0.2.12", *, force=True):
        """Let an operator want something of a backend."""
        request = Request(command, {"service": "a", "backend": backend, "force": force}, 1, 0)
        async for _ in admin_handler(self.running, self.admins, self.ready)(request):
            pass
        await asyncio.sleep(0)

    def administered(self, keys):
        """Pass on what an operator wants."""
        self.ready.administered(keys)

    def tell(self, kind, subject, text, *, level="info", **fields):
        """Note an event."""
        self.told.append((kind, subject, text, level))
        self.times.append((kind, fields.get("at")))

    async def probed(self, *states):
        """Let health find a state for each key."""
        for key, state, *weight in states:
            self.ready.probed(health_messages.Probed(key, state, "because", 1.0, *weight))
        await asyncio.sleep(0)

    async def unjudged(self, *keys, unjudged=True):
        """Let health say that our own fault alone keeps these from a verdict, or not any more."""
        for key in keys:
            self.ready.probed(health_messages.Probed(key, "unknown", "login refused", 1.0, unjudged=unjudged))
        await asyncio.sleep(0)

    def serving(self):
        """Return which verdicts the workers were sent last, by the backends' slots."""
        return {row[1]: row[2] for row in self.ready.verdicts().changes}


@pytest.fixture
async def bed(tmp_path):
    return Bed(tmp_path / "steelyard.toml")


async def test_a_service_is_able_once_somebody_can_serve(bed):
    """V11, V24: a service can serve with one backend up or in reserve, cannot with all down, and before nobody knows."""
    assert bed.ready.able == {"a": None}
    await bed.probed((FIRST, "down"))
    assert bed.ready.able == {"a": None}
    await bed.probed((SECOND, "reserve"))
    assert bed.ready.able == {"a": True}
    await bed.probed((SECOND, "down"))
    assert bed.ready.able == {"a": False}
    await bed.probed((FIRST, "up", 0))
    assert bed.ready.able == {"a": False}  # its script gives it no weight


async def test_tracked_probes(bed):
    """V11, H13: the verdict of a probe that routers track is told with its reason, and no worker hears of it."""
    assert bed.ready.tracked == {}
    await bed.probed(("probe gateway", "down"))
    assert (bed.ready.tracked, bed.sent, bed.changed) == ({"gateway": False}, [], [()])
    assert bed.told == [("probe", "gateway", "down: because", "warning")]
    await bed.probed(("probe nobody", "down"), ("probe gateway", "up"))
    assert bed.ready.tracked == {"gateway": True}
    assert [row["state"] for row in bed.ready.targets()] == ["unknown", "unknown", "up"]


async def test_an_event_has_the_time_of_the_probe(bed):
    """An event about a verdict, a tracked probe or a weight that is asked for has the time at which health saw it."""
    await bed.probed((FIRST, "down", 7), ("probe gateway", "down"))
    assert sorted(bed.times) == [("probe", 1.0), ("verdict", 1.0), ("weight", 1.0)]


async def test_a_weight_is_passed_on_at_once(bed):
    """A weight that a script asks for reaches the workers, is shown, and is taken back with it."""
    await bed.probed((FIRST, "up", 7))
    assert worker_messages.Weights([[0, 0, 7]]) in bed.sent
    assert bed.ready.weights() == worker_messages.Weights([[0, 0, 7], [0, 1, 1]])
    assert finished(bed.ready.shown({}))["a", "192.0.2.11"].weight == 7
    await bed.probed((FIRST, "up"))
    assert bed.sent[-1] == worker_messages.Weights([[0, 0, 1]])
    assert bed.ready.weights() == worker_messages.Weights([[0, 0, 1], [0, 1, 1]])


async def test_an_operators_weight(bed):
    """T24: an operator's weight holds over the one that a script asks for, and a worker that is just starting gets it."""
    await bed.probed((FIRST, "up", 7))
    service = bed.running.services["a"]
    weighed = service.backends[0].model_copy(update={"weight": 0})
    bed.running.replace(service.model_copy(update={"backends": (weighed, service.backends[1])}))
    bed.running.weighed.add(("a", "192.0.2.11"))
    bed.ready.reweighed(("a", "192.0.2.11"))
    assert bed.ready.weights() == worker_messages.Weights([[0, 0, 0], [0, 1, 1]])
    await bed.probed((FIRST, "up", 9))
    assert worker_messages.Weights([[0, 0, 9]]) not in bed.sent
    assert bed.ready._candidates.usable("a") == []
    bed.running.weighed.clear()
    assert bed.ready.weights_of("a") == {"192.0.2.11": 9, "192.0.2.12": 1}


async def test_other_backends(bed):
    """H1, U15: of a backend that is new nothing is known, of one that is gone nothing is kept, one that leaves gives up its sessions."""
    await bed.probed((FIRST, "up"), (SECOND, "up"))
    bed.admins.retire([("a", "192.0.2.11")], "uid 0", force=False)
    await asyncio.sleep(0)
    assert bed.sent[-1] == worker_messages.Verdicts([[0, 0, "ejected", "drain"]])
    service = bed.running.services["a"]
    third = service.backends[1].model_copy(update={"name": "b3"})
    slots = bed.running.replace(service.model_copy(update={"backends": (service.backends[1], third)}))
    bed.ready.relisted("a", [bed.running.slots[1].key_at(slot) for slot in slots])
    await bed.probed((FIRST, "down"))  # it comes late
    assert bed.sent[-1] == worker_messages.Verdicts([[0, 0, "ejected", "drain"]])
    assert bed.ready.verdicts() == worker_messages.Verdicts([[0, 1, "up", "ready"]])
    assert [row["state"] for row in bed.ready.targets()] == ["up", "unknown", "unknown"]
    await bed.probed(("a/b3", "up"))
    assert bed.sent[-1] == worker_messages.Verdicts([[0, 2, "up", "ready"]])


async def test_a_replica_of_a_writers_service_stands_by(bed):
    """H8: who is down only for the part that it plays is told apart from who is dead; the status has no word for it."""
    await bed.probed((FIRST, "up"), (SECOND, "down"))
    replica = {"type": "mysql", "ok": False, "standby": True, "reason": "is no writer", "at": 5.0}
    dead = {"type": "tcp", "ok": False, "standby": False, "reason": "connection refused", "at": 5.0}
    for rows, standby in (([replica], True), ([replica, dead], False), ([dead], False), ([], False)):
        shown = finished(bed.ready.shown({FIRST: [], SECOND: rows}))["a", "192.0.2.12"]
        assert shown.standby == standby
        assert not any("standby" in one for one in shown.probes)
    assert not finished(bed.ready.shown({FIRST: [replica]}))["a", "192.0.2.11"].standby  # its verdict still holds


async def test_results_before_a_verdict_are_shown(bed):
    """A probe's result is shown before there is a verdict, and one that never ran is not."""
    results = [{"type": "none", "ok": True, "at": 5.0}, {"type": "none", "ok": None, "at": None}]
    shown = finished(bed.ready.shown({FIRST: results}))
    assert [(key, one.state, one.probes) for key, one in shown.items()] == [
        (("a", "192.0.2.11"), "unknown", results[:1])
    ]


BACKUP = '{ address = "192.0.2.12", backup = true }'


async def test_who_cannot_be_judged_serves_after_the_patience(bed):
    """H1, H8: where our login alone is refused, nobody serves while first verdicts may come, and all do afterwards."""
    await bed.unjudged(FIRST, SECOND)
    assert not bed.ready.is_known("a")
    assert bed.serving() == {}
    bed.ready.wait_no_longer()
    assert bed.ready.is_known("a")
    assert bed.serving() == {0: "up", 1: "up"}
    assert bed.ready.why_late("a", 3.0) == (
        "no verdict after 3 s on 192.0.2.11, 192.0.2.12 (login refused): all taken as up: tier 0 serves"
    )
    assert bed.ready._candidates.usable("a") == ["192.0.2.11", "192.0.2.12"]
    one = finished(bed.ready.shown({}))["a", "192.0.2.11"]
    assert (one.state, one.serving, one.reason) == ("unknown", True, "login refused (not judged: taken as up)")
    await bed.probed((FIRST, "down"), (SECOND, "up"))
    assert bed.serving() == {0: "down", 1: "up"}


async def test_who_may_be_dead_serves_nobody_after_the_patience(bed):
    """H1, H13: a backend whose probe has found nothing yet gets nothing after the patience either, and the event says so."""
    await bed.probed((FIRST, "down"))
    bed.ready.wait_no_longer()
    assert bed.serving() == {0: "down"}
    assert bed.ready.why_late("a", 3.0) == (
        "no verdict after 3 s on 192.0.2.12: no backend is fit (0 of 2 up in tier 0): no backend serves"
    )
    await bed.unjudged(SECOND)
    assert bed.serving() == {0: "down", 1: "up"}
    await bed.unjudged(SECOND, unjudged=False)
    assert bed.serving() == {0: "down", 1: "unknown"}


async def test_fail_open_counts_for_those_without_a_verdict(tmp_path):
    """H14: after the patience a service that fails open serves with those that have no verdict, too."""
    bed = Bed(tmp_path / "steelyard.toml", "fail-open = true\n")
    await bed.probed((FIRST, "down"))
    assert bed.serving() == {0: "down"}
    bed.ready.wait_no_longer()
    assert bed.serving() == {0: "up", 1: "up"}
    assert bed.ready.why_late("a", 3.0).endswith(
        "on 192.0.2.12: no backend is fit (0 of 2 up in tier 0): fail-open, all 2 serve"
    )


async def test_a_service_that_cannot_be_judged_is_not_able(bed):
    """V11, V24: a service that serves without a verdict is known, and told from one with a verdict, as is a tracked probe."""
    await bed.unjudged(FIRST)
    assert bed.ready.able == {"a": "unjudged"}
    await bed.probed((SECOND, "reserve"))
    assert bed.ready.able == {"a": True}
    await bed.probed((SECOND, "down"))
    assert bed.ready.able == {"a": "unjudged"}
    await bed.probed((FIRST, "down"))
    assert bed.ready.able == {"a": False}
    await bed.unjudged("probe gateway")
    assert bed.ready.tracked == {"gateway": "unjudged"}
    assert bed.told[-1] == ("probe", "gateway", "unknown: login refused", "warning")


async def test_the_reason_of_a_weight(bed):
    """H13: where only the weight changes, its reason is the one that is shown."""
    await bed.probed((FIRST, "up", 7))
    bed.ready.probed(health_messages.Probed(FIRST, "up", "exit status 5: weight 3", 2.0, 3))
    assert finished(bed.ready.shown({}))["a", "192.0.2.11"].reason == "exit status 5: weight 3"


async def test_a_backup_is_told_to_stand_by_and_to_serve(tmp_path):
    """H13, H14: workers hear that the backup stands by, and in one message that it serves, when the first goes down."""
    bed = Bed(tmp_path / "steelyard.toml", second=BACKUP)
    await bed.probed((SECOND, "up"))
    assert not bed.ready.is_known("a")  # the first one may still pass
    await bed.probed((FIRST, "up"))
    assert bed.ready.is_known("a")
    assert bed.ready.verdicts() == worker_messages.Verdicts([[0, 1, "standby", "ready"], [0, 0, "up", "ready"]])
    assert [key[1] for key, one in finished(bed.ready.shown({})).items() if one.serving] == ["192.0.2.11"]
    assert not [event for event in bed.told if event[0] == "service"]
    bed.sent.clear()
    await bed.probed((FIRST, "down"))
    assert bed.sent == [worker_messages.Verdicts([[0, 0, "down", "ready"], [0, 1, "up", "ready"]])]
    assert bed.told[-1] == ("service", "a", "tier 1 serves: 0 of 1 up in tier 0", "warning")
    await bed.probed((FIRST, "up"))
    assert bed.sent[-1] == worker_messages.Verdicts([[0, 0, "up", "ready"], [0, 1, "standby", "ready"]])
    assert bed.told[-1] == ("service", "a", "tier 0 serves", "info")


async def test_a_weight_may_change_who_serves(tmp_path):
    """H10, H14: a script that takes its backend's weight away lets the backup serve."""
    bed = Bed(tmp_path / "steelyard.toml", second=BACKUP)
    await bed.probed((FIRST, "up"), (SECOND, "up"))
    await bed.probed((FIRST, "up", 0))
    assert bed.sent[-2:] == [
        worker_messages.Weights([[0, 0, 0]]),
        worker_messages.Verdicts([[0, 1, "up", "ready"]]),
    ]


async def test_failover_without_failback_is_one_memory(tmp_path):
    """H14: who serves a failover service stays, is told when it changes, and a new worker hears the same."""
    bed = Bed(tmp_path / "steelyard.toml", 'scheduler = "failover"\nfailback = false\n')
    await bed.probed((FIRST, "up"), (SECOND, "up"))
    await bed.probed((FIRST, "down"))
    assert bed.told[-1] == ("service", "a", "192.0.2.12 serves, no longer 192.0.2.11", "info")
    await bed.probed((FIRST, "up"))
    assert bed.ready.verdicts().changes == [[0, 0, "standby", "ready"], [0, 1, "up", "ready"]]


async def test_fail_open_serves_and_is_not_able(tmp_path):
    """H14, V11: with everything down a service that fails open uses all, and the host counts as unable all the same."""
    bed = Bed(tmp_path / "steelyard.toml", "fail-open = true\n")
    await bed.probed((FIRST, "down"))
    assert bed.ready.verdicts().changes == [[0, 0, "down", "ready"]]
    await bed.probed((SECOND, "down"))
    assert bed.ready.verdicts().changes == [[0, 0, "up", "ready"], [0, 1, "up", "ready"]]
    assert bed.ready.able == {"a": False}
    assert bed.told[-1][2:] == ("no backend is fit (0 of 2 up in tier 0): fail-open, all 2 serve", "warning")


async def test_maintenance_of_the_file(tmp_path):
    """H14, V24: a backend in maintenance is not watched, and nothing waits for its verdict."""
    bed = Bed(tmp_path / "steelyard.toml", second='{ address = "192.0.2.12", admin = "maint" }')
    assert [row["key"] for row in bed.ready.targets()] == [FIRST, "probe gateway"]
    await bed.probed((FIRST, "down"))
    assert (bed.ready.is_known("a"), bed.ready.able) == (True, {"a": False})


async def test_maintenance_forgets_the_weight_that_was_asked_for(bed):
    """H10, T16: workers give a backend its configured weight again that a script had set to 0 before its maintenance."""
    await bed.probed((FIRST, "up"), (SECOND, "up", 0))
    await bed.administer("maint")
    assert worker_messages.Weights([[0, 1, 1]]) in bed.sent[-2:]
    await bed.probed((SECOND, "down"))  # it was under way
    await bed.administer("ready")
    await bed.probed((SECOND, "up"))
    assert bed.sent[-1] == worker_messages.Verdicts([[0, 1, "up", "ready"]])
    assert finished(bed.ready.shown({}))["a", "192.0.2.12"].weight is None


async def test_a_drained_backend_does_not_stand_by(bed):
    """T16: workers hear of a drain alone: what stands by would be reset where `on-failback` says so."""
    await bed.probed((FIRST, "up"), (SECOND, "up"))
    await bed.administer("drain")
    assert bed.sent[-1] == worker_messages.Verdicts([[0, 1, "up", "drain"]])
    assert [key[1] for key, one in finished(bed.ready.shown({})).items() if one.serving] == ["192.0.2.11"]


TIERS = ('{ address = "192.0.2.12", backup = true }', '{ address = "192.0.2.12", weight = 0 }', '"192.0.2.12"')


@pytest.mark.parametrize(
    ("second", "state", "stranded"),
    [
        (TIERS[2], "up", False),
        (TIERS[0], "up", False),  # a backup takes over
        (TIERS[0], "reserve", False),
        (TIERS[1], "up", True),  # it gets nothing new
        (TIERS[2], "down", True),
        (TIERS[2], None, True),  # nobody knows
    ],
)
async def test_the_last_that_serves(tmp_path, second, state, stranded):
    """T16: draining a backend strands its service if nobody would serve then: no backup, no reserve, nobody that is up."""
    bed = Bed(tmp_path / "steelyard.toml", second=second)
    await bed.probed((FIRST, "up"), *([(SECOND, state)] if state else []))
    first = [("a", "192.0.2.11")]
    assert bed.ready.stranded_by(first) == (["a"] if stranded else [])
    assert bed.ready.stranded_by([*first, ("a", "192.0.2.12")]) == ["a"]
    if stranded:
        with pytest.raises(ControlError, match="no other backend of a can serve now"):
            await bed.administer("drain", "192.0.2.11", force=False)
    await bed.administer("drain", "192.0.2.11")
    assert bed.ready.stranded_by(first) == []  # it serves no longer
    await bed.administer("maint", "192.0.2.11", force=stranded)


async def test_who_does_not_serve_is_not_the_last(bed):
    """T16: where nobody serves anyway a drain needs no --force; with fail-open who is down serves, and is the last."""
    await bed.probed((FIRST, "down"), (SECOND, "down"))
    assert bed.ready.stranded_by([("a", "192.0.2.11"), ("a", "192.0.2.12")]) == []


async def test_the_last_of_a_service_that_fails_open(tmp_path):
    """T16: with fail-open those that are down serve where nobody is up, so that the last of them is not drained unasked."""
    bed = Bed(tmp_path / "steelyard.toml", keys="fail-open = true\n")
    await bed.probed((FIRST, "down"), (SECOND, "down"))
    assert bed.ready.stranded_by([("a", "192.0.2.11")]) == []
    assert bed.ready.stranded_by([("a", "192.0.2.11"), ("a", "192.0.2.12")]) == ["a"]


async def test_what_the_file_would_strand(tmp_path):
    """T16: `overrides clear` strands a service whose only backend that is up is drained by the file."""
    bed = Bed(tmp_path / "steelyard.toml", second='{ address = "192.0.2.12", admin = "drain" }')
    await bed.administer("ready")
    await bed.probed((FIRST, "down"), (SECOND, "up"))
    assert bed.ready.stranded_by_file() == ["a"]
    await bed.probed((FIRST, "up"))
    assert bed.ready.stranded_by_file() == []


async def test_who_returns_from_maintenance_proves_nothing_yet(bed):
    """V11: a service whose only hope is to be probed anew is not able, rather than unknown as at the start."""
    await bed.administer("maint", "192.0.2.11")
    await bed.probed((SECOND, "down"))
    assert bed.ready.able == {"a": False}
    await bed.administer("ready", "192.0.2.11")
    assert bed.ready.able == {"a": False}
    await bed.probed((FIRST, "up"))
    assert bed.ready.able == {"a": True}


async def test_a_reserve_that_has_stood_in(bed):
    """H14: a backend in reserve that served for want of others is relieved when they return; its own fall to reserve is none."""
    await bed.probed((FIRST, "up"), (SECOND, "up"))
    await bed.probed((SECOND, "reserve"))
    assert bed.sent[-1] == worker_messages.Verdicts([[0, 1, "reserve", "ready"]])
    await bed.probed((FIRST, "down"))
    assert bed.sent[-1] == worker_messages.Verdicts([[0, 0, "down", "ready"], [0, 1, "up", "ready"]])
    await bed.probed((FIRST, "up"))
    assert bed.sent[-1] == worker_messages.Verdicts([[0, 0, "up", "ready"], [0, 1, "relieved", "ready"]])
    told = len(bed.sent)
    await bed.probed((FIRST, "up"))
    await bed.probed((SECOND, "reserve"))
    assert len(bed.sent) == told


async def test_a_backend_that_leads_back_serves_in_no_case(tmp_path):
    """T10: a backend that is a listener of this host gets nothing, whatever its probe says, with fail-open too, and says why."""
    bed = Bed(tmp_path / "f.toml", "fail-open = true\n")
    key = ("a", "192.0.2.11")
    await bed.probed((FIRST, "up"), (SECOND, "up"))
    bed.ready.looping({key: "it leads back"})
    await asyncio.sleep(0)
    assert bed.sent[-1] == worker_messages.Verdicts([[0, 0, "down", "maint"]])
    assert bed.ready._candidates.usable("a") == ["192.0.2.12"]
    shown = finished(bed.ready.shown({}))[key]
    assert (shown.state, shown.reason, shown.serving) == ("down", "it leads back", False)
    await bed.probed((SECOND, "down"))
    assert next(iter(bed.ready.verdicts().changes))[2:] == ["down", "maint"]
    bed.ready.looping({})
    await asyncio.sleep(0)
    assert finished(bed.ready.shown({}))[key].state == "up"
    assert next(iter(bed.ready.verdicts().changes))[2:] == ["up", "ready"]


async def test_all_lead_back(bed):
    """V11: a service whose every backend is a listener of this host is not able, though no probe says a word against them."""
    await bed.probed((FIRST, "up"), (SECOND, "up"))
    bed.ready.looping(dict.fromkeys([("a", "192.0.2.11"), ("a", "192.0.2.12")], "it leads back"))
    await asyncio.sleep(0)
    assert bed.ready.able == {"a": False}


async def test_a_successor_knows_what_its_predecessor_knew(tmp_path):
    """R12: verdicts, choices, weights, slow starts and ejections survive, through JSON, and the workers learn all of it."""
    keys = 'eject = { errors = 2, time = "1m" }\nbackend-defaults = { slow-start = "1m" }\n'
    before, after = Bed(tmp_path / "a.toml", keys), Bed(tmp_path / "b.toml", keys)
    await before.probed((FIRST, "up"), (SECOND, "down"), ("probe gateway", "up"))
    await before.probed((SECOND, "up"))
    slots = before.running.slots
    row = [slots[0]["a"], slots[1]["a", "192.0.2.11"]]
    before.ready.failing(worker_messages.Failing(*row, 2, 1.0))
    await asyncio.sleep(0)
    told = len(before.told)
    memory = Memory.model_validate(json.loads(json.dumps(finished(before.ready.remembered()).model_dump())))
    after.ready.restore(memory)
    await asyncio.sleep(0)
    assert finished(after.ready.remembered()) == memory
    assert (after.told, len(before.told)) == ([], told)
    assert after.ready.verdicts() == before.ready.verdicts()
    assert after.ready.weights() == before.ready.weights()
    assert [type(one).__name__ for one in after.sent] == ["Verdicts", "Weights"]
    assert after.ready.tracked == {"gateway": True}
    assert [after.ready._ejecting.reason(("a", name)) for name in ("192.0.2.11", "192.0.2.12")] == [
        "ejected for 1m: 2 failures of real traffic in a row", None,
    ]  # fmt: skip
    assert after.ready.is_known("a")
    assert after.ready.able == {"a": True}


async def test_what_is_not_in_the_file_any_more_is_not_remembered(bed):
    """R12: what a predecessor knew of backends and services that this file does not have is left out."""
    strange = {"service": "a", "backend": "192.0.2.99"}
    memory = Memory.model_validate(
        {
            "verdicts": [
                {**strange, "state": "up", "reason": "x"},
                {"service": "", "backend": "p", "state": "up", "reason": "x"},
            ],
            "choices": [{"service": "b", "level": 0}],
            "sent": [{**strange, "verdict": "up", "admin": "ready"}],
            "rested": [["a", "192.0.2.99"]],
            "ramps": [{**strange, "since": 1.0}],
            "ejections": [{**strange, "until": 1e9, "count": 1, "out": True}],
        }
    )
    bed.ready.restore(memory)
    found = finished(bed.ready.remembered())
    assert [found.verdicts, found.sent, found.ramps, found.ejections] == [(), (), (), ()]
    assert {one.service for one in found.choices} == {"a"}


async def test_both_hosts_must_see_it_down(tmp_path):
    """A backend that the other host sees up goes on serving; it goes down when that host sees it down or is silent."""
    bed, seen = Bed(tmp_path / "f.toml"), set()
    bed.ready.ask_peer(seen.__contains__)
    key = ("a", "192.0.2.11")
    await bed.probed((FIRST, "up"), (SECOND, "up"))
    bed.sent.clear()
    seen.add(key)
    await bed.probed((FIRST, "down"))
    assert [one for one in bed.sent if isinstance(one, worker_messages.Verdicts)] == []
    shown = finished(bed.ready.shown({}))[key]
    assert (shown.state, shown.reason, shown.serving) == ("up", "up at the other host, down here: because", True)
    assert bed.ready.known[key].state == "down"
    assert ("verdict", FIRST, "down: because", "warning") in bed.told
    seen.clear()
    bed.ready.reconsider(["a"])
    await asyncio.sleep(0)
    (sent,) = [one for one in bed.sent if isinstance(one, worker_messages.Verdicts)]
    assert [row[2] for row in sent.changes] == ["down"]
    assert finished(bed.ready.shown({}))[key].state == "down"
    seen.add(key)
    bed.ready.reconsider(["a", "gone"])
    await asyncio.sleep(0)
    assert finished(bed.ready.shown({}))[key].state == "up"
