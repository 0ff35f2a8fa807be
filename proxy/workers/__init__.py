"""The worker processes as the master sees them: supervision, listeners, plans.

Imports backends, processes and the relay's plan; knows no requests.
"""
