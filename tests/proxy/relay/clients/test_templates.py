"""The table of templates."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.relay.clients.templates import LONGEST, MAGIC, SLOT_BITS, WAYS, cells_for
from proxy.relay.native.templates import Templates


def table(buckets=1):
    cells = memoryview(bytearray(8 * cells_for(buckets))).cast("q")
    cells[0], cells[1] = MAGIC, buckets
    return Templates(cells)


def slot_of(templates, key, now):
    return templates.find(key, now)


def test_a_template_lasts_until_it_expires():
    """It is found before its expiry, not at it, and a renewal makes it last longer and never shorter."""
    templates = table()
    assert templates.find(7, 0.0) is None
    assert not templates.put(7, 3, 100.0, 110.0)
    assert slot_of(templates, 7, 109.9) == 3
    assert slot_of(templates, 7, 110.0) is None
    found = templates.find(7, 100.0)
    templates.renew(7, found, 120.0)
    templates.renew(7, found, 105.0)
    assert slot_of(templates, 7, 119.9) == 3
    assert slot_of(templates, 7, 120.0) is None


def test_a_renewal_does_not_touch_what_is_anothers():
    """Whoever renews a template whose place went to another key meanwhile changes nothing."""
    templates = table()
    templates.put(7, 3, 100.0, 110.0)
    found = templates.find(7, 100.0)
    for key in range(100, 100 + WAYS):
        templates.put(key, 5, 100.0, 130.0 + key)
    assert templates.find(7, 100.0) is None
    before = templates.cells.tobytes()
    templates.renew(7, found, 999.0)
    assert templates.cells.tobytes() == before


def test_a_full_bucket_gives_up_the_one_that_expires_first():
    """The ninth template takes an expired place where there is one, else that of the first to expire, and says so."""
    templates = table()
    for key in range(1, WAYS + 1):
        assert not templates.put(key, key, 0.0, 100.0 + key)
    assert templates.put(50, 9, 10.0, 200.0)
    assert slot_of(templates, 1, 10.0) is None
    assert slot_of(templates, 2, 10.0) == 2
    assert slot_of(templates, 50, 10.0) == 9
    assert not templates.put(51, 9, 102.5, 200.0)  # 2 has expired
    assert [slot_of(templates, key, 102.5) for key in (3, 50, 51)] == [3, 9, 9]


def test_the_longest_and_largest_fit():
    """The greatest slot and ten years from a host that has been up for ten fit into a cell."""
    templates = table()
    templates.put(2**63 - 1, (1 << SLOT_BITS) - 1, LONGEST, 2 * LONGEST)
    assert slot_of(templates, 2**63 - 1, 2 * LONGEST - 1) == (1 << SLOT_BITS) - 1


@given(
    st.integers(1, 3),
    st.lists(
        st.tuples(
            st.sampled_from(["put", "find", "renew"]), st.integers(1, 30), st.integers(0, 50), st.integers(0, 20)
        ),
        max_size=120,
    ),
)
def test_it_agrees_with_a_slow_model(buckets, acts):
    """After any operations each bucket equals a dictionary of at most WAYS entries that drops the first to expire."""
    templates = table(buckets)
    model = [{} for _ in range(buckets)]  # key -> (slot, expiry)
    now = 1.0
    for act, key, slot, wait in acts:
        now += wait / 8
        own = model[key % buckets]
        live = {one: end for one, (_, end) in own.items() if end > now}
        if act == "put":
            given_up = key not in own and len(live) >= WAYS
            if given_up:
                least = min(live.values())
                assert templates.put(key, slot, now, now + 10)
                (gone,) = [one for one in live if templates.find(one, now) is None]
                assert live[gone] == least
                del own[gone]
            else:
                assert not templates.put(key, slot, now, now + 10)
                if key not in own and len(own) >= WAYS:
                    del own[min((one for one in own if one not in live), key=lambda one: own[one][1])]
            own[key] = slot, now + 10
        elif act == "renew" and key in live:
            templates.renew(key, templates.find(key, now), now + 12)
            own[key] = own[key][0], max(live[key], now + 12)
        for one, (kept, end) in own.items():
            assert slot_of(templates, one, now) == (kept if end > now else None)
