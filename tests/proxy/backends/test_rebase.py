"""What another file makes of what operators have changed: at a reload, at a restart, in the place of another daemon."""

import json

import pytest

from proxy.backends import rebase
from proxy.backends.saved import SAVED
from proxy.config.changes import adapted
from proxy.records import document
from proxy.records.document import StateError
from proxy.stats.slots import SlotsFullError
from tests.proxy.backends.bed import DROPPED, EVERYWHERE, FIRST, NEW, SECOND, Bed


@pytest.fixture
async def bed(tmp_path):
    return Bed(tmp_path)


async def test_acts_survive_another_file(bed, tmp_path):
    """R9: what the file did not change of what operators set is in force after a reload as well, in the file's order."""
    await bed.ask("add", address="192.0.2.13", weight=5)
    await bed.ask("weight", backend="ns2", weight=9)
    await bed.set("drain", "192.0.2.11")
    bed.told.clear()
    found = bed.reload(
        ("quorum = 2", "quorum = 1"), ("max-connections = 7", "max-connections = 8"),
        ('["192.0.2.11", {', '["192.0.2.10", "192.0.2.11", {'),
    )  # fmt: skip
    assert (found.ended, found.retired, found.returned, bed.told) == ([], [], [], [])
    assert bed.names == ["192.0.2.10", "192.0.2.11", "ns2", "192.0.2.13"]
    assert (bed.running.backends[SECOND].weight, bed.running.weighed) == (9, {SECOND})
    assert (bed.running.backends[NEW].max_connections, bed.running.backends[NEW].weight) == (8, 5)
    assert bed.admins.state(FIRST) == "drain"
    assert len(bed.membership.rows()) + len(bed.admins.rows()) == 3


async def test_another_file_ends_acts(bed, tmp_path):
    """R9: an act ends with the file's value that it replaced, and is told with the reason; the saved ones are forgotten."""
    await bed.ask("weight", backend="ns2", weight=9, save=True)
    await bed.set("maint", save=True)
    await bed.ask("add", address="192.0.2.13", save=True)
    bed.told.clear()
    bed.changed.clear()
    bed.heard.clear()
    changes = ("weight = 3 }", 'weight = 4, admin = "drain" }, "192.0.2.13"')
    assert len(bed.reload(changes).ended) == 3
    assert bed.told == [
        'dns/192.0.2.13: "added" has ended: the service has it from the file now',
        'dns/ns2: "weight 9" has ended: the file\'s weight is 4 now, no longer 3',
        'dns/ns2: "maint" has ended: the file says "drain" now, no longer "ready"',
    ]
    assert (bed.running.backends[SECOND].weight, bed.running.weighed, bed.heard) == (4, set(), [SECOND])
    assert (bed.admins.state(SECOND), bed.changed, bed.membership.edits) == ("drain", [[SECOND]], 0)
    await bed.saved.settled()
    assert not (tmp_path / SAVED).exists()


async def test_a_backend_that_the_file_no_longer_has(bed, tmp_path):
    """R9: what the file drops is drained as what is removed, is no override, and is gone when nothing is open there."""
    bed.active[SECOND] = 1
    assert bed.reload(*DROPPED).retired == [SECOND]
    assert (bed.names, bed.admins.state(SECOND), bed.admins.leaves(SECOND)) == (["192.0.2.11", "ns2"], "drain", True)
    assert (bed.membership.edits, bed.told) == (
        0,
        ["dns/ns2: to be removed, by reload: 1 open, may finish until drain-timeout"],
    )
    assert bed.changed == [[SECOND]]
    bed.later(3599)
    assert bed.admins.acted(SECOND) == "drain"
    assert bed.reload(*DROPPED).retired == []  # it is leaving already, and its deadline stays
    bed.later(3601)
    assert bed.admins.acted(SECOND) == "maint"
    bed.active.clear()
    bed.later()
    assert (bed.names, bed.membership.edits) == (["192.0.2.11"], 0)


async def test_a_backend_that_the_file_has_again(bed, tmp_path):
    """R9: what an earlier file dropped and the next one has again stays, as that file has it."""
    bed.active[SECOND] = 1
    bed.reload(*DROPPED)
    assert bed.reload(("weight = 3", "weight = 8")).returned == [SECOND]
    assert (bed.admins.acted(SECOND), bed.admins.leaves(SECOND), bed.running.backends[SECOND].weight) == (
        "ready", False, 8,
    )  # fmt: skip
    bed.active.clear()
    bed.later()
    assert "ns2" in bed.names


async def test_a_removal_over_another_file(bed, tmp_path):
    """R9: what was removed stays removed over a reload, leaving or gone, until the file drops it as well."""
    bed.active[SECOND] = 1
    await bed.ask("remove", backend="ns2")
    found = bed.reload(("weight = 3", "weight = 4"))
    assert (found.ended, found.retired, found.returned) == ([], [], [])
    assert bed.admins.leaves(SECOND)
    bed.active.clear()
    bed.later()
    found = bed.reload(("weight = 3", "weight = 5"))
    assert (bed.names, [row["act"] for row in bed.membership.rows()]) == (["192.0.2.11"], ["removed"])
    await bed.ask("add", address="ns2")
    assert bed.running.backends[SECOND].weight == 5
    await bed.ask("remove", backend="ns2")
    bed.later()
    bed.reload(*DROPPED)
    assert bed.membership.edits == 0


async def test_a_service_that_the_file_no_longer_has(bed, tmp_path):
    """R9: acts on a service that the file drops end with it, those that were leaving included."""
    await bed.ask("add", address="192.0.2.13")
    await bed.set("maint", "192.0.2.13")
    bed.active[SECOND] = 1
    await bed.ask("remove", backend="ns2")
    found = bed.reload(("[service.dns]", "[service.names]"))
    assert (NEW, '"added" has ended: the service is no longer in the file') in found.ended
    assert (bed.membership.edits, bed.admins.rows(), [*bed.admins.leaving]) == (0, [], [])
    bed.later()
    assert ("names", "ns2") in bed.running.backends


async def test_an_added_backend_that_would_lead_back(bed, tmp_path):
    """R9: an added backend that is a listener of this host with another file is dropped, and the reload is not refused."""
    await bed.ask("add", "web", address="192.0.2.77:99")
    key = ("web", "192.0.2.77:99")
    back = EVERYWHERE.replace('"192.0.2.11"', '"192.0.2.1:80"')
    found = bed.reload(more=back)
    why = "192.0.2.77:99 is a listener of [service.all], which leads back here (web -> all -> web)"
    assert (found.retired, [at for at, _ in found.ended]) == ([key], [key])
    assert f'"added" has ended: {why}' in found.ended[0][1]


async def test_an_act_while_a_reload_is_prepared(bed):
    """R9: a reload can tell that operators have acted, or that a backend has left, since it was prepared."""
    new = bed.file()
    for act in (bed.ask("weight", backend="ns2", weight=9), bed.set("drain"), bed.ask("remove", backend="ns2")):
        found = bed.membership.rebase(new)
        assert bed.membership.is_current(found)
        await act
        assert not bed.membership.is_current(found)
    found = bed.membership.rebase(new)
    bed.later()
    assert not bed.membership.is_current(found)


async def test_a_reload_without_room_for_what_was_added(tmp_path):
    """R9: a file with room for itself and not for what was added as well is refused by `room_for`, and nothing has changed."""
    bed = Bed(tmp_path, capacity=4)
    await bed.ask("add", address="192.0.2.13")
    before = (bed.names, bed.overrides)
    with pytest.raises(SlotsFullError):
        bed.reload(('["192.0.2.11", {', '["192.0.2.10", "192.0.2.11", {'))
    assert (bed.names, bed.overrides) == before


async def test_another_admin_state_in_the_file(bed):
    """R3: a state that the file changes is passed on, and the rest is not; a drain of the file has the service's deadline."""
    drained = ("weight = 3 }", 'weight = 3, admin = "drain" }')
    bed.active[SECOND] = 1
    bed.reload(drained)
    bed.reload(drained, ("max-connections = 7", "max-connections = 8"))
    assert (bed.admins.state(SECOND), bed.admins.acted(SECOND), bed.changed) == ("drain", "drain", [[SECOND]])
    assert (bed.overrides, bed.admins.overrides) == ([], {})
    bed.later(3599)
    assert bed.admins.acted(SECOND) == "drain"
    bed.later(3601)
    assert bed.admins.acted(SECOND) == "maint"
    assert bed.told[-1] == "dns/ns2: drained for 1h, 1 left: cut"
    bed.reload()
    assert (bed.admins.state(SECOND), bed.admins.acted(SECOND)) == ("ready", "ready")
    bed.reload(("weight = 3 }", 'weight = 3, admin = "maint" }'))
    assert (bed.admins.acted(SECOND), bed.changed[1:]) == ("maint", [[SECOND]] * 3)


async def test_the_file_drains_what_is_drained(bed):
    """R3: a backend that an operator has drained, and then the file, is cut when the operator was promised."""
    bed.active[SECOND] = 1
    await bed.set("drain", timeout=50)
    found = bed.reload(("weight = 3 }", 'weight = 3, admin = "drain" }'))
    assert ([key for key, _ in found.ended], bed.overrides) == ([SECOND], [])
    bed.later(49)
    assert bed.admins.acted(SECOND) == "drain"
    bed.later(51)
    assert bed.admins.acted(SECOND) == "maint"
    await bed.set("ready")
    assert bed.admins.acted(SECOND) == "ready"


async def test_what_is_drained_and_dropped(bed):
    """R9: a drained backend that the file drops is cut at the earlier deadline, one in maintenance has nothing to wait for."""
    bed.active |= {FIRST: 1, SECOND: 1}
    await bed.set("drain", "192.0.2.11", timeout=50)
    await bed.set("maint", force=True)
    bed.reload(*DROPPED, ('["192.0.2.11"', '["192.0.2.19"'))
    assert [bed.admins.acted(key) for key in (FIRST, SECOND)] == ["drain", "maint"]
    bed.later(51)
    assert bed.admins.acted(FIRST) == "maint"


async def test_prepared_in_small_pieces(bed, monkeypatch):
    """R3: what takes long of a rebase is done beforehand, one added backend at a time, and not again."""
    for last in range(13, 16):
        await bed.ask("add", address=f"192.0.2.{last}")
    await bed.ask("add", "web", address="192.0.2.13")
    new = bed.file(("[service.web]", "[service.pages]"))
    await bed.membership.prepare(new)
    new = adapted(bed.running.config, new)  # as a reload does
    monkeypatch.setattr(rebase, "resolve_backend", None)
    assert [key[1] for key in bed.membership.rebase(new).acts.added] == [f"192.0.2.{last}" for last in range(13, 16)]


# -- a restart


async def test_all_that_was_saved(bed, tmp_path):
    """R9: what was to be saved is in force at the next start, at once and as it was; what was not is gone."""
    await bed.ask("add", address="192.0.2.13", weight=5, save=True)
    await bed.ask("add", address="192.0.2.14")
    await bed.ask("weight", backend="192.0.2.13", weight=6, save=True)
    await bed.ask("remove", backend="192.0.2.11", save=True)
    await bed.ask("weight", backend="ns2", weight=9)
    await bed.set("drain", save=True, reason="new disks")
    again = Bed(tmp_path)
    assert again.names == ["ns2", "192.0.2.13"]
    assert again.overrides == [
        ("ns2", "drain", True), ("192.0.2.13", "added", True), ("192.0.2.11", "removed", True),
        ("192.0.2.13", "weight 6", True),
    ]  # fmt: skip
    new = again.running.backends[NEW]
    assert (new.weight, new.max_connections, again.running.weighed) == (6, 7, {NEW})
    assert (again.running.backends[SECOND].weight, again.admins.overrides[SECOND].reason) == (3, "new disks")
    assert (again.told, again.heard, again.changed, again.membership.ended) == ([], [], [], [])
    assert [one.name for one in again.running.file.services[0].backends] == ["192.0.2.11", "ns2"]
    await again.ask("add", address="192.0.2.11")
    assert again.names == ["192.0.2.11", "ns2", "192.0.2.13"]
    assert Bed(tmp_path).overrides == [*again.overrides]


async def test_a_file_that_has_changed_meanwhile(bed, tmp_path):
    """R9: an act on what the file has changed while the daemon was down ends, is told, and does not rise again."""
    await bed.ask("add", address="192.0.2.13", save=True)
    await bed.ask("weight", backend="ns2", weight=9, save=True)
    await bed.set("drain", "192.0.2.11", save=True)
    again = Bed(tmp_path, ("weight = 3 }", 'weight = 4 }, "192.0.2.13"'))
    assert (again.names, again.running.backends[SECOND].weight) == (["192.0.2.11", "ns2", "192.0.2.13"], 4)
    assert again.membership.ended == [
        (NEW, '"added" has ended: the service has it from the file now'),
        (SECOND, '"weight 9" has ended: the file\'s weight is 4 now, no longer 3'),
    ]
    again.membership.keep()
    await again.saved.settled()
    assert Bed(tmp_path).overrides == again.overrides == [("192.0.2.11", "drain", True)]


async def test_what_is_no_longer_there(bed, tmp_path):
    """R9: saved acts on a service and on a backend that the file dropped are told and are none."""
    await bed.ask("add", "web", address="192.0.2.13", save=True)
    await bed.ask("weight", "web", backend="192.0.2.11", weight=9, save=True)
    await bed.set("maint", save=True)
    again = Bed(tmp_path, *DROPPED, ("[service.web]", "[service.pages]"))
    assert (again.overrides, [key for key, _ in again.membership.ended]) == (
        [],
        [("web", "192.0.2.13"), ("web", "192.0.2.11"), SECOND],
    )
    assert list(again.running.services) == ["dns", "pages"]


async def test_a_removal_that_would_leave_a_service_empty(bed, tmp_path):
    """R9: a saved removal of the only backend that the file still has ends: no service starts without a backend."""
    await bed.ask("remove", backend="192.0.2.11", save=True)
    again = Bed(tmp_path, *DROPPED)
    assert (again.names, again.membership.ended) == (
        ["192.0.2.11"],
        [(FIRST, '"removed" has ended: the service would have no backend any more')],
    )


async def test_what_can_no_longer_be_added(bed, tmp_path):
    """R9: a saved backend that is this host's listener now, or does not fit the service any more, is told; the daemon starts."""
    await bed.ask("add", "web", address="192.0.2.77:99", save=True)
    await bed.ask("add", address="2001:db8::13", save=True)
    again = Bed(
        tmp_path,
        ('protocol = "dns"', 'protocol = "dns"\nsource-addresses = ["192.0.2.2"]'),
        more=EVERYWHERE.replace('"192.0.2.11"', '"192.0.2.1:80"'),
    )
    assert (again.names, again.overrides) == (["192.0.2.11", "ns2"], [])
    (_, family), (_, loop) = again.membership.ended
    assert "source-addresses has no IPv6 address" in family
    assert "192.0.2.77:99 is a listener of [service.all], which leads back here" in loop


async def test_no_room_for_all_that_was_added(bed, tmp_path):
    """R9: without room for all saved backends the last ones are left out and told."""
    for last in (13, 14, 15):
        await bed.ask("add", address=f"192.0.2.{last}", save=True)
    again = Bed(tmp_path, capacity=4)
    assert again.names == ["192.0.2.11", "ns2", "192.0.2.13"]
    assert [(key[1], text) for key, text in again.membership.ended] == [
        (f"192.0.2.{last}", '"added" has ended: the counters have no room for it') for last in (15, 14)
    ]


@pytest.mark.parametrize(
    "row",
    [
        {"act": "weight", "weight": 65536, "filed": 1},
        {"act": "weight", "weight": True, "filed": 1},
        {"act": "weight", "weight": 5},
        {"act": "add", "weight": "5"},
        {"act": "add"},
        {"act": "remove", "at": "yesterday"},
        {"act": "remove", "backend": None, "service": 5, "by": None, "at": None},
    ],
)
async def test_an_invalid_row_is_refused(tmp_path, row):
    """R9: a saved act that makes no sense is an error at the start, not forgotten."""
    good = {"service": "dns", "backend": "ns2", "by": "uid 0", "at": 1.0}
    document.save(tmp_path, SAVED, {"version": 1, "acts": [{**good, **row}]})
    with pytest.raises(StateError, match=r"overrides\.json: invalid override"):
        Bed(tmp_path)


# -- in the place of another daemon


async def test_a_successor_on_this_host(bed, tmp_path):
    """R12: a successor has all acts, saved or not, and goes on with what is leaving, with its deadline."""
    await bed.ask("add", address="192.0.2.13", weight=5)
    await bed.ask("weight", backend="192.0.2.13", weight=6)
    await bed.set("drain", "192.0.2.11", timeout=100)
    bed.active[SECOND] = bed.active[FIRST] = 1
    await bed.ask("remove", backend="ns2", save=True)
    state = json.loads(json.dumps(bed.membership.state()))
    again = Bed(tmp_path, inherited=state)
    again.active |= bed.active
    assert (again.names, again.overrides) == (bed.names, bed.overrides)
    assert (again.running.backends[NEW].weight, again.running.weighed) == (6, {NEW})
    again.later(99)
    assert [again.admins.acted(key) for key in (FIRST, SECOND)] == ["drain", "drain"]
    again.later(101)
    assert [again.admins.acted(key) for key in (FIRST, SECOND)] == ["maint", "drain"]
    again.later(3601)
    assert again.admins.acted(SECOND) == "maint"
    again.active.clear()
    again.later()
    assert again.names == ["192.0.2.11", "192.0.2.13"]
    assert Bed(tmp_path).overrides == [("ns2", "removed", True)]


async def test_a_successor_has_what_an_earlier_file_had(bed, tmp_path):
    """R12: a backend that a reload retired goes on leaving in the successor, unless its file has it again."""
    bed.active[SECOND] = 1
    bed.reload(*DROPPED)
    state = json.loads(json.dumps(bed.membership.state()))
    again = Bed(tmp_path, *DROPPED, inherited=state)
    assert (again.names, again.admins.leaves(SECOND), again.overrides) == (["192.0.2.11", "ns2"], True, [])
    assert again.running.backends[SECOND] == bed.running.backends[SECOND]
    back = Bed(tmp_path, inherited=state)
    assert (back.names, back.admins.leaves(SECOND)) == (["192.0.2.11", "ns2"], False)
    other = Bed(tmp_path, ("[service.dns]", "[service.names]"), inherited=state)
    assert [*other.admins.leaving] == []
    full = Bed(tmp_path, *DROPPED, inherited=state, capacity=2)
    assert (full.names, [*full.admins.leaving]) == (["192.0.2.11"], [])
