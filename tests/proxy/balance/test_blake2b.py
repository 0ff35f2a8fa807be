"""The hash of keys."""

from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.balance.blake2b import hash_key


def digest(data):
    """Return what OpenSSL or CPython gives."""
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "big")


@given(st.binary(max_size=700))
def test_it_is_hashlibs(data):
    """The key of any octets is their BLAKE2b, as `hashlib` has it."""
    assert hash_key(data) == digest(data)


@pytest.mark.parametrize("size", [0, 1, 127, 128, 129, 255, 256, 257, 4096])
def test_blocks_end_where_they_should(size):
    """Data that fills its blocks, or just does not, has the same key as in `hashlib`."""
    data = (bytes(range(256)) * 16)[:size]
    assert hash_key(data) == digest(data)
