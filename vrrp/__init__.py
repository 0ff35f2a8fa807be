"""The virtual addresses: VRRP (RFC 9568).  It imports neither proxy nor health; `python -m vrrp` runs it alone."""
