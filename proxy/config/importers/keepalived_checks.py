"""keepalived's checkers as probes [pure]."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from proxy.config.importers.draft import Part
from proxy.config.importers.ledger import Handler, Ledger, LeftError, Statement, first
from proxy.config.importers.values import address, command, decimal, duration, number, port

CHECKERS: Final = (
    "HTTP_GET", "SSL_GET", "TCP_CHECK", "SMTP_CHECK", "DNS_CHECK", "MISC_CHECK", "PING_CHECK", "UDP_CHECK", "BFD_CHECK",
    "FILE_CHECK",
)  # fmt: skip
_RETRIES: Final = {"DNS_CHECK": 3, "MISC_CHECK": 0}
_LEFT: Final = {
    "bindto": "the kernel chooses the source address of probes",
    "bind_port": "each run uses a new port",
    "bind_if": "the kernel chooses the source of probes; a link-local address names its interface: fe80::1%eth1",
    "fwmark": "packets are not marked",
    "log_all_failures": "`steelyard status` has the last result, `steelyard events` each change",
    "http_protocol": "always HTTP/1.1 with Connection: close",
    "user": "scripts run as node.user, the user of all probes",
    "script_user": "scripts run as node.user, the user of all probes",
    "regex": "no regular expressions: `body` is a text that the answer contains, or write a script",
    "regex_no_match": "no regular expressions and no negation: write a script",
    "regex_options": "no regular expressions: write a script",
    "regex_stack": "no regular expressions: write a script",
    "regex_min_offset": "no regular expressions: write a script",
    "regex_max_offset": "no regular expressions: write a script",
    "min_reply_length": "the length of an answer does not matter",
    "max_reply_length": "the length of an answer does not matter",
}
_ALWAYS: Final = frozenset(("alpha", "warmup", "fast_recovery", "enable_sni"))


@dataclass(frozen=True, slots=True)
class Pace:
    """The timers that a virtual server, a real server and a checker inherit in this order; None: the checker's default."""

    delay_loop: float = 60.0
    connect_timeout: float = 5.0
    retry: int | None = None
    delay_before_retry: float = 1.0
    virtualhost: str | None = None

    def handlers(self, found: dict[str, Any]) -> dict[str, Handler]:
        """Return handlers that put what a block says into `found`."""

        def seconds(statement: Statement) -> None:
            found[statement.name] = decimal(first(statement))

        def count(statement: Statement) -> None:
            found["retry"] = number(first(statement), 0, 999)

        def text(statement: Statement) -> None:
            found["virtualhost"] = first(statement)

        timers = ("delay_loop", "connect_timeout", "delay_before_retry")
        return {**dict.fromkeys(timers, seconds), "retry": count, "virtualhost": text}

    def with_(self, found: Mapping[str, Any]) -> "Pace":
        """Return the timers with the changes of an inner block."""
        return replace(self, **found)


class Checker:
    """Turns one checker into probes: usually one, for several URLs or hosts one each."""

    def __init__(self, statement: Statement, pace: Pace, ledger: Ledger, part: Part) -> None:
        """Prepare; notes go into `part`."""
        self.statement = statement
        self.kind = statement.name
        self.pace = pace
        self.ledger = ledger
        self.part = part
        self._found: dict[str, Any] = {}
        self._probe: dict[str, Any] = {}
        self._several: list[dict[str, Any]] = []

    def probes(self) -> list[dict[str, Any]]:
        """Return the probes; raises `LeftError` for a checker that has no form here."""
        if self.kind in {"BFD_CHECK", "FILE_CHECK"}:
            what = "BFD" if self.kind == "BFD_CHECK" else "check of a file; a script probe can read it"
            raise LeftError(f"there is no {what}")
        shared: dict[str, Handler] = {
            **self.pace.handlers(self._found),
            "connect_ip": lambda each: self._set("address", address(first(each))),
            "connect_port": lambda each: self._set("port", port(first(each))),
            **self._own(),
        }
        self.ledger.read(self.statement.inner, shared, part=self.part, always=_ALWAYS, left=_LEFT)
        return [self._timed({**self._typed(), **self._probe, **one}) for one in self._several or [{}]]

    def _set(self, key: str, value: Any) -> None:
        self._probe[key] = value

    def _own(self) -> dict[str, Handler]:
        """Return the handlers of this kind of checker."""
        match self.kind:
            case "HTTP_GET" | "SSL_GET":
                return {"url": self._url}
            case "SMTP_CHECK":
                return {"helo_name": lambda each: self._set("helo", first(each)), "host": self._host}
            case "DNS_CHECK":
                return dict.fromkeys(("name", "type"), lambda each: self._found.__setitem__(each.name, first(each)))
            case "MISC_CHECK":
                return {
                    "misc_path": lambda each: self._set("command", command(" ".join(each.args))),
                    "misc_timeout": lambda each: self._found.__setitem__("connect_timeout", decimal(first(each))),
                    "misc_dynamic": lambda _: self._set("dynamic-weight", True),
                }
            case "UDP_CHECK":
                return {"payload": self._payload, "require_reply": self._reply}
        return {}

    def _typed(self) -> dict[str, Any]:
        """Return the type of the probe and the values that it always has."""
        host = self._found.get("virtualhost", self.pace.virtualhost)
        web = {"type": "http", "status": "200-299", **({"host": host} if host else {})}
        simple = {
            "HTTP_GET": web,
            "SSL_GET": {**web, "tls": "implicit", "tls-verify": False},
            "SMTP_CHECK": {"type": "smtp"},
            "MISC_CHECK": {"type": "script"},
            "PING_CHECK": {"type": "ping"},
            "UDP_CHECK": {"type": "udp"},
        }
        if self.kind == "DNS_CHECK":
            query = f"{self._found.get('name', '.')} {self._found.get('type', 'SOA')}"
            return {"type": "dns", "query": query, "transport": "udp"}
        if self.kind == "MISC_CHECK" and "command" not in self._probe:
            raise LeftError("it has no misc_path")
        if self.kind == "UDP_CHECK" and not {"send-hex", "expect-hex"} <= self._probe.keys():
            self._no_answer()
            return {"type": "ping"}
        return simple.get(self.kind, {"type": "tcp"})

    def _no_answer(self) -> None:
        self._probe = {key: value for key, value in self._probe.items() if key == "address"}
        why = "a udp probe sends a payload of yours and needs an answer, so this one passes if the host answers a ping"
        self.ledger.changed(self.statement, why, self.part)

    def _timed(self, probe: dict[str, Any]) -> dict[str, Any]:
        found = {key: value for key, value in self._found.items() if key not in {"name", "type"}}
        pace = self.pace.with_(found)
        interval = max(0.01, pace.delay_loop)
        retry = pace.retry if pace.retry is not None else _RETRIES.get(self.kind, 1)
        timeout = pace.connect_timeout
        if self.kind == "MISC_CHECK" and "connect_timeout" not in self._found:
            timeout = interval  # a script without misc_timeout has the time until its next run
        if timeout > interval:
            why = f"a probe's timeout is at most its interval, which is {duration(interval)} (delay_loop)"
            self.ledger.changed(self.statement, why, self.part)
        timers = {
            "interval": duration(interval),
            "fast-interval": duration(min(max(0.01, pace.delay_before_retry), interval)),
            "down-interval": duration(interval),
            "timeout": duration(max(0.01, min(timeout, interval))),
            "fall": retry + 1,
            "rise": 1,
        }
        head = {key: probe.pop(key) for key in ("type",)}
        if "expect-hex" in probe and not probe["expect-hex"]:
            del probe["expect-hex"]
        return {**head, **probe, **timers}

    def _url(self, statement: Statement) -> None:
        found: dict[str, Any] = {}

        def digest(each: Statement) -> None:
            found["body-digest"] = first(each)

        def status(each: Statement) -> None:
            found["status"] = ",".join(each.args)

        def path(each: Statement) -> None:
            found["path"] = first(each)

        def host(each: Statement) -> None:
            found["host"] = first(each)

        handlers: dict[str, Handler] = {"path": path, "digest": digest, "status_code": status, "virtualhost": host}
        self.ledger.read(statement.inner, handlers, part=self.part, left=_LEFT)
        self._several.append(found)

    def _host(self, statement: Statement) -> None:
        found: dict[str, Any] = {}
        handlers: dict[str, Handler] = {
            "connect_ip": lambda each: found.__setitem__("address", address(first(each))),
            "connect_port": lambda each: found.__setitem__("port", port(first(each))),
        }
        self.ledger.read(statement.inner, handlers, part=self.part, left=_LEFT, always=_ALWAYS)
        self._several.append(found)

    def _payload(self, statement: Statement) -> None:
        self._set("send-hex", _hexadecimal(statement.args))

    def _reply(self, statement: Statement) -> None:
        if any(char in "xX" for word in statement.args for char in word):
            raise LeftError("there are no wildcard digits: expect-hex is a part of the answer without any")
        self._set("expect-hex", _hexadecimal(statement.args) if statement.args else "")


def _hexadecimal(words: list[str]) -> str:
    """Return digits in pairs; keepalived takes a lone digit at the end of a word as an octet of its own."""
    digits = "".join(f"{word[:-1]}0{word[-1]}" if len(word) % 2 else word for word in words)
    try:
        return bytes.fromhex(digits).hex()
    except ValueError:
        raise LeftError(f'"{digits[:40]}" is not hexadecimal') from None
