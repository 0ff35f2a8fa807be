"""The `steelyard` command in the test's own process: in one of its own nine tenths of the time go into imports."""

import io
import subprocess
from contextlib import redirect_stderr, redirect_stdout

from proxy.cli import main


def steelyard(*arguments: object) -> "subprocess.CompletedProcess[str]":
    """Run the command to its end; its exit code and what it wrote."""
    output, errors = io.StringIO(), io.StringIO()
    words = [str(argument) for argument in arguments]
    code = 0
    with redirect_stdout(output), redirect_stderr(errors):
        try:
            main(words)
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 0
    return subprocess.CompletedProcess(words, code, output.getvalue(), errors.getvalue())
