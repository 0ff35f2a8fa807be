"""Counters in shared memory, and the sums of all workers' counters."""
