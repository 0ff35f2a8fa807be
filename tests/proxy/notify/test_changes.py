"""proxy.notify.changes: what is told, and to whom."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.config.model import Notify
from proxy.notify.changes import REASON, Known, Told, chosen


def backend(name, state, reason="because"):
    """Return a backend's state."""
    return Known("backend", name, state, 3, reason)


def service(name, state):
    """Return a service's state."""
    return Known("service", name, state, 2, "2 of 3 backends can serve")


def notify(name, on=(), to=()):
    """Return a notification."""
    return Notify.model_construct(name=name, on=tuple(on), to=tuple(to), command=("/bin/true",), fifo=None, batch=False)


def test_only_what_fails_is_told_at_first():
    """What was never told of counts as up and serving: a start tells only of the rest."""
    rows = [service("a", "serving"), service("b", "refusing"), backend("a/x", "up"), backend("a/y", "reserve")]
    told = Told()
    assert told.news(rows) == [rows[1], rows[3]]
    assert told.news(rows) == []
    assert told.tree == {"a/y": "reserve", "b": "refusing"}


def test_a_restart_tells_of_what_changed_meanwhile():
    """What was told last is kept: only what is other than that is told."""
    told = Told({"a/x": "down", "a/y": "down"})
    assert told.news([backend("a/x", "down"), backend("a/y", "up")]) == [backend("a/y", "up")]
    assert told.tree == {"a/x": "down"}


def test_what_is_gone_is_forgotten():
    """A backend that was removed begins anew if it comes back."""
    told = Told({"a/x": "down", "a/y": "down"})
    told.keep({"a", "a/y"})
    assert told.tree == {"a/y": "down"}


@given(
    st.one_of(
        st.none(), st.integers(), st.lists(st.text()), st.dictionaries(st.text(), st.one_of(st.text(), st.none()))
    )
)
def test_any_document_can_be_read(content):
    """Whatever the file says, it is read: what makes no sense counts as nothing."""
    assert set(Told(content).tree.values()) <= {"down", "reserve", "refusing"}


@given(
    st.lists(st.tuples(st.sampled_from(["a/x", "a/y", "b/x"]), st.sampled_from(["up", "down", "reserve"])), max_size=40)
)
def test_states_are_told_once_and_in_order(states):
    """For each backend what is told are its states in order, beginning with up, without repetitions."""
    told, found = Told(), {}
    for name, state in states:
        for one in told.news([backend(name, state)]):
            found.setdefault(one.name, ["up"]).append(one.state)
    for name in {name for name, _ in states}:
        wanted = ["up"]
        for other, state in states:
            if other == name and state != wanted[-1]:
                wanted.append(state)
        assert found.get(name, ["up"]) == wanted


def test_each_gets_what_it_asks_for():
    """A service's name is that of its backends too; states are compared exactly; without both everything is told."""
    rows = [service("dns", "refusing"), backend("dns/a", "down"), backend("web/b", "down"), backend("web/c", "reserve")]
    notifies = [
        notify("all"), notify("dns", ["dns"]), notify("one", ["dns/a"]), notify("backends", ["*/*"]),
        notify("down", to=["down"]), notify("quorum", ["d*"], ["refusing"]), notify("nobody", ["mail"]),
    ]  # fmt: skip
    found = {name: [move[1] for move in moves] for name, moves in chosen(notifies, rows).items()}
    assert found == {
        "all": ["dns", "dns/a", "web/b", "web/c"],
        "dns": ["dns", "dns/a"],
        "one": ["dns/a"],
        "backends": ["dns/a", "web/b", "web/c"],
        "down": ["dns/a", "web/b"],
        "quorum": ["dns"],
    }


def test_words_are_harmless():
    """S3: what a hostile server said reaches a program as one bounded line without control characters."""
    (kind, name, state, number, reason) = backend("a/x", "down", "220 \x1b[2J\nforged " + "x" * 9999).move
    assert (kind, name, state, number) == ("BACKEND", "a/x", "DOWN", "3")
    assert reason.startswith("220 \\x1b[2J\\x0aforged xxx")
    assert len(reason) == REASON
