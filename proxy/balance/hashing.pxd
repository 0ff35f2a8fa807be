"""The second hash on C integers: products are cut to 64 bits, as `_MASK` does in Python."""

from libc.stdint cimport uint64_t

cdef uint64_t _MASK, _STEP, _FIRST, _SECOND

cpdef uint64_t rehash(uint64_t key) noexcept
