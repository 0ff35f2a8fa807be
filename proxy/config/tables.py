"""The tables whose written form differs from the effective form: services with `listen` and `backends`, and the top level.

`probe`, `backends` and node-keyed values have several forms. resolve.py and probes.py distinguish them, so that an error
never lists the alternatives of a union.
"""

import re
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from health.units import Address, Bool, Duration, Int, Port, Table, mistake, parse_host, placed
from proxy.config.model import Weight
from proxy.config.settings import Count, SendProxy, ServiceSettings
from proxy.config.types import parse_endpoint


def _backend_address(value: Any) -> Any:
    if isinstance(value, str):
        try:
            address, port = parse_endpoint(value)
            placed(parse_host(address))
        except ValueError as error:
            raise mistake(str(error)) from None
        if port is not None:
            raise mistake(f'"{value[:60]}" has a port: in a table write address = "{address}", port = {port}')
        return address
    return value


_BACKEND_NAME: Final = r"^[\x21-\x2e\x30-\x7e]+$"


def _backend_name(value: Any) -> Any:
    """Names appear in commands, logs, metrics and on terminals, so look-alike and invisible characters are refused."""
    if isinstance(value, str) and value and not re.fullmatch(_BACKEND_NAME, value):
        raise mistake(
            f'"{value[:60]}" is not a valid backend name: use visible ASCII characters without blanks and "/"'
        )
    return value


class BackendDefaults(Table):
    """The keys of a backend that `backend-defaults` may also set."""

    port: Port | None = None  # the listener's
    weight: Weight = 1
    tier: Annotated[Int, Field(ge=0, le=255)] | None = None  # 0, or 1 for a backup
    backup: Bool = False
    admin: Literal["ready", "drain", "maint"] = "ready"
    max_connections: Count = 0
    max_outstanding: Count = 0
    slow_start: Duration = 0.0
    send_proxy: SendProxy | None = None  # the service's
    source_addresses: tuple[Address, ...] | None = None  # the service's
    probe: Any = None  # the service's

    @model_validator(mode="after")
    def _one_tier(self) -> Self:
        if self.backup and self.tier not in (None, 1):
            raise mistake(f"backup = true means tier = 1, but tier = {self.tier}", "tier")
        return self


class BackendTable(BackendDefaults):
    """One element of `backends`."""

    address: Annotated[Address, BeforeValidator(_backend_address)]
    name: (
        Annotated[str, Field(min_length=1, max_length=128, pattern=_BACKEND_NAME), BeforeValidator(_backend_name)]
        | None
    ) = None


class DefaultsTable(ServiceSettings):
    """[defaults]: for every service; its `probe` and `vrrp` for every probe and router."""

    backend_defaults: BackendDefaults = BackendDefaults()
    probe: Any = None
    vrrp: Any = None


class ServiceTable(ServiceSettings):
    """[service.NAME]."""

    listen: Annotated[tuple[str, ...], Field(min_length=1)]
    backends: Any
    backend_defaults: BackendDefaults = BackendDefaults()
    probe: Any = None


class FileTable(Table):
    """The top level of the file."""

    nodes: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    node: Any = None
    control: Any = None
    pair: Any = None
    web: Any = None
    log: Any = None
    defaults: Any = None
    probe: Any = None
    service: Any = None
    vrrp: Any = None
    sync_group: Any = None
    notify: Any = None
