"""This host's part in the pair: its routers, and how fit it is to hold the addresses.

Imports config, processes and records; knows no requests.
"""
