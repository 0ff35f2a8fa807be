"""The configurations that `scale` compares: pure.

Each begins as the plain one, with two backends, and differs in one thing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.works import BACKENDS, Work
from proxy.balance.names import SCHEDULERS

FIRST_PORT = 7000  # of the servers' many ports
PROXIED_PORT = 6999  # this one wants PROXY headers
OTHER_PORT = 20000  # of the services that nobody asks


@dataclass(frozen=True)
class Configuration:
    """One file: `keys` are lines of the service's table, `log` of [log]."""

    name: str
    backends: int = 2
    services: int = 1
    workers: int = 1
    connections: int = 0  # that are open and idle while the load runs
    keys: tuple[str, ...] = ()
    log: tuple[str, ...] = ()
    port: int = 0  # of the backends; 0: many ports

    def addresses(self) -> list[str]:
        """Return the backends: ports of the two servers in turn."""
        found = []
        for number in range(self.backends):
            port = self.port or FIRST_PORT + number // len(BACKENDS)
            found.append(f'"{BACKENDS[number % len(BACKENDS)]}:{port}"')
        return found

    def text(self, work: Work, address: str, directory: Path) -> str:
        """Return the file for a work whose service is at `address`; logs go to `directory`."""
        keys = "\n".join(self.keys)
        log = "\n".join(line.replace("DIRECTORY", str(directory)) for line in self.log)
        parts = [f"[log]\n{log}"] if log else []
        for number in range(self.services):
            port = work.port if not number else OTHER_PORT + number
            parts.append(f"""[service.s{number}]
listen   = ["{address}:{port}/{work.transport}"]
protocol = "{work.protocol}"
backends = [{", ".join(self.addresses())}]
probe    = {{ type = "none" }}
{keys}""")
        return "\n\n".join(parts)


@dataclass(frozen=True)
class Group:
    """Configurations that are compared with each other, under each of `loads`."""

    loads: Sequence[str]
    configurations: Callable[[str], list[Configuration]]


def plain(load: str) -> Configuration:
    """Return what the others are compared with."""
    del load
    return Configuration("plain")


def _backends(load: str) -> list[Configuration]:
    del load
    return [Configuration(f"{count} backends", backends=count) for count in (1, 10, 100, 1000)]


def _services(load: str) -> list[Configuration]:
    del load
    return [Configuration(f"{count} services", services=count) for count in (20, 200)]


def _connections(load: str) -> list[Configuration]:
    del load
    return [Configuration(f"{count} open connections", connections=count) for count in (1000, 9000)]


def _workers(load: str) -> list[Configuration]:
    del load
    return [Configuration("2 workers, on all processors", workers=2)]


def _schedulers(load: str) -> list[Configuration]:
    del load
    base = Configuration("", backends=10)
    return [replace(base, name=f"{name}, 10 backends", keys=(f'scheduler = "{name}"',)) for name in SCHEDULERS]


def _features(load: str) -> list[Configuration]:
    everybody = 'allow = ["198.51.100.0/24", "10.0.0.0/8"]'
    rows = [
        Configuration("persistence", keys=('persistence = { timeout = "5m" }',)),
        Configuration("rate-per-client", keys=('rate-per-client = "1000000/s"',)),
        Configuration("allow", keys=(everybody,)),
        Configuration("max-connections of backends", keys=("backend-defaults = { max-connections = 100000 }",)),
        Configuration("eject", keys=("eject = { errors = 1000 }",)),
    ]
    if load == "dns":
        rows.append(Configuration("client-subnet", keys=('dns = { client-subnet = "on" }',)))
        rows.append(Configuration("hash-on query-name", keys=('scheduler = "maglev"', 'hash-on = "query-name"')))
    else:
        rows.append(Configuration("max-connections-per-client", keys=("max-connections-per-client = 100000",)))
        rows.append(Configuration("connection log: all", log=CONNECTION_LOG))
        rows.append(Configuration("send-proxy", keys=('send-proxy = "v2"',), port=PROXIED_PORT))
    return rows


CONNECTION_LOG = ('connections = "all"', 'connections-to = "DIRECTORY/connections.log"')
GROUPS: dict[str, Group] = {
    "backends": Group(("dns", "connect"), _backends),
    "services": Group(("dns", "connect"), _services),
    "connections": Group(("http",), _connections),
    "workers": Group(("dns", "connect"), _workers),
    "features": Group(("dns", "connect"), _features),
    "schedulers": Group(("dns", "connect"), _schedulers),
}
