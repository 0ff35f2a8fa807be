"""Acts of two hosts: whatever happens to the messages, both end with the same."""

from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.peer.acts import Acts, Entry, Key
from proxy.peer.clock import MOST_AHEAD, ZERO, Stamp

KEYS = [Key("admin", "dns", "10.0.0.1"), Key("admin", "dns", "10.0.0.2"), Key("weight", "dns", "10.0.0.1")]


def an_act(key: Key = KEYS[0], act: str = "drain", weight: int | None = None) -> Entry:
    """Return an act without its stamps."""
    return Entry(key=key, stamp=ZERO, act=act, weight=weight, by="uid 0", at=1.0)


def state(acts: Acts) -> dict[Key, tuple[str, int | None]]:
    """Return what is in force."""
    return {entry.key: entry.value for entry in acts.entries}


def catch_up(one: Acts, other: Acts, now: int) -> None:
    """Let each tell the other what it lacks."""
    for source, target in ((one, other), (other, one)):
        target.merge(source.floor, source.missing(target.stamps()), now)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("act"), st.integers(0, 1), st.integers(0, 2), st.sampled_from(["drain", "maint", "ready"])),
        st.tuples(st.just("clear"), st.integers(0, 1)),
        st.tuples(st.just("deliver"), st.integers(0, 1), st.integers(0, 30)),
        st.tuples(st.just("catch up")),
    ),
    max_size=30,
)


@settings(max_examples=300)
@given(STEPS, st.lists(st.integers(0, 2000), min_size=31, max_size=31), st.booleans())
def test_any_order_ends_equal(steps, times, backwards):
    """Invariant: with messages lost, late, repeated and replayed, and any clocks, both hosts end with the same acts."""
    hosts, sent = [Acts("a"), Acts("b")], ([], [])
    for number, step in enumerate(steps):
        now = 10_000 + (-times[number] if backwards else times[number])
        match step:
            case ("act", host, key, act):
                acts = hosts[host]
                sent[host].append((acts.floor, [acts.add(an_act(KEYS[key], act), now)]))
            case ("clear", host):
                hosts[host].clear(now)
                sent[host].append((hosts[host].floor, []))
            case ("deliver", host, which) if sent[1 - host]:
                hosts[host].merge(*sent[1 - host][which % len(sent[1 - host])], now)
            case ("catch up",):
                catch_up(*hosts, now)
    catch_up(*hosts, 20_000)
    assert state(hosts[0]) == state(hosts[1])
    assert hosts[0].digest() == hosts[1].digest()
    for host in (0, 1):  # all that was ever said, once more
        for floor, entries in reversed(sent[1 - host]):
            assert hosts[host].merge(floor, entries, 20_000).empty
    assert state(hosts[0]) == state(hosts[1])


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 20), st.integers(0, 50)), max_size=60))
def test_the_bound_keeps_the_newest(steps):
    """Invariant: with more acts than are kept, both hosts keep the same newest ones."""
    hosts = [Acts("a", most=5), Acts("b", most=5)]
    for host, which, now in steps:
        hosts[host].add(an_act(Key("admin", "dns", str(which))), now)
        assert len(hosts[host]) <= 5
    for _ in range(2):
        catch_up(*hosts, 100)
    assert hosts[0].digest() == hosts[1].digest()


def test_crossing_acts_are_noticed_on_both():
    """Two acts of which neither host knew the other's have one winner, and both hosts learn of the crossing."""
    a, b = Acts("a"), Acts("b")
    ours, theirs = a.add(an_act(act="drain"), 100), b.add(an_act(act="maint"), 101)
    on_a, on_b = a.merge(b.floor, [theirs], 200), b.merge(a.floor, [ours], 200)
    assert on_a.crossed == [(theirs, ours)]
    assert on_b.crossed == [(theirs, ours)]
    assert (on_a.news, on_b.news) == ([theirs], [])
    assert state(a) == state(b) == {KEYS[0]: ("maint", None)}


def test_one_act_after_the_other_is_no_crossing():
    """An act on what the other host did before it crosses nothing, nor does the replay of the earlier one."""
    a, b = Acts("a"), Acts("b")
    first = a.add(an_act(act="drain"), 100)
    b.merge(a.floor, [first], 100)
    second = b.add(an_act(act="ready"), 101)
    merged = a.merge(b.floor, [second], 101)
    assert (merged.news, merged.crossed) == ([second], [])
    assert b.merge(a.floor, [first], 101).crossed == []


def test_equal_acts_do_not_cross():
    """If both hosts did the same, nothing has crossed."""
    a, b = Acts("a"), Acts("b")
    a.add(an_act(), 100)
    assert a.merge(b.floor, [b.add(an_act(), 101)], 101).crossed == []


def test_clear_is_a_floor():
    """An act from before `overrides clear` stays over, even if it arrives afterwards."""
    a, b = Acts("a"), Acts("b")
    late = a.add(an_act(), 100)
    b.clear(200)
    assert b.merge(a.floor, [late], 200).empty
    merged = a.merge(b.floor, [], 200)
    assert merged.cleared
    assert state(a) == {}
    assert a.add(an_act(), 150).stamp > a.floor  # though the wall clock is behind


def test_an_ended_act_is_known_and_not_put_into_force():
    """An act that a file has ended is passed on as ended: a host that does not know it only takes note."""
    a, b = Acts("a"), Acts("b")
    entry = a.add(an_act(), 100)
    a.end(entry.key)
    assert b.merge(a.floor, a.missing(b.stamps()), 100).news == []
    assert a.digest() == b.digest()


def test_an_ended_act_replaces_one_in_force():
    """If an ended act is later than one that is in force, it is put into force in its place."""
    a, b = Acts("a"), Acts("b")
    a.add(an_act(act="maint"), 50)
    b.add(an_act(act="drain"), 100)
    b.end(KEYS[0])
    assert [one.value for one in a.merge(b.floor, b.missing(a.stamps()), 100).news] == [("drain", None)]


def test_a_clock_ahead_is_refused():
    """Acts from too far in the future are refused, with the reason, and the others are taken."""
    a = Acts("a")
    good = an_act(KEYS[1]).model_copy(update={"stamp": Stamp(10, 0, "b")})
    bad = an_act(KEYS[0]).model_copy(update={"stamp": Stamp(10 * MOST_AHEAD, 0, "b")})
    merged = a.merge(ZERO, [bad, good], 100)
    assert merged.news == [good]
    assert "ahead of ours" in merged.refused
    assert "ahead of ours" in a.merge(Stamp(10 * MOST_AHEAD, 0, "b"), [], 100).refused
    assert a.floor == ZERO


def test_rows_restore_all():
    """What is saved is known after a restart, and the clock does not go back behind it."""
    a = Acts("a")
    a.clear(50)
    a.add(an_act(), 1000)
    rows = a.rows()
    again = Acts("a")
    again.restore(Stamp(*rows["floor"]), [Entry.model_validate_json(a.get(KEYS[0]).model_dump_json())])
    assert again.digest() == a.digest()
    assert again.add(an_act(), 10).stamp > a.get(KEYS[0]).stamp
