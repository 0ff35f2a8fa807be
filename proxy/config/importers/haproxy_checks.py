"""HAProxy's health checks as probes [pure]."""

from collections.abc import Sequence
from typing import Any, Final

from proxy.config.importers.draft import Part
from proxy.config.importers.ledger import Handler, Ledger, LeftError, Statement
from proxy.config.importers.values import number, port

CHECK_OPTIONS: Final = (
    "tcp-check", "httpchk", "mysql-check", "pgsql-check", "ldap-check", "smtpchk", "redis-check", "ssl-hello-chk",
    "external-check",
)  # fmt: skip
_EXPRESSION: Final = "no regular expressions, no headers, no negation: write a script"
_ROLES: Final = {"role:master": "primary", "role:slave": "standby"}
_IGNORED: Final = frozenset(
    (
        "comment",
        "on-error",
        "on-success",
        "min-recv",
        "ok-status",
        "error-status",
        "tout-status",
        "status-code",
        "linger",
        "default",
    )
)


class Checks:
    """Collects the checks of one backend; `probes` makes of them what each server is asked."""

    def __init__(self, ledger: Ledger, part: Part) -> None:
        """Prepare; notes go into `part`."""
        self.ledger = ledger
        self.part = part
        self._probes: list[dict[str, Any]] = []
        self._kind: Statement | None = None
        self._command: str | None = None

    def option(self, statement: Statement) -> None:
        """Read `option NAME-check`."""
        self._kind = statement
        name, args = statement.args[0], statement.args[1:]
        user = args[1] if args[:1] == ["user"] and len(args) > 1 else None
        match name:
            case "httpchk":
                self._probes = [_request(args)]
            case "mysql-check" if user:
                self._probes = [{"type": "mysql", "user": user}]
            case "mysql-check":
                self._probes = [{"type": "tcp"}]
                why = "a mysql probe needs a user; a connection without a login lets MySQL block this host in the end"
                self.ledger.changed(statement, why, self.part)
            case "pgsql-check" if user:
                self._probes = [{"type": "pgsql", "user": user}]
                self.ledger.changed(
                    statement, "a pgsql probe logs in: the account needs a password-file or none", self.part
                )
            case "pgsql-check":
                self._probes = [{"type": "tcp"}]
                self.ledger.changed(
                    statement, "a pgsql probe needs a user: a connection is all that is tried", self.part
                )
            case "redis-check":
                self._probes = [{"type": "redis"}]
            case "smtpchk":
                self._probes = [{"type": "smtp", **({"helo": args[1]} if len(args) > 1 else {})}]
            case "ldap-check":
                self._probes = [{"type": "ldap"}]
            case "ssl-hello-chk":
                self._probes = [{"type": "tcp", "tls": "implicit", "tls-verify": False}]
            case "tcp-check":
                self._probes = [{"type": "tcp"}]
            case _:
                self._probes = [{"type": "script"}]

    def command(self, statement: Statement) -> None:
        """Read `external-check command PATH`."""
        if statement.args[:1] != ["command"] or len(statement.args) < 2:  # noqa: PLR2004 - command and path
            raise LeftError("PATH has the system's directories only")
        self._command = statement.args[1]

    def tcp(self, statement: Statement) -> None:
        """Read a `tcp-check` rule."""
        rule, args = (statement.args or [""])[0], statement.args[1:]
        if not (self._probes and self._probes[-1]["type"] == "redis"):
            self._of("tcp")
        probe = self._probes[-1]
        if rule in {"send", "expect"} and _redis(probe, rule, args):
            return
        match rule:
            case "connect":
                self._connect(args)
            case "send" | "send-binary" if "expect" in probe or "expect-hex" in probe:
                raise LeftError("a probe sends once, at the beginning: write a script for a longer dialogue")
            case "send" if args:
                probe["send"] = probe.get("send", "") + args[0]
            case "send-binary" if args:
                probe["send-hex"] = probe.get("send-hex", "") + args[0]
            case "expect":
                kind, pattern = _expectation(args)
                if kind not in {"string", "binary"}:
                    raise LeftError(_EXPRESSION)
                key = "expect" if kind == "string" else "expect-hex"
                if key in probe:
                    raise LeftError("a probe waits for one text: write a script for a longer dialogue")
                probe[key] = pattern
            case "comment":
                pass
            case _:
                raise LeftError("probes have no variables and no log formats")

    def http(self, statement: Statement) -> None:
        """Read an `http-check` rule."""
        rule, args = (statement.args or [""])[0], statement.args[1:]
        self._of("http")
        probe = self._probes[-1]
        match rule:
            case "connect":
                self._connect(args)
            case "send":
                self._send(args, probe)
            case "expect":
                kind, pattern = _expectation(args)
                if kind not in {"status", "string"}:
                    raise LeftError(_EXPRESSION)
                probe["status" if kind == "status" else "body"] = pattern
            case "comment":
                pass
            case "disable-on-404" | "send-state":
                raise LeftError("a script with dynamic-weight that exits with 2 has the effect of disable-on-404")
            case _:
                raise LeftError("probes have no variables")

    def _send(self, args: Sequence[str], probe: dict[str, Any]) -> None:
        words = iter(args)
        for word in words:
            value = next(words, "")
            if word == "meth":
                probe["method"] = value
            elif word == "uri":
                probe["path"] = value
            elif word == "hdr" and value.lower() == "host":
                probe["host"] = next(words, "")
            elif word != "ver":
                raise LeftError(f"{word[:20]}: a probe sends a method, a path and a Host header")

    def _of(self, kind: str) -> None:
        """Take rules of a kind even if the option that goes with them stands further below."""
        if not self._probes or self._probes[-1]["type"] != kind:
            self._probes = [{"type": kind, "method": "OPTIONS"} if kind == "http" else {"type": kind}]

    def _connect(self, args: Sequence[str]) -> None:
        """Begin another probe, unless nothing has been said of the first one yet."""
        fresh = self._probes[-1].keys() <= {"type", "method"} and not self._probes[-1].get("_connected")
        probe: dict[str, Any] = dict(self._probes[-1]) if fresh else {"type": self._probes[-1]["type"]}
        probe["_connected"] = True
        words = iter(args)
        for word in words:
            if word == "port":
                probe["port"] = port(next(words, ""))
            elif word in {"ssl", "send-proxy"}:
                probe.update({"tls": "implicit", "tls-verify": False} if word == "ssl" else {"send-proxy": "v1"})
            elif word in {"sni", "comment", "alpn", "proto", "addr"}:
                value = next(words, "")
                if word == "sni":
                    probe["tls-name"] = value
        if fresh:
            self._probes.pop()
        self._probes.append(probe)

    def probes(self) -> list[dict[str, Any]]:
        """Return the probes of a server that is checked, without its timers."""
        found = [{key: value for key, value in probe.items() if key != "_connected"} for probe in self._probes]
        for probe in found:
            if probe["type"] == "script":
                if self._command is None:
                    return [{"type": "tcp"}]
                probe["command"] = [self._command, "NOT_USED", "NOT_USED", "{address}", "{port}"]
        return found or [{"type": "tcp"}]

    def handlers(self) -> dict[str, Handler]:
        """Return the handlers of the words that begin a line."""
        return {"tcp-check": self.tcp, "http-check": self.http, "external-check": self.command}


def _redis(probe: dict[str, Any], rule: str, args: Sequence[str]) -> bool:
    """Return True if a rule belongs to the usual dialogue with Redis, which becomes a redis probe."""
    if rule == "send":
        words = " ".join(args).strip().upper()
        if words == "PING" and not probe.keys() & {"send", "send-hex", "expect", "expect-hex"}:
            probe["type"] = "redis"
        if probe["type"] == "redis" and words not in {"PING", "INFO REPLICATION", "QUIT"}:
            raise LeftError("a redis probe sends PING and INFO: write a script for a longer dialogue")
        return bool(probe["type"] == "redis")
    if probe["type"] != "redis":
        return False
    kind, pattern = _expectation(args)
    role = _ROLES.get(pattern)
    if kind != "string" or (role is None and pattern not in {"+PONG", "+OK"}):
        raise LeftError("a redis probe waits for PONG and for a role")
    if role:
        probe["role"] = role
    return True


def _request(args: Sequence[str]) -> dict[str, Any]:
    """Return the probe of `option httpchk [METHOD] [URI [VERSION]]`, where VERSION may carry a Host header."""
    method, path = "OPTIONS", "/"
    if len(args) == 1:
        path = args[0]
    elif args:
        method, path = args[0], args[1]
    probe: dict[str, Any] = {"type": "http", "method": method, "path": path}
    for line in (args[2] if len(args) > 2 else "").splitlines()[1:]:  # noqa: PLR2004 - the version
        name, _, value = line.partition(":")
        if name.strip().lower() == "host":
            probe["host"] = value.strip()
    return probe


def _expectation(args: Sequence[str]) -> tuple[str, str]:
    """Return the kind and the pattern of an `expect` rule, behind its options."""
    words = iter(args)
    for word in words:
        if word in _IGNORED:
            next(words, "")
        elif word == "!":
            return "!", ""
        else:
            return word, next(words, "")
    return "", ""


def milliseconds(text: str) -> float:
    """Return the seconds of a time of HAProxy, whose default unit is a millisecond."""
    units = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
    digits = text.rstrip("usmhd")
    unit = text[len(digits) :] or "ms"
    if unit not in units:
        raise LeftError(f'"{text[:40]}" is not a time')
    return number(digits) * units[unit]
