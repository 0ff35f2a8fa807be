"""The behaviours that must be true, and which of them no test names: `make behaviours`.

A test names a behaviour by its ID in the test's docstring, or in that of its class: T4, U20. A list, "U1, U2", names
each; there are no ranges. The same list is the map of what is still to be built.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
ID = re.compile(r"\b[PTHURSV][1-9][0-9]?\b")

BEHAVIOURS = {
    "T1": "a client's FIN reaches the backend, whose late answer still returns",
    "T2": "a backend's FIN reaches the client, whose late data still arrive",
    "T3": "a client's RST becomes an RST at the backend, after the bytes before it",
    "T4": "a backend's RST becomes an RST at the client, after the bytes before it",
    "T5": "an RST is noticed within 1 s while paused, half closed, or at a zero window",
    "T6": "the last bytes before FIN are never lost: 50 MiB both ways",
    "T7": "a stalled reader costs at most 256 KiB a direction, and resumes at once",
    "T8": "TCP_NODELAY on both sides, keepalive and user timeout configurable",
    "T9": "connect refused, reset or timed out: another backend, the client unaware",
    "T10": "every backend down: prompt RST, counted",
    "T11": "a client that leaves while we connect orphans nothing",
    "T12": "server-first protocols greet a silent client",
    "T13": "bytes sent before the backend connects arrive in order",
    "T14": "an out-of-band byte neither desyncs nor stalls",
    "T15": "the idle timer counts either direction, the FIN timer is its own",
    "T16": "draining: no new connections, old ones finish, hard stop at the deadline",
    "T17": "backend down: connections kept or reset, as configured",
    "T18": "a burst below the backlog loses no connection",
    "T19": "byte counters are exact; no descriptor is left after 100,000 connections",
    "T20": "out of descriptors: accepting pauses and resumes, everything else lives on",
    "T21": "max-connections of a backend queues, then times out",
    "T22": "PROXY v1 and v2 to the backend, accepted from listed sources only",
    "T23": "transparent mode: the backend sees the client's address",
    "T24": "slow start ramps a returning backend's share",
    "T25": "an old connection that is quiet is retired by FINs, and reset after fin-timeout",
    "U1": "1,000 clients sharing one query ID each get their own answer",
    "U2": "a reply with a wrong ID, question, address or port is dropped and counted",
    "U3": "a late reply never reaches the slot's next owner",
    "U4": "truncated answers pass, the TCP retry works through the same service",
    "U5": "replies of 512 to 65,507 bytes arrive intact, fragmented ones too",
    "U6": "the payload is byte-identical but for the ID",
    "U7": "port unreachable: immediate retry elsewhere, listener unaffected",
    "U8": "a backend socket heals after ICMP errors, lost routes, changed addresses",
    "U9": "a silent backend: retried on another, exactly one answer",
    "U10": "a client's retransmit joins the query in flight; only QUERY is sent twice",
    "U11": "replies leave from the address that was asked, on wildcard listeners too",
    "U12": "a zero-length datagram is forwarded (udp) or dropped (dns)",
    "U13": "datagrams of 0-11 bytes and random bytes are harmless",
    "U14": "sessions expire in time; a full table follows its policy and counts",
    "U15": "sessions of a removed or downed backend move on the next datagram",
    "U16": "DNS over TCP: segments, pipelining, order, 65,535 bytes, AXFR",
    "U17": "no backend: SERVFAIL with the question; an answer sent as a query is dropped",
    "U18": "a million spoofed sources: memory flat, real clients answered",
    "U19": "source port 0 is never answered",
    "U20": "IDs and ports come from a CSPRNG; identical queries in flight are capped",
    "H1": "start: no traffic before the first pass, which needs no rise",
    "H2": "fall failures down, rise passes up, counters reset between",
    "H3": "a closed port or an ICMP error fails at once",
    "H4": "a probe always ends at its timeout, and reads a bounded amount",
    "H5": "probes start spread and jittered; slow ones delay no other",
    "H6": "recovering and failing backends are probed at their own intervals",
    "H7": "DNS: the wanted answer passes; SERVFAIL, REFUSED, lame, wrong ID fail",
    "H8": "MySQL: logins, roles, replication lag, Galera; refused logins keep verdicts",
    "H9": "LDAP: binds, TLS, search, contextCSN lag, clean unbind",
    "H10": "HTTP, SMTP, POP3, IMAP, script",
    "H11": "one probe serves every service with the same target and question",
    "H12": "failed connects of real traffic bring the next probe forward",
    "H13": "every change carries its reason to log, events and status",
    "H14": "quorum, backup backends, fail-open or fail-closed",
    "H15": "all, any, K of N probes; report-only",
    "V1": "bad adverts are dropped and counted; the parser survives any bytes",
    "V2": "sent adverts are as the RFC and the file say",
    "V3": "timers with the active router's interval, never truncated",
    "V4": "backup: priority 0, preemption",
    "V5": "active: yields to the higher, answers the lower",
    "V6": "shutdown sends priority 0, and hands over first",
    "V7": "owner 255",
    "V8": "gratuitous ARP and unsolicited NA, repeated and refreshed",
    "V9": "keepalived accepts our adverts and we theirs",
    "V10": "unicast: an advert from a non-peer changes nothing",
    "V11": "preempt off, delay, tracking, fault",
    "V12": "sync groups move together",
    "V13": "link down: fault, address removed",
    "V14": "all killed or stopped: the lease ends within 2.5 s",
    "V15": "a stopped active yields within one advert of waking",
    "V16": "a step of the wall clock changes nothing",
    "V17": "a busy data plane never delays an advert",
    "V18": "master or every worker gone: priority 0, then backup at 1",
    "V19": "partition: two actives are detected; healing leaves one, announced",
    "V20": "notify scripts and FIFO as keepalived's, without a shell",
    "V21": "HMAC-SHA256 trailer with replay window",
    "V22": "connections through an address handed over are reset first",
    "V23": "an address that was removed is put back, announced and told",
    "V24": "no election before the first verdicts, at most 3 s",
    "V25": "removing one address removes no other; it is never our source",
    "R1": "an invalid file changes nothing, and says file:line:col",
    "R2": "check binds nothing",
    "R3": "reload applies a difference in place",
    "R4": "100 reloads under load lose nothing",
    "R5": "concurrent reloads serialise",
    "R6": "listeners added and removed live; a new binary takes the sockets over",
    "R7": "bad control commands have no effect; a stuck client delays nobody",
    "R8": "metrics parse with the official parser, monotonic across reloads",
    "R9": "admin state survives a reload and, on request, a restart",
    "R10": "a stopped worker costs nothing where it has a sibling; polled again in 1.5 s",
    "R11": "a second daemon on the same port is refused and told who holds it",
    "R12": "reexec and restart lose nothing; a new version that cannot start changes nothing",
    "R13": "what check accepts on this host, run starts",
    "R14": "no reader of status, metrics or the page delays anyone",
    "R15": "a stuck or full disk stops nothing; what cannot be saved is not half done",
    "S1": "no capabilities and another user but for vrrp",
    "S2": "control socket 0600, credentials checked, capped",
    "S3": "HTTP on loopback, read-only, capped, escaped",
    "S4": "a script that others can write is refused",
    "S5": "no fixed names in shared directories, no planted symlinks",
    "S6": "secrets never appear anywhere",
    "S7": "a world-writable configuration is refused by root",
    "S8": "TCP caps: clients, handshakes, silent and slow ones",
    "S9": "backends are hostile too",
    "S10": "native code is clean under sanitizers while fuzzed",
    "P1": "an act reaches both hosts or says that it did not; a host that was away catches up; crossing acts end equal",
    "P2": "no state of the peer link moves an address, or a verdict beyond what peer-verdict says",
    "P3": "files that differ are told, line by line, secrets masked",
    "P4": "push changes both hosts or neither",
    "P5": "the anycast marker is there exactly while its tracks can be served",
    "P6": "a withdrawal cuts no connection before the drain",
    "P7": "a client's pick is equal on all hosts that see the same verdicts",
}


def names(source: str) -> Iterator[str]:
    """Yield every ID that the docstrings of tests in a module's `source` name."""
    for node in ast.walk(ast.parse(source)):
        wanted = isinstance(node, ast.ClassDef) and node.name.startswith("Test")
        wanted |= isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test")
        if wanted:
            yield from ID.findall(ast.get_docstring(node) or "")  # type: ignore[arg-type]


def main() -> int:
    """Print what no test names, and what tests name that does not exist; return 1 for the latter."""
    named: dict[str, list[str]] = {}
    for path in sorted(HERE.rglob("test_*.py")):
        for name in names(path.read_text()):
            named.setdefault(name, []).append(str(path.relative_to(HERE)))
    unnamed = [name for name in BEHAVIOURS if name not in named]
    for name in unnamed:
        print(f"{name:4} {BEHAVIOURS[name]}")
    print(f"{len(BEHAVIOURS) - len(unnamed)} of {len(BEHAVIOURS)} behaviours are named by a test.")
    unknown = {name: paths for name, paths in named.items() if name not in BEHAVIOURS}
    for name, paths in unknown.items():
        print(f"{name} is no behaviour, but is named in {', '.join(sorted(set(paths)))}", file=sys.stderr)
    return 1 if unknown else 0


if __name__ == "__main__":
    sys.exit(main())
