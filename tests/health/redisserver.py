"""Real Redis servers on loopback, in the foreground, and what they are told by redis-cli."""

import os
import subprocess
from pathlib import Path

from tests.e2e.loopback import free_port
from tests.e2e.process import program
from tests.health.databases import HOST, PASSWORD, Server


class RedisServer(Server):
    """A Redis that keeps nothing on disk; `options` are lines of its configuration."""

    def __init__(self, directory: Path, *options: str, follows: "RedisServer | None" = None, tls: bool = False) -> None:
        super().__init__(directory)
        self.tls_port = free_port() if tls else 0
        source = [f"replicaof {HOST} {follows.port}"] if follows else []
        lines = [
            f"bind {HOST}", f"port {self.port}", f"dir {self.dir}", 'save ""', "daemonize no", "repl-diskless-sync-delay 0",
            "repl-ping-replica-period 1", "repl-timeout 4", *([f"tls-port {self.tls_port}"] if tls else []), *source, *options,
        ]  # fmt: skip
        self.password = next((line.split()[1] for line in options if line.startswith("requirepass")), "")
        (self.dir / "redis.conf").write_text("\n".join(lines) + "\n")

    def command(self) -> list[str]:
        """Return how it is started."""
        return [program("redis-server"), str(self.dir / "redis.conf")]

    def answers(self) -> bool:
        """PING it."""
        try:
            return self.say("PING") == "PONG"
        except subprocess.CalledProcessError:
            return False

    def say(self, *words: str) -> str:
        """Return the answer to a command of the default user."""
        environment = os.environ | ({"REDISCLI_AUTH": self.password} if self.password else {})
        asked = [program("redis-cli"), "-h", HOST, "-p", str(self.port), "-e", *words]
        return subprocess.run(asked, check=True, capture_output=True, text=True, env=environment).stdout.strip()

    def link(self) -> str:
        """Return the state of its link to its primary."""
        lines = dict(line.partition(":")[::2] for line in self.say("INFO", "replication").splitlines())
        return lines.get("master_link_status", "").strip()


SECRET = f"requirepass {PASSWORD}"
