"""Who serves: the configuration in force, verdicts, and what operators want.

Imports config, balance, status and the messages of the children; knows no requests.
"""
