"""A lively installation as snapshots: every state that the dashboard has a sign for, and rates that move."""

import math

from proxy.moments import rfc3339, unix

NOW = 1_790_000_000.0
"""The time of that installation, in Unix seconds."""
CURVE = 60
"""Looks before the first one that a picture shows."""
LISTENERS = {
    "dns": ["10.0.0.10:53/udp", "10.0.0.10:53/tcp"],
    "ldap": ["10.0.0.10:389/tcp", "10.0.0.10:636/tcp"],
    "mysql-write": ["10.0.0.10:3306/tcp"],
    "mysql-read": ["10.0.0.10:3307/tcp"],
    "syslog": ["10.0.0.10:514/udp"],
    "smtp": ["10.0.0.10:25/tcp"],
}
OPERATOR = {"admin_by": "uid 1000", "admin_reason": "new disks"}


def backend(name, kind, now, **more):
    """Return one backend; `kind` is the type of its probe."""
    state, reason = more.get("state", "up"), more.get("reason", "connected in 0.6 ms")
    probe = {
        "type": kind,
        "ok": state in {"up", "reserve"},
        "reason": reason,
        "latency_ms": 1.1,
        "at": rfc3339(now - 1.2),
    }
    since = rfc3339(more.pop("since", now - 273_600))
    return {
        "name": name, "address": name, "state": state, "reason": reason, "admin": "ready", "admin_by": None,
        "admin_reason": None, "tier": 0, "weight": 1, "effective_weight": 1 if state == "up" else 0, "active": 0, "queued": 0,
        "total": 0, "rate": 0.0, "latency_ms": {"p50": None, "p99": None}, "bytes_in": 0, "bytes_out": 0,
        "errors": {"connect_refused": 0, "no_answer": 0}, "since": since, "origin": "file", "probes": [probe], **more,
    }  # fmt: skip


def _wave(at, period, low, high):
    return round(low + (high - low) * (0.5 + 0.5 * math.sin(at / period)), 1)


def _services(at, now):
    answer = "NOERROR in 1.1 ms, serial 2026112901"
    dns = [
        backend("10.0.0.11", "dns", now, reason=answer, active=3, rate=_wave(at, 5, 3200, 4100),
                latency_ms={"p50": round(_wave(at, 8, 3.5, 5) / 10, 2), "p99": _wave(at, 7, 2, 4.2)}),
        backend("10.0.0.12", "dns", now, state="down", reason="no answer within 1 s (3 failures in a row)", since=now - 95,
                errors={"connect_refused": 0, "no_answer": 40 + at}),
        backend("2001:db8::13", "dns", now, reason=answer, active=2, rate=_wave(at, 6, 2900, 4600),
                latency_ms={"p50": 0.44, "p99": _wave(at, 11, 5, 13)}),
    ]  # fmt: skip
    found = "found dc=example,dc=net in 1.1 ms"
    ldap = [
        backend("10.0.0.21", "ldap", now, reason=found, active=212, total=48_211, bytes_in=71_000_000, bytes_out=912_000_000,
                rate=_wave(at, 4, 8, 14), latency_ms={"p50": 0.3, "p99": 1.1}),
        backend("10.0.0.22", "ldap", now, reason=found, active=87, admin="drain", effective_weight=0, since=now - 1260,
                latency_ms={"p50": 0.31, "p99": 1.2}, **OPERATOR),
    ]  # fmt: skip
    write = [
        backend("10.0.0.31", "mysql", now, reason="read_only is OFF: a writer", weight=2, effective_weight=2, active=64,
                rate=_wave(at, 7, 1, 4), latency_ms={"p50": 0.5, "p99": 2.2}),
        backend("10.0.0.32", "mysql", now, state="reserve", reason="read_only is OFF: a writer, of less weight"),
    ]  # fmt: skip
    read = [
        backend("10.0.0.31", "mysql", now, reason="replica, 0 s behind", active=31, rate=_wave(at, 3, 30, 60),
                latency_ms={"p50": 0.6, "p99": 4.0}),
        backend("10.0.0.32", "mysql", now, reason="replica, 1 s behind", active=29, rate=_wave(at, 4, 30, 60),
                latency_ms={"p50": 0.6, "p99": 4.4}),
        backend("10.0.0.33", "mysql", now, state="unknown", reason="in maintenance, not probed", admin="maint", since=now - 7300,
                admin_by="uid 0", admin_reason="rebuilds its replica", probes=[]),
    ]  # fmt: skip
    syslog = [backend("10.0.0.41", "udp", now, reason="no port unreachable in 1 s", active=340, rate=_wave(at, 9, 2, 9),
                      latency_ms={"p50": None, "p99": None})]  # fmt: skip
    smtp = [
        backend("10.0.0.51", "smtp", now, state="down", reason="421 4.3.2 [b]too busy[/b], come back later", since=now - 31,
                errors={"connect_refused": 12 + 3 * at, "no_answer": 0}),
        backend("mx2", "smtp", now, state="down", reason="connection refused (3 failures in a row)", since=now - 40,
                address="10.0.0.52"),
    ]  # fmt: skip
    return {"dns": dns, "ldap": ldap, "mysql-write": write, "mysql-read": read, "syslog": syslog, "smtp": smtp}


STATES = {"dns": "degraded", "smtp": "down"}


def lively(at, now):
    """Return the snapshot of the look number `at`, at `now` (Unix seconds)."""
    services = [
        {
            "name": name, "protocol": "dns" if name == "dns" else "plain", "listen": LISTENERS[name],
            "scheduler": "failover" if name == "mysql-write" else "least-connections", "state": STATES.get(name, "up"),
            "quorum": 1, "backends": backends,
            "counters": {"refused_no_backend": 4 * at if name == "smtp" else 0},
        }
        for name, backends in _services(at, now).items()
    ]  # fmt: skip
    router = {
        "name": "inside", "state": "active", "priority": 150, "effective_priority": 90, "standby": False, "standby_since": None, "standby_reason": None, "counters": {},
        "priority_parts": {"service smtp": -60}, "addresses": ["10.0.0.10/24", "2001:db8::10/64"], "since": rfc3339(now - 273_600),
        "peer": {"node": "lb2", "address": "10.0.0.3", "priority": 80, "last_advert_s": 0.4},
        "last_change": {"at": rfc3339(now - 273_600), "from": "backup", "to": "active", "reason": "lb2 gave it up"},
    }  # fmt: skip
    worker = {"pid": 4711, "alive": True, "restarts": 0, "generation": 4, "draining": False, "heartbeat_age_s": 0.05}
    return {
        "schema": 1, "node": "lb1", "state": "running", "version": "0.1.0", "uptime_s": 273_600.0 + at, "generation": 4,
        "config": {"sha256": "abcdef0123456789", "valid": True, "error": None, "on_disk_sha256": "abcdef0123456789", "overrides": 2},
        "services": services, "vrrp": [router], "alarms": [], "notify": [], "workers": [{"index": 0, **worker}, {"index": 1, **worker}],
    }  # fmt: skip


def events(now):
    """Return the last events of that installation, the oldest first."""
    rows = [
        (273_600, "vrrp", "inside", "backup -> active: lb2 gave it up", "info"),
        (7_300, "admin", "mysql-read/10.0.0.33", "maint by uid 0: rebuilds its replica", "info"),
        (1_260, "admin", "ldap/10.0.0.22", "drain by uid 1000: new disks", "info"),
        (95, "verdict", "dns/10.0.0.12", "up -> down: no answer within 1 s (3 failures in a row)", "warning"),
        (40, "verdict", "smtp/mx2", "up -> down: connection refused (3 failures in a row)", "warning"),
        (31, "verdict", "smtp/10.0.0.51", "up -> down: 421 4.3.2 [b]too busy[/b], come back later", "warning"),
        (31, "vrrp", "inside", "priority 150 -> 90: service smtp", "warning"),
    ]
    return [
        {"at": rfc3339(now - ago), "kind": kind, "subject": subject, "text": text, "level": level}
        for ago, kind, subject, text, level in rows
    ]


class Source:
    """That installation as a source: `away` says why it does not answer, `sent` has the commands that it got."""

    where = "/run/steelyard/control.sock"

    def __init__(self, began=NOW, *, writable=True):
        self.began = began
        self.writable = writable
        self.looks = 0
        self.away = None
        self.sent = []
        self.change = lambda status: status
        self.answers = {}

    def status(self):
        """Return the snapshot of the next look."""
        if self.away is not None:
            raise self.away
        self.looks += 1
        return self.change(lively(CURVE + self.looks, self.began))

    def events(self, last, since=None):
        """Return the last events."""
        return [event for event in events(self.began) if since is None or unix(event["at"]) >= since][-last:]

    def stream(self, command, **arguments):
        """Answer a command."""
        if command in self.answers:
            answer = self.answers[command]
            if isinstance(answer, Exception):
                raise answer
            yield from answer
            return
        if command == "latency":
            yield {
                "cells": [
                    (0.256, 11),
                    (0.32, 240),
                    (0.384, 1803),
                    (0.448, 2100),
                    (0.64, 640),
                    (1.28, 82),
                    (3.5, 40),
                    (14.3, 4),
                ]
            }
        elif command == "connections":
            yield {"connections": [connection(at) for at in range(212)], "more": True}
            yield {"connections": [], "queries_in_flight": {}, "unanswered": [], "more": False}
        else:
            self.sent.append((command, arguments))
            yield {"backends": [], "changed": True, "more": False}


def connection(at):
    """Return one open connection."""
    return {
        "kind": "tcp", "service": "ldap", "client": f"192.0.2.{at % 200 + 7}:{40_000 + at}", "listener": "10.0.0.10:389",
        "backend": "10.0.0.21", "state": "relaying", "age_s": 12.5 + 300 * (at % 20), "idle_s": 0.4, "bytes_in": 1200 * at,
        "bytes_out": 48_000,
    }  # fmt: skip


def past(history, clock, began=NOW):
    """Give a history the looks before the first one, which comes at `clock`, in seconds of a clock that never goes back."""
    for at in range(CURVE):
        history.take(lively(at, began - CURVE + at), clock - CURVE + at)
