"""Probes and verdicts: each probe checks a backend's service in that service's own protocol.

A leaf package: it imports neither the load balancer nor the virtual addresses, and it runs in a separate process.
"""
