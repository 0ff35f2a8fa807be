"""What operators have changed, laid over another file: which acts it ends, and what is then in force."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from proxy.backends.overlay import Acts, Changed, laid_over, surviving, wanted
from proxy.config.model import Backend, Config, Listener, Service
from proxy.config.settings import NodeSettings

NAMES = [f"192.0.2.{last}" for last in range(1, 6)]
SERVICES = ["dns", "web"]
ADMINS = ["ready", "drain", "maint"]


def service(name, *backends):
    """A service over UDP with these backends."""
    listeners = (Listener(address="192.0.2.100", port=53, transport="udp"),)
    return Service(name=name, listeners=listeners, backends=backends)


def backend(name, weight=1, admin="ready", **more):
    """A backend whose address is its name."""
    return Backend(name=name, address=more.pop("address", name), weight=weight, admin=admin, **more)


def config(*services):
    """A file with these services."""
    return Config(node=NodeSettings(name="n"), services=services)


BACKENDS = st.builds(backend, st.sampled_from(NAMES), st.integers(1, 3), st.sampled_from(ADMINS))
FILES = st.lists(
    st.builds(
        lambda name, backends: service(name, *backends),
        st.sampled_from(SERVICES),
        st.lists(BACKENDS, min_size=1, max_size=4, unique_by=lambda one: one.name),
    ),
    max_size=2,
    unique_by=lambda one: one.name,
).map(lambda services: config(*services))
KEYS = st.tuples(st.sampled_from(SERVICES), st.sampled_from(NAMES))


def table(file):
    """The backends of a file by key."""
    return {(service.name, one.name): one for service in file.services for one in service.backends}


@st.composite
def acts_on(draw, file):
    """Acts as operators could have done them with this file: each remembers its value."""
    there = table(file)
    services = {one.name for one in file.services}
    added = {key: backend(key[1], 2) for key in draw(st.lists(KEYS, unique=True)) if key[0] in services - {""}}
    added = {key: one for key, one in added.items() if key not in there}
    there |= added
    if not there:
        return Acts()
    some = st.lists(st.sampled_from(sorted(there)), unique=True)
    weights = {key: Changed(draw(st.integers(0, 4)), there[key].weight) for key in draw(some)}
    admins = {key: Changed(draw(st.sampled_from(ADMINS)), there[key].admin) for key in draw(some)}
    removed: set = set()
    for key in draw(some):
        if any(other[0] == key[0] and other not in removed | {key} for other in there):
            removed.add(key)
    return Acts(admins, weights, added, frozenset(removed))


def for_file(acts, new):
    """The acts with their additions as another file makes them, as the caller of `surviving` has to do it."""
    services = {one.name for one in new.services}
    added = {key: one for key, one in acts.added.items() if key[0] in services}
    return replace(acts, added=added, removed=acts.removed - (acts.added.keys() - added.keys()))


@given(st.data())
def test_the_laws_of_surviving_acts(data):
    """R9: for any two files, an act survives exactly if the second file has the value that it replaced, once and for all."""
    old, new = data.draw(FILES), data.draw(FILES)
    acts = for_file(data.draw(acts_on(old)), new)
    left, ended = surviving(acts, new)
    filed = table(new)
    there = {**left.added, **filed}
    for kind, value in (("weights", "weight"), ("admins", "admin")):
        before, after = getattr(acts, kind), getattr(left, kind)
        for key, act in before.items():
            assert (key in after) == (key in there and getattr(there[key], value) == act.filed)
        assert after.items() <= before.items()
    assert left.added == {key: one for key, one in acts.added.items() if key not in filed}
    removed = {key for key in acts.removed if key in (left.added if key in acts.added else filed)}
    for one in new.services:
        own = {key for key in there if key[0] == one.name}
        if own <= removed:
            removed -= filed.keys() & own
    assert left.removed == removed
    assert all(one.text for one in ended)
    assert surviving(left, new) == (left, [])


@given(st.data())
def test_the_laws_of_what_is_in_force(data):
    """R9: for any file and acts, the file's order is kept, no service is left empty, what stays is listed, and it is final."""
    old, new = data.draw(FILES), data.draw(FILES)
    left, _ = surviving(for_file(data.draw(acts_on(old)), new), new)
    names = {one.name for one in new.services}
    target = wanted(new, left)
    staying = {key: one for key, one in data.draw(acts_on(old)).added.items() if key[0] in names}
    staying = {key: one for key, one in {**table(old), **staying}.items() if key[0] in names and key not in target}
    force = laid_over(new, left, staying)
    assert [one.name for one in force] == [one.name for one in new.services]
    for service, own in zip(force, new.services, strict=True):
        listed = [(service.name, one.name) for one in service.backends]
        assert set(listed) == {key for key in target | staying.keys() if key[0] == service.name}
        assert len(set(listed)) == len(listed)
        assert any(key in target for key in listed)
        filed = [(own.name, one.name) for one in own.backends]
        assert [key for key in listed if key in filed] == [key for key in filed if key in listed]
        assert [key in filed for key in listed] == sorted((key in filed for key in listed), reverse=True)
        assert [key for key in listed if key in left.added] == [key for key in left.added if key in listed]
        for key, one in zip(listed, service.backends, strict=True):
            if key in staying:
                assert one == staying[key]
            elif key in left.weights:
                assert one.weight == left.weights[key].value
        assert service.model_copy(update={"backends": own.backends}) == own
    assert laid_over(new, Acts(), {}) == new.services


def test_each_end_has_its_reason():
    """R9: what ends an act is told: another value, a backend or a service that is gone, one that is the file's now."""
    acts = Acts(
        {("dns", "a"): Changed("drain", "ready"), ("dns", "b"): Changed("maint", "ready")},
        {("dns", "a"): Changed(5, 1)},
        {("dns", "192.0.2.3"): backend("192.0.2.3"), ("dns", "192.0.2.4"): backend("192.0.2.4")},
        frozenset({("dns", "c")}),
    )
    rows = (
        backend("a", 2, "maint", address="192.0.2.1"),
        backend("192.0.2.3"),
        backend("d", address="192.0.2.4", port=53),
    )
    left, ended = surviving(acts, config(service("dns", *rows)))
    assert left == Acts()
    assert [(one.key[1], one.text) for one in ended] == [
        ("192.0.2.3", '"added" has ended: the service has it from the file now'),
        ("192.0.2.4", '"added" has ended: the service has it from the file now, as d'),
        ("c", '"removed" has ended: the backend is no longer in the file'),
        ("a", '"weight 5" has ended: the file\'s weight is 2 now, no longer 1'),
        ("a", '"drain" has ended: the file says "maint" now, no longer "ready"'),
        ("b", '"maint" has ended: the backend is no longer in the file'),
    ]


def test_no_service_is_left_empty():
    """R9: where the file has only what operators removed, it is back, unless an added backend serves instead."""
    file = config(service("dns", backend("192.0.2.1"), backend("192.0.2.2")))
    gone = frozenset({("dns", "192.0.2.1"), ("dns", "192.0.2.2")})
    left, ended = surviving(Acts(removed=gone), file)
    assert (left.removed, [one.why for one in ended]) == (
        frozenset(),
        ["the service would have no backend any more"] * 2,
    )
    left, ended = surviving(Acts(added={("dns", "192.0.2.9"): backend("192.0.2.9")}, removed=gone), file)
    assert (left.removed, ended) == (gone, [])


def test_an_added_backend_that_leaves():
    """R9: what was added and is leaving stays so, until the file has it: then it is the file's and stays."""
    key = ("dns", "192.0.2.9")
    acts = Acts(added={key: backend("192.0.2.9")}, removed=frozenset({key}))
    assert surviving(acts, config(service("dns", backend("192.0.2.1")))) == (acts, [])
    left, ended = surviving(acts, config(service("dns", backend("192.0.2.1"), backend("192.0.2.9"))))
    assert (left, [one.act for one in ended]) == (Acts(), ["added"])
