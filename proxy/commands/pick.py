"""The command `pick`: which backend a client would get now, asked of a worker, which knows."""

import ipaddress
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

from proxy.commands.connections import PATIENCE, Ask
from proxy.commands.find import find_service
from proxy.control.server import Handler, Request
from proxy.control.wire import BAD_REQUEST, BUSY, ControlError
from proxy.processes.messages import worker as worker_messages

if TYPE_CHECKING:
    from proxy.backends.effective import Running

NAME_MAX = 253
PORT_MAX = 65535


def pick_handler(running: "Running", workers: Callable[[], Collection[int]], ask: Ask) -> Handler:
    """Return the handler of `pick`: `service`, `client` (an address), and `port` and `query` where a key needs them."""

    async def answer(request: Request) -> Mapping[str, Any]:
        client, port, name = (request.arguments.get(key, default) for key, default in _ARGUMENTS)
        service = find_service(running.services, request.arguments.get("service", ""))
        try:
            host = str(ipaddress.ip_address(client))
        except ValueError:
            raise ControlError(f'"{str(client)[:60]}" is not an address', BAD_REQUEST) from None
        if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= PORT_MAX:
            raise ControlError("port must be a number from 0 to 65535", BAD_REQUEST)
        if not isinstance(name, str) or len(name) > NAME_MAX or not name.isascii():
            raise ControlError("query must be a domain name in ASCII", BAD_REQUEST)
        for index in sorted(workers()):
            got = await ask(
                index, lambda number: worker_messages.Pick(number, service.name, host, port, name), PATIENCE
            )
            if isinstance(got, worker_messages.Picked) and got.answer:
                if "error" in got.answer:
                    raise ControlError(got.answer["error"], BAD_REQUEST)
                return {"pick": got.answer}
        raise ControlError("no worker serves this service now: try again", BUSY)

    return answer


_ARGUMENTS: tuple[tuple[str, Any], ...] = (("client", ""), ("port", 0), ("query", ""))
