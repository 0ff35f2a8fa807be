"""The command `probe`: runs the probes of a service or of one backend once, now."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from proxy.backends.effective import written
from proxy.commands.find import find_backends, find_service
from proxy.control.server import Handler, Request
from proxy.control.wire import BUSY, ControlError

if TYPE_CHECKING:
    from proxy.backends.effective import Running

Run = Callable[[list[str], float], Awaitable[list[dict[str, Any]] | str]]
"""`Prober.run`: targets' keys and seconds -> rows, or in words why it could not be done."""


def probe_handler(running: "Running", run: Run) -> Handler:
    """Return the handler of `probe`: the probes of a `service`'s backends, or of one `backend`, run once, now.

    A first line says how many seconds it may take.
    """

    async def answer(request: Request) -> AsyncIterator[Mapping[str, Any]]:
        service = find_service(running.services, request.arguments.get("service"))
        wanted = request.arguments.get("backend")
        backends = service.backends if wanted is None else find_backends(service, wanted)
        names = {written((service.name, one.name)): one.name for one in backends}
        patience = max((probe.timeout for one in backends for probe in one.probes), default=0.0)
        yield {"timeout": patience, "more": True}
        rows = await run(list(names), patience)
        if isinstance(rows, str):
            raise ControlError(rows, BUSY)
        if not rows:
            known = ", ".join(list(names.values())[:10])
            raise ControlError(f"{known}: in maintenance, where it is not probed: drain it instead, or make it ready")
        told = [{"service": service.name, "backend": names[row["key"]], **row} for row in rows]
        for row in told:
            del row["key"]
        yield {"probes": told, "more": False}

    return answer
