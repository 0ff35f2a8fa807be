"""The two load balancers of the pair's demo: their file, their daemons, and the faults of the first one."""

import asyncio
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from proxy.demo.namespaces import within
from proxy.demo.parts import Daemon, DemoError
from proxy.demo.site import ADDRESS, SERVERS, Site

DNS_PORT, APP_PORT = 53, 7
READY_WITHIN = 60.0  # s; it takes two seconds if the processors have nothing else to do: each host is five interpreters
PATIENCE = 15.0  # s for the address to reach a host that is ready, and stay there
LOOK = 0.05  # s between two checks which host has it

CONFIG = """\
nodes = ["lb1", "lb2"]                  # the same file on both hosts

[node]
workers      = 1
stop-timeout = "3s"
state-dir    = {{ lb1 = "{folder}/lb1", lb2 = "{folder}/lb2" }}

[control]
socket = {{ lb1 = "{folder}/lb1.sock", lb2 = "{folder}/lb2.sock" }}

[vrrp.outside]
interface       = "eth0"
vrid            = 51
addresses       = ["{address}/24"]
priority        = {{ lb1 = 150, lb2 = 100 }}
advert-interval = "100ms"
track           = [{{ service = "*", penalty = 60 }}]

[service.dns]
listen   = ["outside:{dns_port}/udp", "outside:{dns_port}/tcp"]
protocol = "dns"
backends = ["{ns1}", "{ns2}"]
probe    = {{ type = "dns", query = "probe.demo.example TXT", interval = "1s" }}

[service.app]
listen   = ["outside:{app_port}/tcp"]
backends = ["{app1}", "{app2}"]
probe    = {{ type = "tcp", expect = "hello", interval = "1s" }}
"""


class Hosts:
    """lb1 and lb2 of a site; `daemons` has the last started daemon of each. For process 1 of a process namespace."""

    def __init__(self, site: Site, folder: Path) -> None:
        """Write the configuration file of both hosts."""
        self._site = site
        self._folder = folder
        self._file = folder / "steelyard.toml"
        self.config = CONFIG.format(folder=folder, address=ADDRESS, dns_port=DNS_PORT, app_port=APP_PORT, **SERVERS)
        self._file.write_text(self.config, encoding="utf-8")
        self.daemons: dict[str, Daemon] = {}

    def start(self, host: str) -> None:
        """Start the daemon of a host."""
        socket, log = (self._folder / f"{host}.{end}" for end in ("sock", "log"))
        with within(self._site.networks[host]):
            self.daemons[host] = Daemon(socket, log, "-c", str(self._file), "--node", host)

    async def ready(self, host: str, *states: str) -> None:
        """Wait until a host serves and all its routers are in one of `states`, or in any state if none is given."""

        def there(status: dict[str, Any]) -> bool:
            return not states or all(router["state"] in states for router in status["vrrp"])

        await self.daemons[host].ready(there, READY_WITHIN)

    async def tell(self, command: str) -> None:
        """Send lb1 a command without arguments. Raises ControlError."""
        await asyncio.to_thread(self.daemons["lb1"].ask, command)

    async def cable(self, *, plugged: bool) -> None:
        """Pull the cable that connects lb1 to the clients and to lb2, or plug it in again."""
        await asyncio.to_thread(self._site.cable, "lb1", "outside", plugged=plugged)

    async def kill_master(self) -> None:
        """Kill the master of lb1, and nothing else."""
        self.daemons["lb1"].process.kill()

    async def kill_all(self) -> float:
        """Kill all processes of lb1 at once; return the seconds until its kernel has removed the address."""
        began = time.monotonic()
        os.killpg(self.daemons["lb1"].process.pid, signal.SIGKILL)
        await _until(lambda: "lb1" not in self._site.holders(), "lb1's kernel to remove the address")
        return time.monotonic() - began

    async def restart(self) -> None:
        """Start lb1 again after all its processes have ended, also those that outlived a dead master."""
        await _until(self._ended, "all of lb1's processes to end")
        self.start("lb1")
        await self.ready("lb1")

    def _ended(self) -> bool:
        """Return True if no process of lb1 is left; after the master's death they are all children of this process."""
        try:
            while os.waitpid(-self.daemons["lb1"].process.pid, os.WNOHANG) != (0, 0):
                pass
        except ChildProcessError:
            return True
        return False


async def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise DemoError(f"waited {PATIENCE:g} s for {what}")
        await asyncio.sleep(LOOK)
