"""proxy.status.snapshot: the one view of the running system."""

import json
from dataclasses import replace

import pytest

from proxy.config.model import Backend, Listener, Service
from proxy.stats import layout
from proxy.stats.columns import Columns
from proxy.stats.histogram import bucket
from proxy.stats.layout import Layout
from proxy.stats.slots import Slots
from proxy.stats.table import Table
from proxy.status.rows import Node, Override, Verdict, WorkerRow
from proxy.status.slices import finished
from proxy.status.snapshot import SnapshotBuilder, encoded, endpoint, service_state

NODE = Node("lb1", "0.1.0", 12.5, 1, "ab" * 32)
LISTENER = Listener(address="10.0.0.10", port=53, transport="udp")
FIRST = Backend(name="10.0.0.11", address="10.0.0.11")
SECOND = Backend(name="ns2", address="2001:db8::12", port=5353, weight=3)
SERVICE = Service(name="dns", protocol="dns", listeners=(LISTENER,), backends=(FIRST, SECOND))
UP = Verdict("up", "answered NOERROR in 1.2 ms", 1000.0, ({"type": "dns", "ok": True, "reason": "answered", "latency_ms": 1.2, "at": 1001.0},), serving=True)  # fmt: skip
DOWN = Verdict("down", "no answer within 1 s", 1005.0)

# Every key of the public contract.
TOP = {
    "schema", "node", "state", "version", "uptime_s", "generation", "config", "services", "vrrp", "alarms", "notify", "workers",
}  # fmt: skip
SERVICE_KEYS = {"name", "protocol", "listen", "scheduler", "state", "quorum", "backends", "counters"}
BACKEND_KEYS = {
    "name", "address", "state", "reason", "admin", "admin_by", "admin_reason", "tier", "weight", "effective_weight",
    "active", "queued", "total", "rate", "latency_ms", "bytes_in", "bytes_out", "errors", "since", "origin", "probes",
}  # fmt: skip
WORKER_KEYS = {"index", "pid", "alive", "restarts", "generation", "draining", "heartbeat_age_s"}


class Bed:
    """One service with two backends, one worker, life 7."""

    def __init__(self):
        self.plan = Layout(4, 8)
        self.columns = Columns(self.plan)
        self.table = Table.create(self.plan)
        self.columns.attach(7, self.table)
        self.services, self.backends = Slots(4), Slots(8)
        self.services.assign(["other", "dns"])
        self.backends.assign([("dns", "ns2"), ("dns", "10.0.0.11")])
        self.builder = SnapshotBuilder(self.columns, self.services, self.backends)

    def backend(self, name):
        """Return the first cell of a backend."""
        return self.plan.backend(self.backends[("dns", name)])

    def build(self, *states, service=SERVICE, node=NODE, **more):
        """Return the status with these verdicts on the backends, in order."""
        verdicts = {("dns", backend.name): verdict for backend, verdict in zip(service.backends, states, strict=False)}
        rows = [
            WorkerRow(0, 4711, alive=True, restarts=2, life=7),
            WorkerRow(1, None, alive=False, restarts=9, life=None),
        ]
        return finished(self.builder.build(node, [service], verdicts, rows, now_ns=5_000_000_000, **more))


@pytest.fixture
def bed():
    """Make a fresh bed."""
    made = Bed()
    yield made
    made.columns.close()


def test_every_key_is_present(bed):
    """The status has exactly the keys of the public contract, before anything has happened, and is plain JSON."""
    status = bed.build().as_dict()
    assert json.loads(json.dumps(status)) == status
    assert status.keys() == TOP
    assert status["config"].keys() == {"sha256", "valid", "error", "on_disk_sha256", "overrides"}
    assert status["vrrp"] == []
    assert status["services"][0].keys() == SERVICE_KEYS
    for backend in status["services"][0]["backends"]:
        assert backend.keys() == BACKEND_KEYS
        assert backend["latency_ms"] == {"p50": None, "p99": None}
        assert (backend["state"], backend["since"], backend["probes"]) == ("unknown", None, [])
    assert [worker.keys() for worker in status["workers"]] == [WORKER_KEYS, WORKER_KEYS]


def test_the_histogram_of_a_backend(bed):
    """A backend's latencies come without empty cells, each with the milliseconds up to which it counts."""
    assert bed.builder.histogram(("dns", "10.0.0.11")) == []
    cells = bed.table.cells
    for microseconds, times in ((1000, 3), (40_000_000, 1)):
        cells[bed.backend("10.0.0.11") + layout.BACKEND_LATENCY + bucket(microseconds)] += times
    (upto, times), last = bed.builder.histogram(("dns", "10.0.0.11"))
    assert (1.0 < upto <= 1.25, times) == (True, 3)
    assert last == (33554.432, 1)
    assert bed.builder.histogram(("dns", "removed")) == []


def test_a_change_carries_its_reason_to_the_status(bed):
    """H13: the words of the verdict, when it came, and what each probe said stand beside the backend."""
    first, second = bed.build(UP, DOWN).as_dict()["services"][0]["backends"]
    assert (first["state"], first["reason"], first["since"]) == (
        "up", "answered NOERROR in 1.2 ms", "1970-01-01T00:16:40.000Z",
    )  # fmt: skip
    assert first["probes"] == [
        {"type": "dns", "ok": True, "reason": "answered", "latency_ms": 1.2, "at": "1970-01-01T00:16:41.000Z"}
    ]
    assert (second["state"], second["reason"]) == ("down", "no answer within 1 s")


def test_counters_are_those_of_the_right_slot(bed):
    """Each backend and service shows its own block, whatever the order of the slots."""
    cells, base = bed.table.cells, bed.backend("ns2")
    cells[base + layout.BACKEND_ACTIVE] = 4
    cells[base + layout.BACKEND_TOTAL] = 100
    cells[base + layout.BACKEND_BYTES_IN] = 1000
    cells[base + layout.BACKEND_BYTES_OUT] = 2000
    cells[base + layout.BACKEND_NO_ANSWER] = 3
    cells[bed.plan.service(1) + layout.SERVICE_SERVFAIL] = 6
    service = bed.build(UP, UP).as_dict()["services"][0]
    first, second = service["backends"]
    assert (first["active"], first["total"], first["errors"]["no_answer"]) == (0, 0, 0)
    assert (second["active"], second["total"], second["bytes_in"], second["bytes_out"]) == (4, 100, 1000, 2000)
    assert second["errors"]["no_answer"] == 3
    assert service["counters"]["servfail"] == 6
    assert service["counters"].keys() == {name for name, _ in layout.SERVICE_CELLS}


def test_addresses_carry_their_port():
    """A backend's address is shown with the port it is asked on, or alone where that is the listener's."""
    assert endpoint("10.0.0.31", 3306) == "10.0.0.31:3306"
    assert endpoint("2001:db8::12", 5353) == "[2001:db8::12]:5353"
    assert endpoint("10.0.0.31", None) == "10.0.0.31"


def test_rates_and_recent_latencies(bed):
    """A second's queries and the latencies of the last minute are told; older ones are not."""
    base = bed.backend("10.0.0.11")
    bed.table.cells[base + layout.BACKEND_LATENCY + bucket(2_000_000)] = 50
    bed.builder.sample(10.0, [SERVICE])
    bed.table.cells[base + layout.BACKEND_TOTAL] = 250
    bed.table.cells[base + layout.BACKEND_LATENCY + bucket(1000)] = 250
    bed.builder.sample(11.0, [SERVICE])
    first = bed.build(UP, UP).as_dict()["services"][0]["backends"][0]
    assert first["rate"] == 250.0
    assert first["latency_ms"]["p50"] == pytest.approx(1.0, rel=0.15)
    assert first["latency_ms"]["p99"] < 2


def test_workers_tell_their_own_cells(bed):
    """A worker's heartbeat age, generation and draining come from its own header; one without a column has none."""
    bed.table.cells[layout.HEARTBEAT] = 4_750_000_000
    bed.table.cells[layout.GENERATION] = 3
    bed.table.cells[layout.DRAINING] = 1
    bed.table.cells[layout.OPEN_FILES] = 99
    snapshot = bed.build(UP, UP)
    living, dead = snapshot.as_dict()["workers"]
    assert living == {
        "index": 0, "pid": 4711, "alive": True, "restarts": 2, "generation": 3, "draining": True, "heartbeat_age_s": 0.25,
    }  # fmt: skip
    assert (dead["alive"], dead["heartbeat_age_s"]) == (False, None)
    assert snapshot.headers[0]["open_files"] == 99
    assert 1 not in snapshot.headers


@pytest.mark.parametrize(
    ("states", "service", "weights", "code"),
    [
        ((UP, UP), "up", [1, 3], 0),
        ((UP, DOWN), "degraded", [1, 0], 1),
        ((DOWN, DOWN), "down", [0, 0], 2),
        ((), "down", [0, 0], 2),
        ((replace(UP, state="reserve", serving=False), UP), "up", [0, 3], 0),
        ((replace(UP, state="reserve"), DOWN), "degraded", [1, 0], 1),
        ((UP, replace(UP, serving=False)), "up", [1, 0], 0),
        ((UP, replace(DOWN, standby=True)), "up", [1, 0], 0),
        ((replace(UP, weight=0, serving=False), replace(UP, weight=0, serving=False)), "down", [0, 0], 2),
        ((DOWN, replace(DOWN, standby=True)), "down", [0, 0], 2),
        ((replace(DOWN, standby=True), replace(DOWN, standby=True)), "down", [0, 0], 2),
        ((replace(UP, weight=7), replace(UP, weight=0, serving=False)), "up", [7, 0], 0),
    ],
)
def test_what_a_service_amounts_to(bed, states, service, weights, code):
    """Up with every backend up, degraded with some, down with none; who does not serve has no weight."""
    snapshot = bed.build(*states)
    found = snapshot.as_dict()["services"][0]
    assert found["state"] == service
    assert [backend["effective_weight"] for backend in found["backends"]] == weights
    assert len(snapshot.standby) == sum(one.standby for one in states)
    assert snapshot.exit_status() == code


def test_an_admin_state_alone_never_degrades(bed):
    """A backend that somebody drained is left out of the count and says who and why; when all are, the service refuses."""
    act = Override("drain", "uid 1000", "new disks")
    idle = replace(UP, serving=False)
    snapshot = bed.build(UP, idle, overrides={("dns", "ns2"): act})
    service = snapshot.as_dict()["services"][0]
    assert (service["state"], snapshot.exit_status()) == ("up", 0)
    drained = service["backends"][1]
    assert (drained["admin"], drained["admin_by"], drained["admin_reason"]) == ("drain", "uid 1000", "new disks")
    assert drained["effective_weight"] == 0
    both = {("dns", backend.name): act for backend in SERVICE.backends}
    assert bed.build(idle, idle, overrides=both).exit_status() == 2


def test_an_admin_state_of_the_file_says_so(bed):
    """A backend in maintenance by the file is not counted, and names the file as who did it."""
    service = SERVICE.model_copy(update={"backends": (FIRST, SECOND.model_copy(update={"admin": "maint"}))})
    backend = bed.build(UP, DOWN, service=service).as_dict()["services"][0]["backends"][1]
    assert (backend["admin"], backend["admin_by"]) == ("maint", "the configuration file")
    unprobed = bed.build(UP, service=service).as_dict()["services"][0]["backends"][1]
    assert (unprobed["state"], unprobed["reason"]) == ("unknown", "in maintenance, not probed")


def test_who_serves_without_a_verdict_degrades(bed):
    """H8: a service that serves because only our own login is refused is degraded, and down where nobody serves."""
    unjudged = Verdict("unknown", "login refused", 1000.0, serving=True, unjudged=True)
    assert bed.build(unjudged, unjudged).exit_status() == 1
    assert bed.build(replace(unjudged, serving=False), DOWN).exit_status() == 2


def test_a_failed_reload_and_fail_open_degrade(bed):
    """A refused file degrades the whole; a service that fails open serves without a usable backend, degraded."""
    refused = bed.build(UP, UP, node=replace(NODE, error="f.toml:3:1: unknown key", on_disk_sha256="cd"))
    assert refused.exit_status() == 1
    config = refused.as_dict()["config"]
    assert (config["valid"], config["error"], config["on_disk_sha256"]) == (False, "f.toml:3:1: unknown key", "cd")
    status = bed.build(DOWN, DOWN, service=SERVICE.model_copy(update={"fail_open": True})).as_dict()
    assert status["services"][0]["state"] == "degraded"
    assert service_state([], fail_open=True) == "down"


def test_encoded_in_slices(bed):
    """R14: the status as it is sent is the same document, key by key, and encoding it pauses at each backend."""
    status = bed.build(UP, DOWN).as_dict()
    assert json.loads(finished(encoded(status))) == status
    assert sum(1 for _ in encoded(status)) == 2


def test_a_backend_that_leaves_while_it_is_shown(bed):
    """R14: between two slices a backend or a service may go: what is gone is left out."""
    building = bed.builder.build(NODE, [SERVICE, replace_name(SERVICE, "other")], {}, [], now_ns=0)
    next(building)
    bed.backends.assign([("dns", "10.0.0.11")])
    bed.services.assign(["dns"])
    (service,) = finished(building).as_dict()["services"]
    assert [backend["name"] for backend in service["backends"]] == ["10.0.0.11"]


def replace_name(service, name):
    """Return a service like another one."""
    return service.model_copy(update={"name": name})


def test_a_daemon_that_stops_says_so(bed):
    """A daemon that stops is stopping; its services are so only when it takes no new clients any more."""
    served = bed.build(node=replace(NODE, stopping=True)).as_dict()
    closed = bed.build(node=replace(NODE, stopping=True, closed=True)).as_dict()
    assert [one["state"] for one in (served, closed)] == ["stopping", "stopping"]
    assert "stopping" not in {one["state"] for one in served["services"]}
    assert {one["state"] for one in closed["services"]} == {"stopping"}


def test_a_former_daemons_worker_drains(bed):
    """A former daemon's worker is draining, whatever its counters say."""
    row = WorkerRow(0, 4711, True, 0, None, draining=True)
    snapshot = finished(bed.builder.build(NODE, [SERVICE], {}, [row], now_ns=0))
    assert snapshot.as_dict()["workers"][0]["draining"] is True
