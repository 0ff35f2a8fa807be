"""Probes and verdicts: whether a backend's service works, in the words of its own protocol.

A leaf package: it knows neither the load balancer nor the virtual address, and runs in a process of its own.
"""
