"""The configuration of probes: one frozen model for each protocol.

The models travel over the channel as JSON (`model_dump(mode="json")`, back through `parse_probe`). The JSON contains no
secrets: a model names only the file of a password.
"""

import json
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import Field, TypeAdapter, model_validator

from health.units import FROM_FILE, Address, Bool, Duration, Int, Port, SecretFile, Table, mistake
from health.values import RANDOM, Digest, Hex, Host, Name, Query, Rcodes, RequestPath, Sql, Statuses

__all__ = [
    "FROM_FILE",
    "PROBE_TYPES",
    "DnsProbe",
    "Duration",
    "HttpProbe",
    "ImapProbe",
    "LdapProbe",
    "MysqlProbe",
    "NoneProbe",
    "PgsqlProbe",
    "PingProbe",
    "Pop3Probe",
    "ProbeBase",
    "ProbeSpec",
    "RedisProbe",
    "ScriptProbe",
    "SmtpProbe",
    "TcpProbe",
    "UdpProbe",
    "parse_probe",
]

Interval = Annotated[Duration, Field(ge=0.01, le=86400.0)]
"""Seconds between two probes, or the timeout of one: 10 ms to a day."""

_DATAGRAM: Final = 65507  # octets; 65535 without the headers of IPv4 and UDP


class ProbeBase(Table):
    """The keys that all probes have. Durations in seconds."""

    type: str
    port: Port | None = None
    """The port to probe; None only for probes without a port (ping, script, none). Resolved before the monitor gets it."""
    address: Address | None = None
    """The address to probe if it is not the backend's address."""
    interval: Interval = 2.0
    fast_interval: Interval = 0.5
    """The interval while a verdict is about to change."""
    down_interval: Interval = 5.0
    timeout: Interval = Field(default_factory=lambda data: min(1.0, data.get("interval", 2.0)))
    fall: Annotated[Int, Field(ge=1, le=1000)] = 3
    rise: Annotated[Int, Field(ge=1, le=1000)] = 2
    report_only: Bool = False
    send_proxy: Literal["off", "v1", "v2"] | None = None
    """None: the service's own setting towards its backends."""
    tls: Literal["off", "implicit", "starttls"] = "off"
    tls_name: str | None = None
    tls_verify: Bool = True
    tls_ca_file: SecretFile | None = None

    tls_ways: ClassVar[tuple[str, ...]] = ("off", "implicit")
    needs_port: ClassVar[bool] = True

    @model_validator(mode="after")
    def _relations(self) -> Self:
        if self.timeout > self.interval:
            raise mistake(
                f"timeout ({self.timeout:g}s) is longer than interval ({self.interval:g}s): probes never overlap",
                "timeout",
            )
        if self.tls not in self.tls_ways:
            ways = " or ".join(f'"{way}"' for way in self.tls_ways)
            raise mistake(f'a {self.type} probe has no tls = "{self.tls}": only {ways}', "tls")
        self._check()
        return self

    def _check(self) -> None:
        """Check the keys of this protocol; raises `mistake`."""

    def question(self) -> str:
        """Return a text that is the same for two probes exactly if one run serves both (H11). It omits pace and judgement."""
        aside = {"interval", "fast_interval", "down_interval", "fall", "rise", "report_only", "max_serial_lag"}
        return json.dumps(self.model_dump(mode="json", exclude=aside), sort_keys=True, separators=(",", ":"))


class _Exchange(ProbeBase):
    """A text or bytes to send, and a text or bytes that the answer must contain."""

    send: str = ""
    send_hex: Hex = ""
    expect: str = ""
    expect_hex: Hex = ""

    def _check(self) -> None:
        for text, digits, name in (
            (self.send, self.send_hex, "send"),
            (self.expect, self.expect_hex, "expect"),
        ):
            if text and digits:
                raise mistake(f"{name} and {name}-hex say the same thing twice: keep one", f"{name}-hex")

    @property
    def send_bytes(self) -> bytes:
        """The bytes to send, empty for nothing."""
        return bytes.fromhex(self.send_hex) if self.send_hex else self.send.encode()

    @property
    def expect_bytes(self) -> bytes:
        """The bytes that the answer must contain, empty for any answer."""
        return bytes.fromhex(self.expect_hex) if self.expect_hex else self.expect.encode()


class TcpProbe(_Exchange):
    """Connect; then, if configured, send a text and wait for a text."""

    type: Literal["tcp"] = "tcp"


class UdpProbe(_Exchange):
    """Send a datagram and wait for an answer. Without `expect` any answer passes."""

    type: Literal["udp"] = "udp"
    tls_ways: ClassVar[tuple[str, ...]] = ("off",)

    def _check(self) -> None:
        super()._check()
        if not self.send_bytes:
            raise mistake("a udp probe needs send or send-hex: silence proves nothing", "type")
        if len(self.send_bytes) > _DATAGRAM:
            key = "send-hex" if self.send_hex else "send"
            raise mistake(f"{key} has {len(self.send_bytes)} bytes: a datagram carries at most {_DATAGRAM}")


class DnsProbe(ProbeBase):
    """Send one query; the answer must have our ID and question, a wanted response code and, if configured, a wanted record.

    Without `query` the probe asks for the root's NS records, and REFUSED passes as well: an authoritative server answers
    REFUSED for zones that it does not serve, and that proves that it answers. With `query` only NOERROR passes unless
    `rcode` says otherwise.  "{random}" in the name stands for a new label in each run, which no cache holds.
    """

    type: Literal["dns"] = "dns"
    query: Query = ""
    rcode: Rcodes = Field(default_factory=lambda data: ("NOERROR",) if data.get("query") else ("NOERROR", "REFUSED"))
    expect: str = ""
    """The data of a record that the answer must contain, as text: "192.0.2.1"."""
    transport: Literal["udp", "tcp", "both"] | None = None
    """None: the transports of the listeners. Resolved before the monitor gets it."""
    recurse: Bool = True
    """Set RD; a resolver such as unbound refuses queries without it."""
    authoritative: Bool | None = None
    """True: AA must be set; False: AA must not be set; None: both pass."""
    max_serial_lag: Annotated[Int, Field(ge=0)] | None = None

    def _check(self) -> None:
        if self.max_serial_lag is not None and not self.query.endswith(" SOA"):
            raise mistake('max-serial-lag needs a query for an SOA record: query = "example.net SOA"', "max-serial-lag")
        if self.max_serial_lag is not None and RANDOM in self.query:
            raise mistake(f"max-serial-lag needs a zone's own name, without {RANDOM}", "max-serial-lag")
        if self.expect and not self.query:
            raise mistake('expect needs a query: query = "www.example.net A"', "expect")
        if self.tls != "off" and self.transport != "tcp":
            raise mistake('DNS over TLS needs TCP: set transport = "tcp" as well', "tls")

    @property
    def qname(self) -> str:
        """The name in the query."""
        return self.query.split()[0] if self.query else "."

    @property
    def qtype(self) -> str:
        """The record type in the query."""
        return self.query.split()[1] if self.query else "NS"


class MysqlProbe(ProbeBase):
    """Log in, and check the server's role in its replication."""

    type: Literal["mysql"] = "mysql"
    user: str
    password_file: SecretFile | None = None
    public_key_file: SecretFile | None = None
    """The server's RSA key, for a caching_sha2_password or sha256_password login without TLS."""
    role: Literal["any", "writer", "replica", "replica-first", "galera"] = "any"
    max_lag: Interval | None = None
    recover_lag: Interval | None = Field(
        default_factory=lambda data: data["max_lag"] / 2 if data.get("max_lag") else None
    )
    lag_query: str | None = None
    donor_ok: Bool = False
    query: Sql = ""
    """A query that reads; its first row's first value must be `expect`."""
    expect: str | None = None
    tls_ways: ClassVar[tuple[str, ...]] = ("off", "starttls")

    def _check(self) -> None:
        if self.max_lag is not None and self.role not in ("replica", "replica-first"):
            raise mistake('max-lag needs role = "replica" or "replica-first"', "max-lag")
        if self.recover_lag is not None and self.recover_lag > (self.max_lag or 0.0):
            raise mistake("recover-lag is longer than max-lag", "recover-lag")
        _needs_query(self.query, self.expect)


class PgsqlProbe(ProbeBase):
    """Log in, and check the server's role in its replication; then send a query if one is configured."""

    type: Literal["pgsql"] = "pgsql"
    user: Name
    password_file: SecretFile | None = None
    database: Name | None = None
    """The database to log in to; None: the one with the user's name."""
    role: Literal["any", "primary", "standby"] = "any"
    max_lag: Interval | None = None
    query: Sql = ""
    """A query that reads; its first row's first value must be `expect`."""
    expect: str | None = None
    tls_ways: ClassVar[tuple[str, ...]] = ("off", "starttls")

    def _check(self) -> None:
        if self.max_lag is not None and self.role == "primary":
            raise mistake("max-lag is for standbys: a primary has no lag", "max-lag")
        _needs_query(self.query, self.expect)


class RedisProbe(ProbeBase):
    """PING, after a login if one is configured, and check the server's role in its replication."""

    type: Literal["redis"] = "redis"
    password_file: SecretFile | None = None
    user: Name | None = Field(default_factory=lambda data: "default" if data.get("password_file") else None)
    role: Literal["any", "primary", "standby"] = "any"
    max_lag: Interval | None = None
    tls_ways: ClassVar[tuple[str, ...]] = ("off", "implicit")

    def _check(self) -> None:
        if self.user is not None and self.password_file is None:
            raise mistake("user needs password-file as well", "user")
        if self.max_lag is not None and self.role == "primary":
            raise mistake("max-lag is for standbys: a primary has no lag", "max-lag")


def _needs_query(query: str, expect: str | None) -> None:
    if expect is not None and not query:
        raise mistake('expect needs a query: query = "SELECT 1"', "expect")


class LdapProbe(ProbeBase):
    """Bind, anonymously without `bind_dn`, and search if `base` is set.

    The search reads only the entry `base`. If `filter` is set or `min_entries` is above 1, it covers the whole subtree.
    """

    type: Literal["ldap"] = "ldap"
    base: str | None = None
    filter: str = "(objectClass=*)"
    min_entries: Annotated[Int, Field(ge=0, le=1000)] = 0
    bind_dn: str | None = None
    password_file: SecretFile | None = None
    max_lag: Interval | None = None
    tls_ways: ClassVar[tuple[str, ...]] = ("off", "implicit", "starttls")

    def _check(self) -> None:
        if (self.bind_dn is None) != (self.password_file is None):
            present, absent = ("bind-dn", "password-file") if self.bind_dn else ("password-file", "bind-dn")
            raise mistake(f"{present} needs {absent} as well: a simple bind takes both", present)
        if self.base is None and (self.min_entries or self.max_lag is not None):
            key = "min-entries" if self.min_entries else "max-lag"
            raise mistake(f"{key} needs a search: set base", key)
        if not (self.filter.startswith("(") and self.filter.endswith(")")):
            raise mistake(f'"{self.filter[:40]}" is not an LDAP filter: write it in parentheses (RFC 4515)', "filter")


class HttpProbe(ProbeBase):
    """Send one request; its status must be in `status`, and the body must match if that is configured."""

    type: Literal["http"] = "http"
    method: Literal["GET", "HEAD", "OPTIONS", "POST"] = "GET"
    path: RequestPath = "/"
    host: Host | None = None
    status: Statuses = "200-399"
    body: str | None = None
    body_digest: Digest | None = None


class SmtpProbe(ProbeBase):
    """SMTP: greeting 220, EHLO, QUIT."""

    type: Literal["smtp"] = "smtp"
    helo: str | None = None
    """The name in EHLO; None: the host's name."""
    tls_ways: ClassVar[tuple[str, ...]] = ("off", "implicit", "starttls")


class _Mailbox(ProbeBase):
    """Greeting, login if configured, clean logout."""

    user: str | None = None
    password_file: SecretFile | None = None
    tls_ways: ClassVar[tuple[str, ...]] = ("off", "implicit", "starttls")

    def _check(self) -> None:
        if (self.user is None) != (self.password_file is None):
            present, absent = ("user", "password-file") if self.user else ("password-file", "user")
            raise mistake(f"{present} needs {absent} as well", present)


class Pop3Probe(_Mailbox):
    """POP3: greeting, login if configured, QUIT."""

    type: Literal["pop3"] = "pop3"


class ImapProbe(_Mailbox):
    """IMAP: greeting, login if configured, LOGOUT."""

    type: Literal["imap"] = "imap"


class ScriptProbe(ProbeBase):
    """Run a program; its exit code is the verdict, as with keepalived."""

    type: Literal["script"] = "script"
    command: tuple[str, ...] = Field(min_length=1)
    """An absolute path and arguments; "{address}" and "{port}" are replaced."""
    dynamic_weight: Bool = False
    tls_ways: ClassVar[tuple[str, ...]] = ("off",)
    needs_port: ClassVar[bool] = False

    def _check(self) -> None:
        if not self.command[0].startswith("/"):
            raise mistake(f'"{self.command[0][:60]}" is not an absolute path', "command")
        if any("\0" in part for part in self.command):
            raise mistake("a command must not contain a NUL character", "command")


class PingProbe(ProbeBase):
    """One ICMP echo."""

    type: Literal["ping"] = "ping"
    tls_ways: ClassVar[tuple[str, ...]] = ("off",)
    needs_port: ClassVar[bool] = False


class NoneProbe(ProbeBase):
    """No probe: the backend is always up."""

    type: Literal["none"] = "none"
    tls_ways: ClassVar[tuple[str, ...]] = ("off",)
    needs_port: ClassVar[bool] = False


PROBE_TYPES: Final[dict[str, type[ProbeBase]]] = {
    "tcp": TcpProbe,
    "udp": UdpProbe,
    "dns": DnsProbe,
    "mysql": MysqlProbe,
    "pgsql": PgsqlProbe,
    "redis": RedisProbe,
    "ldap": LdapProbe,
    "http": HttpProbe,
    "smtp": SmtpProbe,
    "pop3": Pop3Probe,
    "imap": ImapProbe,
    "script": ScriptProbe,
    "ping": PingProbe,
    "none": NoneProbe,
}

ProbeSpec = Annotated[
    TcpProbe
    | UdpProbe
    | DnsProbe
    | MysqlProbe
    | PgsqlProbe
    | RedisProbe
    | LdapProbe
    | HttpProbe
    | SmtpProbe
    | Pop3Probe
    | ImapProbe
    | ScriptProbe
    | PingProbe
    | NoneProbe,
    Field(discriminator="type"),
]

_ADAPTER: Final[TypeAdapter[ProbeSpec]] = TypeAdapter(ProbeSpec)


def parse_probe(value: Any) -> ProbeSpec:
    """Return the probe from its dump: keys as in the file or as field names, durations in seconds."""
    return _ADAPTER.validate_python(value)
