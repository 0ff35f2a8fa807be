"""The virtual address: VRRP (RFC 9568).  A leaf: knows neither proxy nor health.  Not in this version yet."""
