"""The story of the demo: balanced traffic, servers that die and return, a killed worker, a summary."""

import asyncio
import os
import signal
import socket
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from proxy.demo.load import Load, Tally
from proxy.demo.parts import Daemon, DemoError, Say, spawn
from proxy.moments import unix

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

SERVERS = {"ns1": "127.0.0.11", "ns2": "127.0.0.12", "app1": "127.0.0.21", "app2": "127.0.0.22"}
QUERIES = 400.0  # a second
CONNECTIONS = 40.0  # a second
DOWN_AT, UP_AT, WORKER_AT, END_AT = 5, 12, 20, 25  # s

CONFIG = """\
[node]
workers = 2
state-dir = "{folder}/state"

[control]
socket = "{folder}/control.sock"

[service.dns]
listen   = ["127.0.0.1:{port}/udp", "127.0.0.1:{port}/tcp"]
protocol = "dns"
backends = ["{ns1}", "{ns2}"]
probe    = {{ type = "dns", query = "probe.demo.example TXT", interval = "1s" }}

[service.app]
listen   = ["127.0.0.1:{app_port}/tcp"]
backends = ["{app1}", "{app2}"]
probe    = {{ type = "tcp", expect = "hello", interval = "1s" }}
"""


class Demo:
    """The servers, the daemon and the clients of one run."""

    def __init__(self, folder: Path, say: Say) -> None:
        self._folder = folder
        self._say = say
        self._port = _free_port()
        self._app_port = _free_port()
        self._servers: dict[str, subprocess.Popen[bytes]] = {}
        self._daemon: Daemon
        self._noticed: set[str] = set()  # servers that the probes have found down

    async def run(self) -> bool:
        """Run the story; return True if nothing was lost."""
        config = CONFIG.format(folder=self._folder, port=self._port, app_port=self._app_port, **SERVERS)
        file = self._folder / "steelyard.toml"
        file.write_text(config, encoding="utf-8")
        self._say("The configuration file:\n")
        self._say("".join(f"    {line}\n" for line in config.splitlines()))
        try:
            for name in SERVERS:
                self._start(name)
            self._daemon = Daemon(self._folder / "control.sock", self._folder / "daemon.log", "-c", str(file))
            try:
                await self._daemon.ready()
                return await self._play()
            finally:
                self._daemon.end()
        finally:
            for server in self._servers.values():
                server.kill()
                server.wait()

    async def _play(self) -> bool:
        self._say(
            f"Clients send {QUERIES:.0f} DNS queries and open {CONNECTIONS:.0f} connections a second to 127.0.0.1.\n"
        )
        load = Load(("127.0.0.1", self._port), ("127.0.0.1", self._app_port), QUERIES, CONNECTIONS)
        running = asyncio.ensure_future(load.run())
        try:
            await self._tell(load)
        finally:
            load.stop()
        await running
        return self._summary(load)

    async def _tell(self, load: Load) -> None:
        self._say("   s |   ns1   ns2  lost |  app1  app2  lost | up, as the probes see it")
        acts: dict[int, Callable[[], None]] = {
            DOWN_AT: self._kill_servers,
            UP_AT: self._return,
            WORKER_AT: self._kill_worker,
        }
        began = time.monotonic()
        before = [Counter(load.queries.answered), Counter(load.connections.answered)]
        for second in range(1, END_AT + 1):
            await asyncio.sleep(began + second - time.monotonic())
            after = [Counter(load.queries.answered), Counter(load.connections.answered)]
            queries, connections = (new - old for new, old in zip(after, before, strict=True))
            before = after
            self._say(
                f"{second:4d} | {queries['ns1']:5d} {queries['ns2']:5d} {load.queries.losses:5d} |"
                f" {connections['app1']:5d} {connections['app2']:5d} {load.connections.losses:5d} | {self._up()}"
            )
            if second in acts:
                acts[second]()

    def _kill_servers(self) -> None:
        self._say("     -- ns1 and app1 are killed")
        for name in ("ns1", "app1"):
            self._servers[name].kill()
            self._servers[name].wait()

    def _return(self) -> None:
        self._say("     -- ns1 and app1 return")
        for name in ("ns1", "app1"):
            self._start(name)

    def _kill_worker(self) -> None:
        pid = self._daemon.status()["workers"][0]["pid"]
        self._say(f"     -- one of Steelyard's workers, pid {pid}, is killed")
        if pid:
            os.kill(pid, signal.SIGKILL)

    def _summary(self, load: Load) -> bool:
        self._say("\nThe events, as `steelyard events` shows them:\n")
        for event in self._daemon.events():
            moment = time.strftime("%H:%M:%S", time.localtime(unix(event["at"])))
            self._say(f"    {moment} {event['subject']}: {event['text']}")
        self._say("\nSummary:\n")
        for what, tally in (("queries", load.queries), ("connections", load.connections)):
            self._say(f"    {_told(what, tally)}")
        lost = load.queries.losses + load.connections.losses
        unnoticed = sorted({"ns1", "app1"} - self._noticed)
        if unnoticed:
            self._say(f"\nThe probes did not notice that {' and '.join(unnoticed)} died.")
        self._say(f"\n{'Nothing was lost.' if not lost else f'{lost} LOST.'}")
        return lost == 0 and not unnoticed

    # -- the parts

    def _start(self, name: str) -> None:
        kind, port = ("dns", self._port) if name.startswith("ns") else ("greeter", self._app_port)
        log = self._folder / f"{name}.log"
        self._servers[name] = spawn("proxy.demo.backend", kind, name, SERVERS[name], str(port), log=log)

    def _up(self) -> str:
        """Return the names of all servers, those that are not up in brackets; remember those that are down."""
        names = {address: name for name, address in SERVERS.items()}
        backends = [backend for service in self._daemon.status()["services"] for backend in service["backends"]]
        self._noticed |= {names[b["name"]] for b in backends if b["state"] == "down"}
        return " ".join(names[b["name"]] if b["state"] == "up" else f"({names[b['name']]})" for b in backends)


def _told(what: str, tally: Tally) -> str:
    by = ", ".join(f"{who} {count}" for who, count in sorted(tally.answered.items()))
    lost = ", ".join(f"{count} x {why}" for why, count in tally.lost.items()) or "0"
    cut = f", {tally.cut} cut when their process was killed" if tally.cut else ""
    return f"{what}: {tally.sent} sent, answered by {by}; lost: {lost}{cut}; slowest {tally.slowest * 1000:.0f} ms"


def _free_port() -> int:
    """Return a port that is free for UDP and TCP on all addresses of the demo."""
    for _ in range(100):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if all(_free(address, port) for address in ("127.0.0.1", *SERVERS.values())):
            return port
    raise DemoError("no port is free on all of the demo's addresses in 127.0.0.0/8")


def _free(address: str, port: int) -> bool:
    try:
        with socket.socket() as stream, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram:
            stream.bind((address, port))
            datagram.bind((address, port))
    except OSError:
        return False
    return True


def play(say: Say) -> bool:
    """Run the demo; return True if nothing was lost. Raises DemoError if it cannot run here."""
    with tempfile.TemporaryDirectory(prefix="steelyard-demo-") as folder:
        return asyncio.run(Demo(Path(folder), say).run())
