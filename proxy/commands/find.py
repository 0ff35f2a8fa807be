"""Finds the services and backends that a command names; a backend by its address too."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from proxy.config.diagnostics import did_you_mean
from proxy.control.wire import UNKNOWN_NAME, ControlError

if TYPE_CHECKING:
    from proxy.config.model import Backend, BackendKey, Service

EVERYWHERE: Final = "*"
"""Every service."""
NAMED: Final = 10
"""Known names that an error lists."""


def find_service(services: "Mapping[str, Service]", wanted: object) -> "Service":
    """Return a service by name; ControlError, with a suggestion, for none."""
    found = services.get(wanted) if isinstance(wanted, str) else None
    if found is None:
        raise ControlError(f'there is no service "{str(wanted)[:60]}": {_instead(wanted, services)}', UNKNOWN_NAME)
    return found


def find_backends(service: "Service", wanted: object) -> "list[Backend]":
    """Return a service's backends of this name or address; ControlError, with a suggestion, for none."""
    found = [one for one in service.backends if wanted in (one.name, one.address)]
    if not found:
        known = {one.name: one for one in service.backends}
        text = f'{service.name} does not have a backend "{str(wanted)[:60]}": {_instead(wanted, known)}'
        raise ControlError(text, UNKNOWN_NAME)
    return found


def find_keys(services: "Mapping[str, Service]", service: object, backend: object) -> "list[BackendKey]":
    """Return the backends of this name or address in a service, or in every one for "*"; ControlError for none."""
    if service != EVERYWHERE:
        found = find_service(services, service)
        return [(found.name, one.name) for one in find_backends(found, backend)]
    all_ = [(of.name, one) for of in services.values() for one in of.backends]
    keys = [(name, one.name) for name, one in all_ if backend in (one.name, one.address)]
    if not keys:
        known = {one.name: one for _, one in all_}
        raise ControlError(f'no service has a backend "{str(backend)[:60]}": {_instead(backend, known)}', UNKNOWN_NAME)
    return keys


def _instead(wanted: object, known: Mapping[str, object]) -> str:
    return did_you_mean(str(wanted), known) or (f"only {', '.join(list(known)[:NAMED])}" if known else "there is none")
