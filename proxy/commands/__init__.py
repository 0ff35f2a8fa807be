"""What the control socket answers, one file a command: arguments in, rows out.

Imports whatever room the command is about. What a command changes lives there.
"""
