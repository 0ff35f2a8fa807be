"""The worker processes as the master sees them: supervision, listeners, plans.

May import backends, processes, stats and the relay's plan.
"""
