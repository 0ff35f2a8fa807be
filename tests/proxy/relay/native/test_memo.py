"""What is remembered of clients' hosts."""

from socket import AF_INET, AF_INET6, inet_ntop

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.relay.native.memo import Memo


@given(st.lists(st.ip_addresses(), max_size=50), st.data())
def test_a_memo_returns_what_its_function_does(hosts, data):
    """A host has the function's number whenever it is asked, whatever its port, its scope and the hosts before it."""
    memo = Memo(hash)
    for _ in range(3 * len(hosts)):
        drawn = data.draw(st.sampled_from(hosts))
        host = inet_ntop(AF_INET if drawn.version == 4 else AF_INET6, drawn.packed)  # the system's form of it
        client = (host, 53) if "." in host else (host, 80, 7, 1)
        assert memo.of(client) == hash(host)


def test_a_host_is_computed_once():
    """The function is asked once for a known host, and again only for one that another has driven out."""
    asked = []
    memo = Memo(lambda host: asked.append(host) or len(asked))
    assert [memo.of(("192.0.2.1", port)) for port in range(3)] == [1, 1, 1]
    assert [memo.of(("fe80::1", 1, 0, scope)) for scope in range(3)] == [2, 2, 2]
    assert asked == ["192.0.2.1", "fe80::1"]
    for number in range(20_000):
        memo.of((f"10.0.{number >> 8}.{number & 255}", 1))
    assert len(asked) == 20_002


def test_families_do_not_mix():
    """An IPv4 address and IPv6 addresses with the same bits are different hosts."""
    memo = Memo(len)
    assert memo.of(("1.2.3.4", 1)) == 7
    assert memo.of(("::4.3.2.1", 1, 0, 0)) == len("::4.3.2.1")
    assert memo.of(("0.0.0.0", 1)) == 7
    assert memo.of(("::", 1, 0, 0)) == 2


def test_all_bits_are_kept():
    """Keys of 64 bits keep their bits, as numbers with a sign."""
    assert Memo(lambda _: (1 << 64) - 2).of(("::", 1, 0, 0)) == -2
    assert Memo(lambda _: -1).of(("::", 1, 0, 0)) == -1
    assert Memo(lambda _: (1 << 63) - 1).of(("::", 1, 0, 0)) == (1 << 63) - 1


def test_errors_are_not_remembered():
    """An exception of the function reaches the caller, and the host is asked for again."""
    answers = iter([0, 5])
    memo = Memo(lambda _: 10 // next(answers))
    with pytest.raises(ZeroDivisionError):
        memo.of(("192.0.2.1", 1))
    assert memo.of(("192.0.2.1", 1)) == 2
