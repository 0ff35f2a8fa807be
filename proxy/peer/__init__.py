"""What the two hosts of a pair say to each other, and what becomes of it: messages, clock, shared acts, the peer's verdicts.

Nothing here decides who has an address.  Imports nothing of the daemon.
"""
