"""What of a service the data path touches with each query and connection."""

from libc.stdint cimport int64_t, uint64_t

from proxy.balance.trivial cimport Heedless
from proxy.relay.native.address cimport Address
from proxy.relay.native.cells cimport column
from proxy.relay.native.memo cimport Memo
from proxy.relay.native.rates cimport Rate
from proxy.relay.native.siblings cimport Siblings
from proxy.relay.target cimport Target


cdef class Slots:
    cdef Traffic _traffic
    cdef readonly Siblings siblings
    cdef public Target full
    cdef public object queue

    cpdef Target pick(self, uint64_t key, tried, double since=*)
    cpdef bint claim(self, Target target) except -1
    cpdef bint claim_behind(self, Target target, Py_ssize_t ahead) except -1
    cpdef unclaim(self, Target target)
    cpdef bint free(self, Target target, Py_ssize_t ahead=*) except -1
    cpdef freed(self)
    cdef Py_ssize_t _ahead(self, double since) except -1


cdef class Traffic:
    cdef int64_t *at  # the worker's column: `at[cell + SERVICE_QUERIES]`
    cdef readonly object cells
    cdef readonly Py_ssize_t cell
    cdef public Slots capacity
    cdef public object persistence, keeper
    cdef public bint timed
    cdef public Py_ssize_t epoch
    cdef object _selector
    cdef Heedless _scheduler  # the selector; None if it is not one that C can call
    cdef readonly bint needs_key, needs_changes
    cdef Memo _permitted, _source_keys
    cdef bint _by_question, _by_port
    cdef Rate _tcp_rate, _udp_rate

    cdef bint permits(self, const Address *address) except -1
    cdef bint too_fast(self, bint datagrams, const Address *address, double now) except -1
    cdef uint64_t source_key(self, bytes route, const Address *address, bytes question) except? 0
    cdef int64_t sticky(self, const Address *address) except? -1
    cdef Target _scheduled(self, uint64_t key, tried)
    cdef int _changed(self, Target target) except -1
    cdef bint _exceeds(self, int answer) noexcept

    cpdef Target pick(self, uint64_t key, tried, double since=*)
    cpdef bint claim(self, Target target) except -1
    cpdef unclaim(self, Target target)
    cpdef count(self, Py_ssize_t cell)
    cpdef took(self, Target target)
    cpdef adopted(self, Target target)
    cpdef gave_back(self, Target target)
