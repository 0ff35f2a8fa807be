"""The command `config`: the configuration in force as JSON, encoded once for each configuration."""

from collections.abc import Awaitable, Callable, Generator
from typing import TYPE_CHECKING

from proxy.control.wire import Encoded
from proxy.status.slices import in_slices

if TYPE_CHECKING:
    from proxy.backends.effective import Running
    from proxy.config.model import Config
    from proxy.control.server import Request


def config_handler(running: "Running") -> "Callable[[Request], Awaitable[Encoded]]":
    """Return the handler of `config`: the effective configuration, secrets masked."""
    made: list[tuple[Config, Encoded]] = []

    async def answer(_: "Request") -> Encoded:
        config = running.config
        if not made or made[0][0] is not config:
            made[:] = [(config, Encoded(b'"config": ' + await in_slices(encoded(config))))]
        return made[0][1]

    return answer


def encoded(config: "Config") -> Generator[None, None, bytes]:
    """Return a configuration as JSON; work in slices."""
    services = []
    for service in config.services:
        backends = []
        for backend in service.backends:
            yield
            backends.append(backend.model_dump_json(by_alias=True))
        rest = service.model_dump_json(by_alias=True, exclude={"backends"})
        services.append(f'{rest[:-1]},"backends":[{",".join(backends)}]}}')
    rest = config.model_dump_json(by_alias=True, exclude={"services"})
    return f'{rest[:-1]},"services":[{",".join(services)}]}}'.encode()
