"""Hash keys."""

import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from proxy.balance.hashing import hash_key, rehash


def test_keys_are_the_same_everywhere():
    """A key depends on its data alone: these values hold on every host and for every version to come."""
    assert hash_key(b"") == 0xE4A6A0577479B2B4
    assert hash_key(bytes([192, 0, 2, 1])) == int(
        subprocess.run(
            [sys.executable, "-c", "from proxy.balance.hashing import *; print(hash_key(bytes([192, 0, 2, 1])))"],
            env={"PYTHONHASHSEED": "7", "PYTHONPATH": ":".join(filter(None, sys.path)) or "."},
            capture_output=True,
            check=True,
        ).stdout
    )


@given(st.integers(0, 2**64 - 1), st.integers(0, 63))
def test_rehash_stays_in_64_bits_and_mixes(key, bit):
    """The next key has 64 bits, and one bit of the key changes about half of its bits."""
    assert 0 <= rehash(key) < 2**64
    assert 8 <= (rehash(key) ^ rehash(key ^ 1 << bit)).bit_count() <= 56


def test_rehash_of_small_numbers_spreads_evenly():
    """Slots 0 to 9999, rehashed, fall into ten equal parts within a tenth."""
    parts = [0] * 10
    for slot in range(10_000):
        parts[rehash(slot) % 10] += 1
    assert all(900 < part < 1100 for part in parts)
