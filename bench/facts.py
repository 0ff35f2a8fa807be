"""What a result says of its machine, its programs and its command."""

import datetime as dt
import os
import platform
import re
import subprocess
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.e2e.process import MissingError, program

# How each tool tells its version; most of them print it beside other things.
ASKED = {
    "dnsperf": "-h",
    "nsd": "-v",
    "nginx": "-v",
    "wrk": "-v",
    "iperf3": "--version",
    "h2load": "--version",
    "sysbench": "--version",
    "mariadbd": "--version",
    "slapd": "-VV",
}


def processor_model() -> str:
    """Return what the processor is called."""
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def release() -> str:
    """Return the name and version of the distribution."""
    return str(platform.freedesktop_os_release().get("PRETTY_NAME", "Linux"))


def tool_version(name: str) -> str:
    """Return the version of a client or server, "?" if it does not tell."""
    try:
        path = program(name)
    except MissingError:
        return "not installed"
    done = subprocess.run([path, ASKED[name]], capture_output=True, text=True, timeout=20, check=False)
    found = re.search(r"\d+\.\d+(\.\d+)?", done.stdout + done.stderr)
    return found[0] if found else "?"


def revision() -> str:
    """Return the commit of this checkout, with a plus if files have changed; "" outside of a clone."""
    root = Path(__file__).parents[1]
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty=+", "--exclude=*"],
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        return ""
    return done.stdout.strip()


def facts(command: str, tools: Iterable[str], note: str = "") -> dict[str, Any]:
    """Return the facts; `command` repeats the measurement, `note` is shown with every figure of it."""
    return {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "command": command,
        "note": note,
        "processor": processor_model(),
        "processors": os.cpu_count(),
        "kernel": platform.release(),
        "system": release(),
        "python": platform.python_version(),
        "uvloop": version("uvloop"),
        "steelyard": version("steelyard"),
        "revision": revision(),
        "tools": {name: tool_version(name) for name in sorted(set(tools))},
    }
