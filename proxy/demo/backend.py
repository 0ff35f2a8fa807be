"""One embedded server of the demo, in a separate process so that it can die: DNS on UDP and TCP, or a greeting on TCP.

Run as `python -m proxy.demo.backend dns|greeter NAME ADDRESS PORT`.  The server answers with NAME, in which {peer} is
replaced by the source address of the query or connection: so a client of two balancers knows which one relayed it.
"""

import asyncio
import contextlib
import signal
import socket
import sys

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rrset

ZONE = "demo.example."
LONGEST_LINE = 1024


def answer(wire: bytes, name: str) -> bytes | None:
    """Return the answer to a DNS query, a TXT record with the server's name; None if `wire` is not a query."""
    try:
        query = dns.message.from_wire(wire)
    except dns.exception.DNSException:
        return None
    if query.flags & dns.flags.QR or not query.question:
        return None
    response = dns.message.make_response(query)
    response.flags |= dns.flags.AA
    owner = query.question[0].name
    if owner.to_text().lower().endswith(ZONE):
        response.answer.append(dns.rrset.from_text(owner, 0, "IN", "TXT", f'"{name}"'))
    else:
        response.set_rcode(dns.rcode.REFUSED)
    return response.to_wire()


def _named(name: str, peer: tuple[str, int]) -> str:
    return name.replace("{peer}", peer[0])


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, name: str) -> None:
        self._name = name
        self._transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = transport  # type: ignore[assignment]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answer."""
        reply = answer(data, _named(self._name, addr))
        if reply is not None:
            self._transport.sendto(reply, addr)


async def _dns(name: str, address: str, port: int) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                size = int.from_bytes(await reader.readexactly(2), "big")
                peer = writer.get_extra_info("peername")
                reply = answer(await reader.readexactly(size), _named(name, peer))
                if reply is None:
                    break
                writer.write(len(reply).to_bytes(2, "big") + reply)
                await writer.drain()
        writer.close()

    loop = asyncio.get_running_loop()
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind((address, port))
    transport, _ = await loop.create_datagram_endpoint(lambda: _Udp(name), sock=sock)
    with contextlib.closing(transport):
        server = await asyncio.start_server(serve, address, port)
        await server.serve_forever()


async def _greeter(name: str, address: str, port: int) -> None:
    """Greet first, as SMTP and MySQL do, then echo each line."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, ValueError):
            peer = writer.get_extra_info("peername")
            writer.write(f"hello from {_named(name, peer)}\n".encode())
            while line := await reader.readline():
                writer.write(line)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, address, port, limit=LONGEST_LINE)
    await server.serve_forever()


def main() -> None:
    """Serve until killed."""
    kind, name, address, port = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    serve = _dns if kind == "dns" else _greeter
    asyncio.run(serve(name, address, int(port)))


if __name__ == "__main__":
    main()
