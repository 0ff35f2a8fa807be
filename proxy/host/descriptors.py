"""How many descriptors a process may have, and how many connections that makes."""

from proxy.config.model import Config
from proxy.relay.native import pipes
from proxy.relay.sockets.transparent import STOCK

SPARE_FILES = 512  # descriptors of a worker for all else, such as the sockets to DNS backends


FILES_A_CONNECTION = 2


LEAST_CONNECTIONS = 32  # a worker that can have fewer is not worth its start


def least_files(config: Config) -> int:
    """Return how many descriptors a process must be able to have: every member, and something to serve with."""
    listeners = sum(len(service.listeners) for service in config.services)
    return listeners * config.node.workers + _spare(config) + FILES_A_CONNECTION * LEAST_CONNECTIONS


def most_connections(config: Config, open_files: int) -> int:
    """Return how many connections one worker may have open at a time."""
    listeners = sum(len(service.listeners) for service in config.services)
    affordable = max(1, (open_files - _spare(config) - listeners * config.node.workers) // FILES_A_CONNECTION)
    if config.node.max_connections is None:
        return affordable
    return min(affordable, _share(config.node.max_connections, config.node.workers))


def _spare(config: Config) -> int:
    """Return the descriptors that connections leave alone: a worker's own, its pipes, and its stocks of transparent sockets."""
    kinds = {
        (":" in listener.address, listener.transport)
        for service in config.services
        if service.transparent
        for listener in service.listeners
    }
    return SPARE_FILES + pipes.MOST * pipes.FILES + STOCK * len(kinds)


def _share(whole: int, parts: int) -> int:
    return -(-whole // parts)
