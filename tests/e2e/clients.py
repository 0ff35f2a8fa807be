"""Real clients for the bed: each runs to its end in a host, and returns its measurements or its answer.

A client that fails raises BedError with its output, so that a test compares answers and nothing else.
"""

import re
import socket
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.bed import Bed
from tests.e2e.process import BedError, Proc
from tests.e2e.servers import DNS_HOSTS, MYSQL_PASSWORD, MYSQL_USER

TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM


def url(address: str, port: int, path: str = "") -> str:
    """Return an http URL; IPv6 addresses in brackets."""
    return f"http://{f'[{address}]' if ':' in address else address}:{port}{path}"


def number(pattern: str, text: str, default: float | None = None) -> float:
    """Return the first group of `pattern` as a number. Raises BedError if it does not match and there is no default."""
    found = re.search(pattern, text)
    if found:
        return float(found[1])
    if default is None:
        message = f"no {pattern!r} in:\n{text}"
        raise BedError(message)
    return default


# DNS


def dig(bed: Bed, address: str, name: str, kind: str = "A", *options: str, port: int = 53, host: str = "client") -> str:
    """Return the output of `dig +short`, or of dig with `options` instead, with one try of 5 s."""
    done = bed.run(
        host, ["dig", "+tries=1", "+time=5", *(options or ("+short",)), "-p", str(port), f"@{address}", name, kind]
    )
    if done.returncode:
        message = f"dig {name} {kind} at {address}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        raise BedError(message)
    return done.stdout.strip()


def whoami_dns(bed: Bed, address: str, port: int = 53, *, tcp: bool = False, host: str = "client") -> str:
    """Return the name of the DNS server that answers."""
    how = ("+short", "+tcp") if tcp else ("+short",)
    return dig(bed, address, "whoami.example.net", "TXT", *how, port=port, host=host).strip('"')


@dataclass(frozen=True)
class DnsLoad:
    """The counts of dnsperf; latencies in seconds."""

    sent: int
    completed: int
    lost: int
    rcodes: dict[str, int]
    seconds: float
    rate: float
    latency: float
    latency_min: float
    latency_max: float
    text: str = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> "DnsLoad":
        """Read the summary that dnsperf prints at its end. Raises BedError."""
        codes = re.search(r"Response codes:\s+(.*)", text)
        text = re.sub(r"\[Timeout\].*\n", "", text)  # one line for every lost query: they are counted below
        return cls(
            sent=int(number(r"Queries sent:\s+(\d+)", text)),
            completed=int(number(r"Queries completed:\s+(\d+)", text)),
            lost=int(number(r"Queries lost:\s+(\d+)", text)),
            rcodes={code: int(count) for code, count in re.findall(r"(\w+) (\d+) \(", codes[1])} if codes else {},
            seconds=number(r"Run time \(s\):\s+([\d.]+)", text),
            rate=number(r"Queries per second:\s+([\d.]+)", text),
            latency=number(r"Average Latency \(s\):\s+([\d.]+)", text, 0.0),
            latency_min=number(r"Average Latency \(s\):\s+[\d.]+ \(min ([\d.]+)", text, 0.0),
            latency_max=number(r"Average Latency \(s\):\s+[\d.]+ \(min [\d.]+, max ([\d.]+)", text, 0.0),
            text=text,
        )


def queries(bed: Bed) -> Path:
    """Return a file of queries for dnsperf, all of them answered NOERROR by the servers of the bed."""
    path = bed.dir / "queries"
    if not path.exists():
        path.write_text("".join(f"h{host}.example.net A\n" for host in range(DNS_HOSTS)))
    return path


def dnsperf_start(
    bed: Bed,
    address: str,
    seconds: float,
    *,
    port: int = 53,
    rate: int | None = None,
    outstanding: int = 100,
    clients: int = 1,
    tcp: bool = False,
    cpus: str | None = None,
    host: str = "client",
) -> Proc:
    """Start dnsperf: `rate` queries a second at most, `outstanding` unanswered at most, `clients` sockets."""
    argv: list[str | Path] = ["dnsperf", "-W", "-s", address, "-p", str(port), "-d", queries(bed), "-l", f"{seconds:g}"]
    argv += ["-q", str(outstanding), "-c", str(clients), "-T", "1", "-m", "tcp" if tcp else "udp", "-b", "2048"]
    if rate:
        argv += ["-Q", str(rate)]
    return bed.spawn(host, argv, cpus=cpus)


def dnsperf_result(load: Proc, timeout: float) -> DnsLoad:
    """Wait for dnsperf and return its counts. Raises BedError, subprocess.TimeoutExpired."""
    code = load.wait(timeout)
    if code:
        raise BedError(load.report())
    return DnsLoad.parse(load.output())


# HTTP


@dataclass(frozen=True)
class HttpLoad:
    """The counts of wrk; `errors` are sockets that failed to connect, read, write or answer in time."""

    requests: int
    seconds: float
    rate: float
    octets_per_second: float
    errors: int
    not_ok: int
    latency: float
    text: str = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> "HttpLoad":
        """Read what wrk prints. Raises BedError."""
        units = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "B": 1.0, "KB": 1024.0, "MB": 1024.0**2, "GB": 1024.0**3}

        def scaled(pattern: str) -> float:
            found = re.search(pattern, text)
            if found is None:
                message = f"no {pattern!r} in:\n{text}"
                raise BedError(message)
            return float(found[1]) * units[found[2]]

        failed = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
        return cls(
            requests=int(number(r"(\d+) requests in", text)),
            seconds=scaled(r"requests in ([\d.]+)(us|ms|s|m)"),
            rate=number(r"Requests/sec:\s+([\d.]+)", text),
            octets_per_second=scaled(r"Transfer/sec:\s+([\d.]+)(B|KB|MB|GB)"),
            errors=sum(map(int, failed.groups())) if failed else 0,
            not_ok=int(number(r"Non-2xx or 3xx responses: (\d+)", text, 0.0)),
            latency=scaled(r"Latency\s+([\d.]+)(us|ms|s|m)"),
            text=text,
        )


def wrk(
    bed: Bed,
    target: str,
    seconds: int,
    *,
    connections: int = 32,
    headers: tuple[str, ...] = (),
    cpus: str | None = None,
    host: str = "client",
) -> HttpLoad:
    """Load an http URL with one thread, and return the counts."""
    argv = [
        "wrk",
        "-t",
        "1",
        "-c",
        str(connections),
        "-d",
        f"{seconds}s",
        *(f"-H{header}" for header in headers),
        target,
    ]
    return HttpLoad.parse(bed.run(host, argv, timeout=seconds + 30, check=True, cpus=cpus).stdout)


def curl(bed: Bed, target: str, *options: str, timeout: float = 30.0, host: str = "client") -> str:
    """Return the body of an http answer; errors of HTTP are failures too."""
    return bed.run(
        host, ["curl", "-sSf", "--noproxy", "*", "-m", f"{timeout:g}", *options, target], timeout + 5, check=True
    ).stdout


def whoami_http(bed: Bed, address: str, port: int = 80, *, host: str = "client") -> str:
    """Return the name of the HTTP server that answers."""
    return curl(bed, url(address, port, "/whoami"), host=host).strip()


# LDAP and MySQL


def ldapsearch(bed: Bed, address: str, base: str, *options: str, port: int = 389, host: str = "client") -> str:
    """Return the entries found anonymously below `base`, as LDIF."""
    target = f"ldap://{f'[{address}]' if ':' in address else address}:{port}"
    argv = ["ldapsearch", "-x", "-LLL", "-o", "nettimeout=5", "-H", target, "-b", base, *options]
    return bed.run(host, argv, check=True).stdout


def whoami_ldap(bed: Bed, address: str, port: int = 389, *, host: str = "client") -> str:
    """Return the name of the LDAP server that answers."""
    entry = ldapsearch(bed, address, "cn=whoami,dc=example,dc=net", port=port, host=host)
    found = re.search(r"^description: (.*)$", entry, re.MULTILINE)
    return found[1] if found else ""


def mysql(bed: Bed, address: str, statement: str, *, port: int = 3306, host: str = "client") -> str:
    """Return the output of the mariadb client for `statement`, without column names."""
    login = ["mariadb", "--no-defaults", f"-h{address}", f"-P{port}", f"-u{MYSQL_USER}", f"-p{MYSQL_PASSWORD}"]
    return bed.run(host, [*login, "--connect-timeout=5", "-N", "-B", "-e", statement], check=True).stdout.strip()


def whoami_mysql(bed: Bed, address: str, port: int = 3306, *, host: str = "client") -> str:
    """Return the number of the MySQL server that answers."""
    return mysql(bed, address, "select @@server_id", port=port, host=host)
