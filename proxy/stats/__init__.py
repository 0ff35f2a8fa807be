"""Counters in shared memory, and the one view of the running system that is made from them."""
