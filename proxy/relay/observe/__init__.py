"""What people see of the relay: connection log, lists of what is open, followers, picks.

Nothing in tcp, udp or dns imports it but through an observer that it is given.
"""
