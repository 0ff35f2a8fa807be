"""SipHash-1-3, the keyed hash of tables that clients fill, as Python uses it for its dictionaries.

A client that knows the code cannot choose addresses or messages that fall into one bucket.
"""

from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy


cdef struct Secret:
    uint64_t zero
    uint64_t one


cdef inline uint64_t _turned(uint64_t word, int bits) noexcept nogil:
    return word << bits | word >> (64 - bits)


cdef inline void _stir(uint64_t *v) noexcept nogil:
    v[0] += v[1]
    v[2] += v[3]
    v[1] = _turned(v[1], 13) ^ v[0]
    v[3] = _turned(v[3], 16) ^ v[2]
    v[0] = _turned(v[0], 32)
    v[2] += v[1]
    v[0] += v[3]
    v[1] = _turned(v[1], 17) ^ v[2]
    v[3] = _turned(v[3], 21) ^ v[0]
    v[2] = _turned(v[2], 32)


cdef inline uint64_t keyed_hash(const Secret *secret, uint64_t before, const void *data, size_t size) noexcept nogil:
    """Return the hash of a word, `before`, and of `size` octets after it."""
    cdef const uint8_t *at = <const uint8_t *>data
    cdef uint64_t v[4]
    cdef uint64_t word = before
    cdef size_t left = size
    v[0] = secret.zero ^ <uint64_t>0x736F6D6570736575
    v[1] = secret.one ^ <uint64_t>0x646F72616E646F6D
    v[2] = secret.zero ^ <uint64_t>0x6C7967656E657261
    v[3] = secret.one ^ <uint64_t>0x7465646279746573
    while True:
        v[3] ^= word
        _stir(v)
        v[0] ^= word
        if left < 8:
            break
        memcpy(&word, at, 8)
        at += 8
        left -= 8
    word = 0
    memcpy(&word, at, left)
    word |= <uint64_t>(size + 8) << 56
    v[3] ^= word
    _stir(v)
    v[0] ^= word
    v[2] ^= 0xFF
    _stir(v)
    _stir(v)
    _stir(v)
    return v[0] ^ v[1] ^ v[2] ^ v[3]
