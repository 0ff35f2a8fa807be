"""What people see of the relay: connection log, lists of what is open, followers, picks.

Imports tcp, udp and dns, which report to it by an observer that they are given.
"""
