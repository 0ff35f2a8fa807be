"""How soon a worker that has something to do gets a processor.

Linux 6.12 and later let a task ask for shorter turns (EEVDF): it gets as much time in all, but more often, and one that
wakes up is run before those with longer turns.  On a processor that others load, datagrams wait less; on a quiet one it
makes no difference.  It needs no privilege (sched_setattr(2); "Documentation/scheduler/sched-eevdf.rst").
"""

from libc.stdint cimport int32_t, uint32_t, uint64_t

cdef extern from * nogil:
    """
    #include <sys/syscall.h>
    #include <unistd.h>
    """
    long SYS_sched_getattr, SYS_sched_setattr
    long syscall(long, ...)

cdef struct Attributes:
    uint32_t size
    uint32_t policy
    uint64_t flags
    int32_t nice
    uint32_t priority
    uint64_t runtime
    uint64_t deadline
    uint64_t period


def shorten_turns(uint64_t nanoseconds):
    """Ask for turns of this length for the calling thread; return False if it has another policy, or the kernel refuses.

    The kernel's bounds are 0.1 to 100 ms.  A kernel before 6.12 accepts it and changes nothing.
    """
    cdef Attributes now
    if syscall(SYS_sched_getattr, 0, &now, <uint32_t>sizeof(Attributes), 0) < 0 or now.policy != 0:
        return False
    now.runtime = nanoseconds
    return syscall(SYS_sched_setattr, 0, &now, 0) == 0


def turns(int thread=0):
    """Return the length of a thread's turns (ns), by default of this one; 0 if the kernel does not tell."""
    cdef Attributes now
    if syscall(SYS_sched_getattr, thread, &now, <uint32_t>sizeof(Attributes), 0) < 0:
        return 0
    return now.runtime
