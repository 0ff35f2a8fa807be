"""Completion for bash, zsh and fish: click's scripts, and where each shell looks for its own."""

from pathlib import Path
from typing import Final

from click.shell_completion import get_completion_class

from proxy.cli import main

PLACES: Final = {
    "bash": Path("usr/share/bash-completion/completions/steelyard"),
    "zsh": Path("usr/share/zsh/vendor-completions/_steelyard"),
    "fish": Path("usr/share/fish/vendor_completions.d/steelyard.fish"),
}


def script(shell: str) -> str:
    """Return the script of a shell.  At each completion it runs `steelyard`, which answers with what may follow."""
    kind = get_completion_class(shell)
    if kind is None:
        raise LookupError(shell)
    return kind(main, {}, "steelyard", "_STEELYARD_COMPLETE").source()
