"""BLAKE2b with a digest of 64 bits and without a key (RFC 7693): hash keys of a few octets, without an object.

`hashlib` gives the same, and takes five times as long to make its object and its digest.
"""

from libc.string cimport memcpy, memset

cdef enum:
    BLOCK = 128
    ROUNDS = 12

cdef uint64_t[8] START = [
    0x6A09E667F3BCC908, 0xBB67AE8584CAA73B, 0x3C6EF372FE94F82B, 0xA54FF53A5F1D36F1,
    0x510E527FADE682D1, 0x9B05688C2B3E6C1F, 0x1F83D9ABFB41BD6B, 0x5BE0CD19137E2179,
]
cdef uint8_t[10][16] ORDER = [
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
    [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
    [11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4],
    [7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8],
    [9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13],
    [2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
    [12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11],
    [13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10],
    [6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5],
    [10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
]


cdef inline uint64_t _turned(uint64_t word, int bits) noexcept nogil:
    return word >> bits | word << (64 - bits)


cdef inline void _mix(uint64_t *v, int a, int b, int c, int d, uint64_t x, uint64_t y) noexcept nogil:
    v[a] += v[b] + x
    v[d] = _turned(v[d] ^ v[a], 32)
    v[c] += v[d]
    v[b] = _turned(v[b] ^ v[c], 24)
    v[a] += v[b] + y
    v[d] = _turned(v[d] ^ v[a], 16)
    v[c] += v[d]
    v[b] = _turned(v[b] ^ v[c], 63)


cdef void _compress(uint64_t *state, const uint8_t *block, uint64_t count, bint last) noexcept nogil:
    cdef uint64_t v[16]
    cdef uint64_t m[16]
    cdef const uint8_t *s
    cdef int at
    memcpy(m, block, BLOCK)  # little-endian, as the supported machines are
    for at in range(8):
        v[at] = state[at]
        v[at + 8] = START[at]
    v[12] ^= count
    if last:
        v[14] = ~v[14]
    for at in range(ROUNDS):
        s = ORDER[at % 10]
        _mix(v, 0, 4, 8, 12, m[s[0]], m[s[1]])
        _mix(v, 1, 5, 9, 13, m[s[2]], m[s[3]])
        _mix(v, 2, 6, 10, 14, m[s[4]], m[s[5]])
        _mix(v, 3, 7, 11, 15, m[s[6]], m[s[7]])
        _mix(v, 0, 5, 10, 15, m[s[8]], m[s[9]])
        _mix(v, 1, 6, 11, 12, m[s[10]], m[s[11]])
        _mix(v, 2, 7, 8, 13, m[s[12]], m[s[13]])
        _mix(v, 3, 4, 9, 14, m[s[14]], m[s[15]])
    for at in range(8):
        state[at] ^= v[at] ^ v[at + 8]


cdef uint64_t key_of(const uint8_t *data, size_t size) noexcept nogil:
    """Return the first 64 bits of the hash, as a number with the first octet first."""
    cdef uint64_t state[8]
    cdef uint8_t block[BLOCK]
    cdef size_t done = 0
    cdef uint64_t digest = 0
    cdef int at
    for at in range(8):
        state[at] = START[at]
    state[0] ^= 0x01010000 ^ 8  # one leaf, no key, 8 octets
    while size - done > BLOCK:
        done += BLOCK
        _compress(state, data + done - BLOCK, done, False)
    memset(block, 0, BLOCK)
    memcpy(block, data + done, size - done)
    _compress(state, block, size, True)
    for at in range(8):
        digest = digest << 8 | (state[0] >> 8 * at & 0xFF)
    return digest


def hash_key(bytes data not None):
    """Return the 64-bit key of `data`, for example of the client's address."""
    return key_of(data, len(data))
