"""Two and three hosts through random faults: what must be true of them afterwards."""

import heapq
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.vrrp.simulation import Network, make_hosts
from vrrp import events as ev

INTERVAL = 1.0
KEY = b"a key of enough octets"
KINDS = (
    "loss",
    "delay",
    "duplicates",
    "cut",
    "heal",
    "kill",
    "start",
    "stop",
    "wake",
    "jump",
    "link",
    "penalty",
    "master",
)
FAULTS = st.lists(
    st.tuples(st.floats(0, 2.5), st.sampled_from(KINDS), st.integers(0, 2), st.integers(0, 2), st.floats(0, 1)),
    max_size=14,
)
PRIORITIES = st.lists(st.sampled_from([1, 50, 100, 100, 150, 254, 255]), min_size=2, max_size=3)
MANY = settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)


def suffer(network: Network, kind: str, one: int, other: int, amount: float) -> None:  # noqa: C901 - one case a fault
    """One fault, or the end of one."""
    hosts = network.hosts
    host, second = hosts[one % len(hosts)], hosts[other % len(hosts)]
    segment = int(amount * len(host.configs)) % len(host.configs)
    match kind:
        case "loss" | "duplicates":
            setattr(network.faults, kind, amount)
        case "delay":
            network.faults.delay = amount * 3
        case "cut":
            network.faults.cut.add((host.number, second.number, segment))
        case "heal":
            network.faults.cut.clear()
        case "kill":
            network.kill(host)
        case "start":
            network.start(host)
        case "stop":
            network.stop(host)
        case "wake":
            network.wake(host)
        case "jump":
            host.wall += (amount - 0.5) * 7200
        case "link":
            network.feed(host, segment, ev.LinkDown() if amount < 0.5 else ev.LinkUp())
        case "penalty":
            network.feed(host, segment, ev.PriorityChanged((("dns", -int(amount * 200)),)))
        case "master":
            network.feed_all(host, ev.MasterLost() if amount < 0.5 else ev.MasterBack())


def recover(network: Network) -> None:
    """The last fault ends: network, links and processes are whole, and what is on its way has arrived."""
    network.faults.__init__()
    for host in network.hosts:
        network.wake(host)
        network.start(host)
        network.feed_all(host, ev.MasterBack())
        for segment in range(len(host.configs)):
            network.feed(host, segment, ev.LinkUp())
            network.feed(host, segment, ev.PriorityChanged(()))
    soon = network.now + 0.001
    network.heap = [
        (min(when, soon) if action.__defaults__ else when, order, action)  # packets have defaults
        for when, order, action in network.heap
    ]
    heapq.heapify(network.heap)


def play(network: Network, faults) -> None:
    for host in network.hosts:
        network.start(host)
    for pause, kind, one, other, amount in faults:
        network.run(network.now + pause)
        suffer(network, kind, one, other, amount)
    network.run(network.now + 0.5)


def check_one(network: Network, segments: int, named: set[int]) -> None:
    """Exactly one, the same everywhere and one of the named, now and for 10 intervals."""
    first = network.actives(0)
    told = "\n".join(map(str, network.moves))
    assert len(first) == 1, told
    assert first[0] in named, told

    def watch():
        for segment in range(segments):
            assert network.actives(segment) == first, told
            assert network.holders(segment) == first, told

    watch()
    network.watch = watch
    network.run(network.now + 10 * INTERVAL)


def named_by_the_rfc(network: Network, preempt: bool) -> set[int]:
    """Who may be active after healing: the highest priority, or whoever was there where nobody preempts."""
    priorities = {host.number: host.configs[0].priority for host in network.hosts}
    if not preempt and max(priorities.values()) < 255:
        return set(priorities)
    return {number for number, priority in priorities.items() if priority == max(priorities.values())}


@MANY
@given(
    priorities=PRIORITIES, faults=FAULTS, seed=st.integers(0, 9), version=st.sampled_from([2, 3]), signed=st.booleans()
)
def test_one_active_after_faults(priorities, faults, seed, version, signed):
    """V4, V5, V16, V19: 4 intervals after the last fault exactly one is active, the one the RFC names, and it stays so."""
    hosts = make_hosts(priorities, version=version, keys=(KEY,) if signed else ())
    network = Network(hosts, seed)
    play(network, faults)
    before = set(network.actives(0)) & set(network.holders(0))  # who was stopped beyond its lease is neither
    recover(network)
    network.run(network.now + 4 * INTERVAL + 0.05)
    check_one(network, 1, named_by_the_rfc(network, preempt=True))
    both = [number for number in before if priorities[number] == max(priorities)]
    if len(both) > 1:  # a tie is fought out: the higher address (or one higher still that was about to fire)
        assert network.actives(0)[0] >= max(both)


@MANY
@given(priorities=PRIORITIES, faults=FAULTS, seed=st.integers(0, 9), delay=st.sampled_from([0.0, 2.0]))
def test_one_active_without_preemption(priorities, faults, seed, delay):
    """V4, V11: without preemption, or with a delayed one, there is exactly one as well, whoever it is."""
    preempt = bool(delay)
    network = Network(make_hosts(priorities, preempt=preempt, preempt_delay=delay), seed)
    play(network, faults)
    recover(network)
    network.run(network.now + 4 * INTERVAL + 0.05)
    if preempt:  # the delay, and then one more down interval
        network.run(network.now + delay + 4 * INTERVAL)
    check_one(network, 1, named_by_the_rfc(network, preempt))


@MANY
@given(
    priorities=PRIORITIES,
    faults=FAULTS,
    seed=st.integers(0, 9),
    mirrored=st.booleans(),
    segments=st.sampled_from([2, 3]),
)
def test_groups_move_together(priorities, faults, seed, mirrored, segments):
    """V12: after the last fault exactly one host is active, with every router of its group; nobody is active in part."""
    network = Network(make_hosts(priorities, segments=segments, mirrored=mirrored), seed)

    def watch():
        for host in network.hosts:
            if host.running:
                assert len({router.state == "active" for router in host.group.routers}) == 1

    network.watch = watch
    play(network, faults)
    recover(network)
    network.run(network.now + 4 * INTERVAL + 0.05)
    check_one(network, segments, named_by_the_rfc(network, preempt=True))


def pair(priorities=(150, 100), **settings) -> Network:
    """Two hosts, settled: the first one is active."""
    network = Network(make_hosts(priorities, **settings), seed=1)
    for host in network.hosts:
        network.start(host)
    network.run(10.0)
    assert network.actives(0) == [0]
    return network


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("segments", [1, 2])
def test_healed_partition(first, version, segments):
    """V19: whichever of two active hosts speaks first, one is left within an advert, counts it, and announces after that."""
    network = pair(version=version, segments=segments)
    both = {(0, 1, segment) for segment in range(segments)} | {(1, 0, segment) for segment in range(segments)}
    network.faults.cut = both
    network.run(20.0)
    assert network.actives(0) == [0, 1]
    groups = [host.group for host in network.hosts]
    next_advert = [group.deadline - host.offset for group, host in zip(groups, network.hosts, strict=True)]
    network.run(next_advert[1 - first] + 0.001)  # the next one to speak is `first`
    network.faults.cut = set()
    healed = network.now
    network.run(healed + INTERVAL + 0.01)
    yielded = max(when for when, host, _, move in network.moves if host == 1 and move.startswith("backup"))
    assert yielded > healed
    for segment in range(segments):
        assert network.actives(segment) == [0]
        assert (network.hosts[0].number, segment, "conflicts") in network.counted
        assert any(when > yielded and (host, where) == (0, segment) for when, host, where in network.announced)


@pytest.mark.parametrize("heard", [0, 1])
def test_one_way_partition(heard):
    """V19: where one direction works, exactly one is left as soon as the weaker hears the stronger, and not before."""
    network = pair()
    network.faults.cut = {(0, 1, 0), (1, 0, 0)}
    network.run(20.5)
    network.faults.cut = {(1 - heard, heard, 0)}
    network.run(24.0)
    assert network.actives(0) == ([0] if heard == 0 else [0, 1])
    network.faults.cut = set()
    network.run(30.0)
    assert network.actives(0) == [0]


@pytest.mark.parametrize("event", [ev.Shutdown(), ev.Standby(), ev.Standby(if_taken=True)])
@pytest.mark.parametrize("segments", [1, 2])
def test_hand_over_leaves_no_gap(event, segments):
    """V6, V12: with a live peer the addresses are answered for all the time, and it has them alone within 0.2 s."""
    network = pair(advert_interval=0.1, segments=segments)
    start = network.now

    def watch():
        for segment in range(segments):
            assert network.holders(segment)

    network.watch = watch
    network.feed_all(network.hosts[0], event)
    network.run(start + 0.2)
    assert all(network.holders(segment) == [1] for segment in range(segments))
    network.run(start + 5)
    assert all(network.holders(segment) == [1] for segment in range(segments))


def test_shutdown_without_a_peer():
    """V6: a router alone on its segment goes as well, an interval and 50 ms later."""
    network = pair()
    network.kill(network.hosts[1])
    network.feed_all(network.hosts[0], ev.Shutdown())
    network.run(network.now + 1.04)
    assert network.actives(0) == [0]
    network.run(network.now + 0.02)
    assert network.actives(0) == []


@pytest.mark.parametrize("peer", [True, False])
@pytest.mark.parametrize("segments", [1, 2])
def test_master_lost(peer, segments):
    """V18: without its master a host gives the address up at once; it takes it back after its down interval if nobody did."""
    network = pair(advert_interval=0.1, segments=segments)
    first, second = network.hosts
    if not peer:
        network.kill(second)
    lost = network.now
    network.feed_all(first, ev.MasterLost())
    assert network.actives(0) == []
    network.run(lost + 0.398)
    assert network.actives(0) == ([1] if peer else [])
    network.run(lost + 1)
    assert all(network.actives(segment) == ([1] if peer else [0]) for segment in range(segments))
    assert first.group.routers[0].effective_priority == 1
    network.feed_all(first, ev.MasterBack())
    network.run(lost + 2)
    assert all(network.actives(segment) == [0] for segment in range(segments))


def test_stopped_backup_moves_nothing():
    """V4: a backup that is stopped for a while and wakes up with a full socket takes nothing from the active router."""
    network = pair()
    moves = list(network.moves)
    network.stop(network.hosts[1])
    network.run(20.0)
    network.wake(network.hosts[1])
    network.run(30.0)
    assert network.moves == moves


def test_stopped_active_yields():
    """V15: an active router that wakes up after its lease sends nothing of its own, and the other stays undisturbed."""
    network = pair((150, 100), preempt=False)
    network.stop(network.hosts[0])
    network.run(20.0)
    assert network.holders(0) == [1]
    network.wake(network.hosts[0])
    network.run(30.0)
    assert network.actives(0) == [1]
    assert [move for _, host, _, move in network.moves if host == 1][-1].startswith("active")


def test_wall_clock_jumps():
    """V16: steps of an hour in both directions, with signed adverts and restarts in between, move nothing by themselves."""
    network = pair(keys=(KEY,))
    moves = list(network.moves)
    for step in (3600, -7200):
        for host in network.hosts:
            host.wall += step
        network.run(network.now + 10)
    assert network.moves == moves
    network.kill(network.hosts[0])
    network.run(network.now + 5)
    network.start(network.hosts[0])
    network.run(network.now + 5)
    assert network.actives(0) == [0]


def test_awaiting_verdicts():
    """V24: the stronger host takes no part before its first verdicts, and after 3 s without them it does."""
    network = pair(awaits_verdicts=True)
    assert min(when for when, _, _, move in network.moves if move.startswith("backup")) == 3.0
    network.kill(network.hosts[0])
    network.run(20.0)
    network.start(network.hosts[0])
    network.run(20.5)
    assert network.hosts[0].group.routers[0].state == "init"
    network.feed_all(network.hosts[0], ev.FirstVerdicts())
    network.run(24.5)
    assert network.actives(0) == [0]


CHANGES = st.lists(
    st.tuples(
        st.floats(0.01, 8),
        st.integers(0, 1),
        st.sampled_from([0.1, 0.5, 1.0, 3.0, 10.0]),
        st.integers(1, 100),
        st.booleans(),
        st.booleans(),
    ),
    max_size=12,
)


@settings(parent=MANY)
@given(changes=CHANGES, segments=st.integers(1, 2), seed=st.integers(0, 1000))
def test_changed_settings_move_nothing(changes, segments, seed):
    """R3: whatever changes in place, even if the first advert of it is lost, the host of the higher priority stays active."""
    network = Network(make_hosts([150, 100], segments), seed)
    for host in network.hosts:
        network.start(host)
    network.run(10)
    moves = list(network.moves)
    assert [network.actives(segment) for segment in range(segments)] == [[0]] * segments
    for wait, one, interval, priority, preempt, lost in changes:
        host = network.hosts[one]
        given_ = {"advert_interval": interval, "priority": (101, 0)[one] + priority, "preempt": preempt}
        host.configs = [replace(config, **given_) for config in host.configs]
        network.faults.loss = float(lost)
        events = zip(host.group.routers, map(ev.Reconfigured, host.configs), strict=True)
        network.perform(host, host.group.handle_each(list(events), network.now + host.offset))
        network.faults.loss = 0.0
        network.run(network.now + wait)
    network.run(network.now + 40)
    assert network.moves == moves
    assert [network.holders(segment) for segment in range(segments)] == [[0]] * segments
