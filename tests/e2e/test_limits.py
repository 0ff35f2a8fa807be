"""Limits of a daemon with two workers: they count for the host, whichever worker a client reaches."""

import socket
import time
from contextlib import suppress
from pathlib import Path

from tests.e2e.loopback import (
    Backend,
    Node,
    Status,
    asker,
    dns_service,
    echo_service,
    exchange,
    free_port,
    lift_loopback,
)


def of(status: Status, name: str) -> dict[str, int]:
    """Return a service's counters, and the active and the queued connections of its backends."""
    (service,) = [one for one in status["services"] if one["name"] == name]
    sums = {key: sum(backend[key] for backend in service["backends"]) for key in ("active", "queued")}
    return service["counters"] | {f"backends_{key}": value for key, value in sums.items()}


def test_limits_are_the_hosts(tmp_path: Path) -> None:
    """T21, S8: slots of backends, the queue, and a client's rate and connections are counted over all workers.

    A waiting client is shown as queued and is served when a connection ends; a client's rate holds for all its ports.
    """
    lift_loopback()
    backends = [Backend(), Backend()]
    dns, echo = free_port(), free_port()
    limits = "backend-defaults = { max-connections = 2 }\nqueue = { size = 3, timeout = '20s' }\nmax-connections-per-client = 8"
    text = dns_service(dns, backends, 'rate-per-client = "10/s"') + echo_service(echo, backends, limits)
    node = Node(tmp_path, text).start()
    clients: list[socket.socket] = []
    try:
        clients.extend(socket.create_connection(("127.0.0.1", echo), timeout=10) for _ in range(7))
        found = node.until(lambda status: of(status, "echo")["backends_queued"] == 3, "three clients to wait")
        counters = of(found, "echo")
        assert (counters["backends_active"], counters["queued"], counters["connections"]) == (4, 3, 7)
        for _ in range(3):
            with suppress(ConnectionResetError):  # it may come before `connect` has returned
                clients.append(socket.create_connection(("127.0.0.1", echo), timeout=10))
        # One finds the queue full; two, with seven that are open, may be one too many of their client.
        node.until(
            lambda status: of(status, "echo")["refused_limit"] + of(status, "echo")["refused_client"] == 3,
            "three to be refused",
        )
        served = 0
        while served < 7:
            ready = [sock for sock in clients if _served(sock)]
            for sock in ready:
                served += 1
                sock.close()
                clients.remove(sock)
        assert of(node.fresh(), "echo")["queue_timeout"] == 0

        with asker(dns) as one:
            began = time.monotonic()
            one.ask(100)
            one.collect(1.0)
            took = time.monotonic() - began
            answered = len(backends[0].queries) + len(backends[1].queries)
            assert 10 <= answered <= 10 + 10 * took + 1
            counters = of(node.fresh(), "dns")
            assert counters["rate_limited"] == 100 - answered
            assert 2 * counters["truncated"] in range(counters["rate_limited"] - 2, counters["rate_limited"] + 1)
    finally:
        for sock in clients:
            sock.close()
        node.end()
        for backend in backends:
            backend.close()


def _served(sock: socket.socket) -> bool:
    """Return True if a client is served within a moment, False if it waits or was reset."""
    sock.settimeout(0.2)
    try:
        return exchange(sock, b"hello") == b"hello"
    except OSError:
        return False
