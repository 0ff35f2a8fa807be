"""The virtual address: VRRP (RFC 9568).  A leaf: knows neither proxy nor health.  Run by itself so far (`python -m vrrp`): the daemon does not start it yet."""
