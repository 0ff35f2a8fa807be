"""The peers in userspace: dnsdist, HAProxy and nginx's stream module, each with one thread and fair defaults.

Each has the policy that sends a client to the least busy server, like Steelyard's default.
"""

from pathlib import Path

from bench.systems.base import SELDOM, System
from bench.works import WORKS

TCP = frozenset(name for name, work in WORKS.items() if work.transport == "tcp")
VECTOR = 100  # datagrams that dnsdist takes from the kernel at once in the variant "vector"


class Dnsdist(System):
    """Dnsdist with one listener (so one thread in each direction) and no cache."""

    family = "dnsdist"
    works = frozenset({"dns", "dns-tcp"})

    @property
    def version(self) -> str:
        """As it says."""
        return self.tree.version("dnsdist", ask="--version")

    def launch(self) -> None:
        """Start it in the foreground."""
        lines = [f'setLocal("{self.address}:{self.work.port}")', 'setACL({"0.0.0.0/0"})', 'setSecurityPollSuffix("")']
        lines.append("setServerPolicy(leastOutstanding)")
        if self.variant == "vector":
            lines.append(f"setUDPMultipleMessagesVectorSize({VECTOR})")
        lines += [
            f'newServer{{address="{address}:{self.work.port}", checkName="example.net.", checkType="SOA", '
            f"checkInterval={SELDOM}}}"
            for address in self.work.backends
        ]
        self._spawn("dnsdist", "--supervised", "--disable-syslog", "-C", self._file("\n".join(lines) + "\n"))


class Haproxy(System):
    """HAProxy with one thread and mode tcp."""

    family = "HAProxy"
    works = TCP

    @property
    def version(self) -> str:
        """As it says."""
        return self.tree.version("haproxy")

    def launch(self) -> None:
        """Start it in the foreground."""
        servers = "\n".join(
            f"  server s{number} {address}:{self.work.port} check inter {SELDOM}s"
            for number, address in enumerate(self.work.backends)
        )
        splice = "  option splice-auto\n" if self.variant == "splice" else ""
        text = f"""global
  nbthread 1
  maxconn 4000
defaults
  mode tcp
{splice}  timeout connect 3s
  timeout client 1h
  timeout server 1h
listen bench
  bind {self.address}:{self.work.port} backlog 4096
  balance leastconn
{servers}
"""
        self._spawn("haproxy", "-db", "-f", self._file(text))


class NginxStream(System):
    """Nginx with one worker and the stream module; datagrams are relayed by session."""

    family = "nginx stream"
    works = frozenset(WORKS)

    @property
    def version(self) -> str:
        """As it says."""
        return self.tree.version("nginx")

    def launch(self) -> None:
        """Start it in the foreground, in one process with its master."""
        servers = " ".join(f"server {address}:{self.work.port};" for address in self.work.backends)
        udp = self.work.transport == "udp"
        module = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
        text = f"""daemon off; worker_processes 1; user root; pid {self.bed.dir}/nginx-stream.pid; error_log stderr crit;
{f"load_module {module};" if module.exists() else ""}
events {{ worker_connections 16000; }}
stream {{
  upstream bench {{ least_conn; {servers} }}
  server {{
    listen {self.address}:{self.work.port}{" udp" if udp else " backlog=4096"};
    proxy_pass bench; proxy_connect_timeout 3s; proxy_timeout {"10s" if udp else "1h"};{" proxy_responses 1;" if udp else ""}
  }}
}}
"""
        self._spawn("nginx", "-e", "stderr", "-p", self.bed.dir, "-c", self._file(text))
