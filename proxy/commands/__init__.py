"""What the control socket answers, one file a command: arguments in, rows out.

May import backends, pair, probing, status, workers and control. What a command changes lives in one of these rooms.
"""
