"""What a group adds to its routers; the transcripts and the simulation show it at work."""

from ipaddress import ip_address

from tests.vrrp.transcript import configuration
from vrrp import events as ev
from vrrp.group import Group
from vrrp.packet import Advert


def group_of(*priorities):
    group = Group([configuration([f"r{n}", f"priority={priority}"]) for n, priority in enumerate(priorities)], 0.0)
    group.handle_all(ev.Startup(), 0.0)
    return group


def states(group):
    return [router.state for router in group.routers]


def elect(group):
    while group.deadline is not None and "active" not in states(group):
        group.handle_all(ev.Tick(), group.deadline)


def test_alone():
    """V12: a group of one is a router without a group."""
    group = group_of(100)
    elect(group)
    assert states(group) == ["active"]
    assert group.routers[0].priority_parts == (("configured", 100),)


def test_lowest_priority():
    """V12: all advertise the lowest effective priority, from the start on and after every change."""
    group = group_of(150, 120, 200)
    assert {router.effective_priority for router in group.routers} == {120}
    group.handle(group.routers[2], ev.PriorityChanged((("dns", -190),)), 1.0)
    assert {router.effective_priority for router in group.routers} == {10}
    group.handle(group.routers[2], ev.PriorityChanged(()), 2.0)
    assert {router.effective_priority for router in group.routers} == {120}


def test_fault_is_shared():
    """V12: one in fault takes the others into fault and lets them out again, whatever happens to them meanwhile."""
    group = group_of(100, 100, 100)
    elect(group)
    first, second, third = group.routers
    group.handle(second, ev.LinkDown(), 10.0)
    assert states(group) == ["fault"] * 3
    group.handle(third, ev.Fault("probe gateway"), 11.0)
    group.handle(second, ev.LinkUp(), 12.0)
    assert states(group) == ["fault"] * 3
    group.handle(third, ev.FaultCleared("probe gateway"), 13.0)
    assert states(group) == ["backup"] * 3
    assert all(router.faults == () for router in group.routers)
    assert first.deadline is not None


def test_the_others_say_why():
    """V12: a router in fault for the sake of another says whose fault it is and which, and only the ill one has it first-hand."""
    group = group_of(100, 100)
    elect(group)
    well, ill = group.routers
    group.handle(ill, ev.LinkDown(), 10.0)
    assert (well.reason, ill.reason) == ("IPv4 of r1, in the same group: the link is down", "the link is down")
    assert (group.follows(well), group.follows(ill)) == (True, False)
    group.handle(well, ev.Fault("probe gateway"), 11.0)
    assert (group.follows(well), group.follows(ill)) == (False, False)
    group.handle(ill, ev.LinkUp(), 12.0)
    assert (group.follows(well), group.follows(ill)) == (False, True)


def test_one_yields_all_yield():
    """V12: a router that yields takes the others with it, which say so on their segments."""
    group = group_of(100, 100)
    elect(group)
    router = group.routers[0]
    advert = Advert(3, 51, 200, router.config.addresses, 1.0)
    done = group.handle(router, ev.AdvertReceived(advert, ip_address("192.0.2.9")), 10.0)
    assert states(group) == ["backup"] * 2
    assert (group.routers[1], ev.SendAdvert(0)) in done


def test_wanting_is_not_having():
    """V12: a router that hears nobody waits for the others, and wants no more when it hears a peer."""
    group = group_of(100, 100)
    heard, silent = group.routers
    higher = ev.AdvertReceived(Advert(3, 51, 200, heard.config.addresses, 1.0), ip_address("192.0.2.9"))
    for second in range(1, 20):
        group.handle(heard, higher, float(second))
        group.handle_all(ev.Tick(), second + 0.5)
    assert states(group) == ["backup"] * 2
    assert (heard.wants, silent.wants) == (False, True)
    group.handle(silent, higher, 20.0)
    assert not silent.wants


def test_only_whose_time_has_come():
    """V17: a tick goes to the routers whose deadline has come and to no other, however large the group is."""
    group = group_of(*[100] * 50)
    elect(group)
    due = group.deadline
    answered, *others = group.routers
    loser = ev.AdvertReceived(Advert(3, 51, 1, answered.config.addresses, 1.0), ip_address("192.0.2.9"))
    group.handle(answered, loser, due - 0.5)  # its next advert is half a second later than those of the others
    handled = []
    for router in group.routers:
        router.TABLE = {
            state: {kind: noting(handled, router, handler) for kind, handler in row.items()}
            for state, row in router.TABLE.items()
        }
    group.tick(due - 0.001)
    assert handled == []
    group.tick(due)
    assert set(handled) == set(others)


def test_an_event_without_consequences_concerns_one():
    """V17: a refresh of one router's lease, or a peer's advert, costs nothing at the other routers of its group."""
    group = group_of(*[100] * 50)
    elect(group)
    handled = []
    for router in group.routers:
        router.TABLE = {
            state: {kind: noting(handled, router, handler) for kind, handler in row.items()}
            for state, row in router.TABLE.items()
        }
    group.handle(group.routers[7], ev.LeaseRefreshed(), 5.0)
    loser = ev.AdvertReceived(Advert(3, 51, 1, group.routers[8].config.addresses, 1.0), ip_address("192.0.2.9"))
    group.handle(group.routers[8], loser, 5.0)
    assert handled == [group.routers[7], group.routers[8]]


def noting(handled, router, handler):
    """Return the handler, which notes that its router was handed an event."""

    def note(*arguments):
        handled.append(router)
        return handler(*arguments)

    return note


def joined(group, *others):
    """Return a group of the routers of `group` and others, which are routers, or priorities of new ones."""
    configs = [
        configuration([f"new{number}", "vrid=52", f"priority={one}"]) if isinstance(one, int) else one
        for number, one in enumerate(others)
    ]
    causes = {router: group.cause_of(router) for router in group.routers}
    made = Group([*group.routers, *configs], 10.0, causes)
    made.regroup((), 10.0)
    return made


def test_a_new_router_joins_active_ones():
    """V12, R3: a router that joins active ones takes none of them with it, and is active as well once it hears nobody."""
    old = group_of(100)
    elect(old)
    group = joined(old, 100)
    old_one, new = group.routers
    group.handle(new, ev.Startup(), 10.0)
    assert states(group) == ["active", "backup"]
    commands = []
    while new.state != "active":
        commands += group.tick(group.deadline)
    assert group.deadline < 15
    assert [command for router, command in commands if router is old_one and isinstance(command, ev.Notify)] == []
    assert not any(isinstance(command, ev.SendAdvert) and command.priority == 0 for _, command in commands)


def test_a_new_router_that_defers_takes_the_others_along():
    """V12: if another host is active for a router that has joined, the others of its group yield."""
    old = group_of(100)
    elect(old)
    group = joined(old, 100)
    new = group.routers[1]
    group.handle(new, ev.Startup(), 10.0)
    lower = ev.AdvertReceived(Advert(3, 52, 50, new.config.addresses, 1.0), ip_address("192.0.2.9"))
    group.handle(new, lower, 10.5)
    assert states(group) == ["active", "backup"]
    higher = ev.AdvertReceived(Advert(3, 52, 200, new.config.addresses, 1.0), ip_address("192.0.2.9"))
    group.handle(new, higher, 11.0)
    assert states(group) == ["backup", "backup"]


def test_active_routers_are_grouped_and_parted():
    """V12, R3: active routers that are grouped or parted stay active, and advertise the priority that follows."""
    first, second = group_of(100), group_of(150)
    elect(first)
    elect(second)
    group = joined(first, *second.routers)
    assert states(group) == ["active", "active"]
    assert {router.effective_priority for router in group.routers} == {100}
    alone = Group([group.routers[1]], 11.0, {})
    done = alone.regroup((), 11.0)
    assert alone.routers[0].effective_priority == 150
    assert (alone.routers[0], ev.SendAdvert(150)) in done
    assert states(alone) == ["active"]


def test_an_active_router_yields_to_a_group_that_is_not():
    """V12: an active router that is grouped with one that deferred to another host yields."""
    first, second = group_of(100), group_of(100)
    elect(first)
    (waiting,) = second.routers
    higher = ev.AdvertReceived(Advert(3, 51, 200, waiting.config.addresses, 1.0), ip_address("192.0.2.9"))
    second.handle(waiting, higher, 0.5)
    group = joined(first, waiting)
    assert states(group) == ["backup", "backup"]


def test_faults_part_with_their_group():
    """V12: a router that leaves a group with a faulty one is well again, and one that joins such a group is in fault."""
    group = group_of(100, 100)
    elect(group)
    well, ill = group.routers
    group.handle(ill, ev.LinkDown(), 9.0)
    alone = Group([well], 10.0, {well: group.cause_of(well)})
    alone.regroup((), 10.0)
    assert (well.state, well.faults) == ("backup", ())
    again = Group([well, ill], 11.0, {})
    again.regroup((), 11.0)
    assert states(again) == ["fault", "fault"]
    group = Group([well, *group_of(100).routers], 12.0, {well: again.cause_of(well)})
    group.regroup((), 12.0)
    assert (well.state, well.faults) == ("backup", ())


def test_one_that_waited_for_its_group_takes_over_alone():
    """V12: a router that heard nobody and waited for the others takes over once it is alone."""
    group = group_of(100, 100)
    heard, silent = group.routers
    higher = ev.AdvertReceived(Advert(3, 51, 200, heard.config.addresses, 1.0), ip_address("192.0.2.9"))
    for second in range(1, 6):
        group.handle(heard, higher, float(second))
        group.handle_all(ev.Tick(), second + 0.5)
    assert (silent.wants, silent.state) == (True, "backup")
    alone = Group([silent], 10.0, {})
    alone.regroup((), 10.0)
    assert silent.state == "active"
