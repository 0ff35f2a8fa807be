"""proxy.control.wire: what server and client agree on."""

import subprocess
import sys

from proxy.control import wire


def test_errors_end_as_the_manual_says():
    """1 failed, 3 unreachable, 4 no permission."""
    assert wire.ControlError("x").exit_code == 1
    assert wire.UnreachableError("x").exit_code == 3
    assert wire.PermissionDeniedError("x").exit_code == 4


def test_asking_needs_no_event_loop():
    """The client's side imports neither asyncio nor pydantic: a command that a person types starts at once."""
    code = "import sys, proxy.control.client, proxy.cli.status; print([m for m in ('asyncio', 'pydantic') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
