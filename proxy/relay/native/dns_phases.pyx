"""DNS queries in flight: when each is sent again, and when it is given up.  No I/O.

A query goes through phases, each of which ends a fixed time after the query began (`proxy.relay.dns.inflight.moments`).
So each phase is a list in which queries are ordered by their due times, and one timer serves it.  An answered query
leaves nothing behind: there may be 40,000 queries a second.
"""

from libc.stdlib cimport free, malloc, qsort

from proxy.relay.native.dns_query cimport Waiting
from proxy.relay.native.timers cimport Timers, prepare_deadline

from proxy.relay.dns import inflight

cdef double GRAIN = inflight.GRAIN
cdef Py_ssize_t RIPE = inflight.RIPE


cdef class Phases:
    """All queries in flight, by phase."""

    def __cinit__(self):
        cdef int number
        for number in range(PHASES):
            self._phases[number].head.previous = self._phases[number].head.next = &self._phases[number].head
            prepare_deadline(&self._phases[number].timer, _due, &self._phases[number])
            self._phases[number].number = number
            self._phases[number].phases = <void *>self

    def __init__(self, Timers timers, tuple ends):
        """`ends` are the times, in seconds after a query began, at which its phases end; the last one ends the query."""
        self._timers = timers
        self._take(ends)

    cdef int _take(self, tuple ends) except -1:
        cdef int number
        if not 0 < len(ends) <= PHASES:
            raise ValueError(f"{len(ends)} phases")
        self._count = len(ends)
        for number in range(self._count):
            self._ends[number] = ends[number]
        return 0

    cdef void call(
        self, int (*silent)(void *, Waiting *, double) except -1, int (*over)(void *, Waiting *) except -1, void *owner
    ) noexcept:
        """Call `silent(owner, one, now)` to send a query again, `over(owner, one)`, which must finish it, at the end."""
        self._silent = silent
        self._over = over
        self._owner = owner

    cdef int add(self, Waiting *one, double started) except -1:
        """Add a query to the first phase."""
        one.started = started
        one.phase = 0
        one.due = started + self._ends[0]
        if self._phases[0].timer.place < 0:
            self._arm(0, one.due)
        _append(&self._phases[0].head, one)
        self.count += 1
        return 0

    cdef void remove(self, Waiting *one) noexcept:
        """Remove a query that is over."""
        _unlink(one)
        self.count -= 1

    cdef Waiting *first(self) noexcept:
        """Return any query; NULL if there is none."""
        cdef int number
        for number in range(self._count):
            if self._phases[number].head.next != &self._phases[number].head:
                return self._phases[number].head.next
        return NULL

    cdef int retime(self, tuple ends) except -1:
        """Use other times, also for the queries in flight: what is due by them already is done at once."""
        cdef Waiting **all = NULL
        cdef Waiting *one
        cdef Py_ssize_t at = 0
        cdef int number
        if ends == tuple([self._ends[number] for number in range(self._count)]):
            return 0
        if not 0 < len(ends) <= PHASES:
            raise ValueError(f"{len(ends)} phases")
        all = <Waiting **>malloc(max(1, self.count) * sizeof(Waiting *))
        if all == NULL:
            raise MemoryError
        for number in range(self._count):
            self._timers.unset(&self._phases[number].timer)
            while self._phases[number].head.next != &self._phases[number].head:
                all[at] = self._phases[number].head.next
                _unlink(all[at])
                at += 1
        qsort(all, at, sizeof(Waiting *), _older)
        self._take(ends)
        for number in range(at):
            one = all[number]
            one.phase = min(one.phase, self._count - 1)
            one.due = one.started + self._ends[one.phase]
            _append(&self._phases[one.phase].head, one)
        free(all)
        for number in range(self._count):
            if self._phases[number].head.next != &self._phases[number].head:
                self._arm(number, self._phases[number].head.next.due)
        return 0

    cdef int _arm(self, int number, double when) except -1:
        return self._timers.set(&self._phases[number].timer, when)

    cdef int _advance(self, Waiting *one) except -1:
        _unlink(one)
        one.phase += 1
        one.due = one.started + self._ends[one.phase]
        _append(&self._phases[one.phase].head, one)
        if self._phases[one.phase].timer.place < 0:
            self._arm(one.phase, one.due)
        return 0

    cdef int _look(self, int number, double now) except -1:
        """Send again, or give up, the queries of a phase that are due."""
        cdef Phase *phase = &self._phases[number]
        cdef Waiting *one
        cdef Py_ssize_t left = RIPE
        try:
            while left and phase.head.next != &phase.head:
                one = phase.head.next
                if one.due > now:
                    break
                left -= 1
                if now >= one.started + self._ends[self._count - 1]:
                    self._over(self._owner, one)
                else:
                    self._advance(one)
                    self._silent(self._owner, one, now)
        finally:
            if phase.head.next != &phase.head:
                self._arm(number, max(phase.head.next.due, now + GRAIN))

    def __dealloc__(self):
        cdef int number
        if self._timers is not None:
            for number in range(PHASES):
                self._timers.unset(&self._phases[number].timer)


cdef int _due(void *owner, double now) except -1:
    cdef Phase *phase = <Phase *>owner
    return (<Phases>phase.phases)._look(phase.number, now)


cdef inline void _append(Waiting *head, Waiting *one) noexcept:
    one.previous = head.previous
    one.next = head
    head.previous.next = one
    head.previous = one


cdef inline void _unlink(Waiting *one) noexcept:
    one.previous.next = one.next
    one.next.previous = one.previous
    one.previous = one.next = NULL


cdef int _older(const void *one, const void *other) noexcept nogil:
    cdef double difference = (<Waiting **>one)[0].started - (<Waiting **>other)[0].started
    return (difference > 0) - (difference < 0)


cdef class Patience:
    """Phases of Python's items."""

    cdef Phases _phases
    cdef dict _turns
    cdef public object on_silent, on_end

    def __init__(self, Timers timers, tuple ends, on_silent, on_end):
        """Call `on_silent(item, now)` at the end of each phase but the last, `on_end(item)`, which must remove it, then."""
        self._phases = Phases(timers, ends)
        self._phases.call(_item_silent, _item_over, <void *>self)
        self._turns = {}
        self.on_silent = on_silent
        self.on_end = on_end

    def __len__(self):
        return self._phases.count

    def add(self, item, double now):
        """Add an item that begins now."""
        cdef _Turn turn = _Turn()
        turn.item = item
        self._turns[item] = turn
        self._phases.add(&turn.turn, now)

    def remove(self, item):
        """Remove an item."""
        cdef _Turn turn = self._turns.pop(item)
        self._phases.remove(&turn.turn)

    def retime(self, tuple ends):
        """Use other times."""
        self._phases.retime(ends)



cdef class _Turn:
    cdef Waiting turn
    cdef object item


cdef object _item(Patience patience, Waiting *one):
    cdef _Turn turn
    for turn in patience._turns.values():
        if &turn.turn == one:
            return turn.item
    raise LookupError


cdef int _item_silent(void *owner, Waiting *one, double now) except -1:
    patience = <Patience>owner
    patience.on_silent(_item(patience, one), now)
    return 0


cdef int _item_over(void *owner, Waiting *one) except -1:
    patience = <Patience>owner
    patience.on_end(_item(patience, one))
    return 0
