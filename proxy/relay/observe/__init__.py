"""The operators' view of the relay: connection log, lists of open connections, followers, picks.

Imports tcp, udp and dns, which report to it through the observer that they are given.
"""
