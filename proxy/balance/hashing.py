"""Hash keys: 64 bits, the same on every host and in every process, independent of PYTHONHASHSEED."""

from typing import Final

from proxy.balance.blake2b import hash_key

__all__ = ["hash_key", "rehash"]

KEY_BITS: Final = 64
_MASK: Final = (1 << KEY_BITS) - 1
_STEP: Final = 0x9E3779B97F4A7C15
_FIRST: Final = 0xBF58476D1CE4E5B9
_SECOND: Final = 0x94D049BB133111EB


def rehash(key: int) -> int:
    """Return the next key to try if the first one leads to a backend that is not usable.

    This is the finaliser of SplitMix64 (Steele, Lea, Flood 2014): every bit of the key affects every bit of the result,
    so the clients of one lost backend spread over all others.
    """
    key = (key + _STEP) & _MASK
    key = ((key ^ (key >> 30)) * _FIRST) & _MASK
    key = ((key ^ (key >> 27)) * _SECOND) & _MASK
    return key ^ (key >> 31)
