"""Completion in the shells themselves, with the scripts that the package ships."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shipping import completion
from tests.e2e.process import program

BASH = """
. "$1"
COMP_WORDS=({words}) COMP_CWORD={last}
_steelyard_completion steelyard "" ""
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
# zsh completes in a line editor alone: zpty is a terminal inside of the shell.
ZSH = """
zmodload zsh/zpty
zpty -b z "PS1= TERM=dumb zsh -f -i"
zpty -w z 'fpath=("$DIR" $fpath); autoload -Uz compinit; compinit -u -D; zstyle ":completion:*" list-prompt ""; LISTMAX=0'
zpty -w z 'print -r -- REA''DY'
local line=""
repeat 200; do zpty -r z line '*READY*' && break; sleep 0.05; done
zpty -w -n z "{line}"$'\\t\\t'
local out="" part="" missing
repeat 600; do
    while zpty -r -t z part; do out+=$part; done
    missing=""
    for part in ${{=WANT}}; do [[ $out == *$part* ]] || missing=yes; done
    [[ -z $missing ]] && break
    sleep 0.05
done
print -r -- $out
"""
SHELLS = ("bash", "zsh", "fish")
LINES = [
    ("steelyard re", {"reload", "reexec", "remove", "ready", "resume"}),
    ("steelyard import k", {"keepalived"}),
    ("steelyard reload --dr", {"--dry-run"}),
]


@pytest.fixture
def path(tmp_path: Path) -> dict[str, str]:
    """Return an environment in which `steelyard` is this checkout's."""
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "steelyard"
    command.write_text(f"#!{sys.executable}\nfrom proxy.cli import main\nmain()\n")
    command.chmod(0o755)
    root = Path(__file__).parents[2]
    return {
        **os.environ,
        "PATH": f"{command.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(root),
        "HOME": str(tmp_path),
    }


def completed(shell: str, line: str, offered: set[str], script: Path, environment: dict[str, str]) -> str:
    """Return what a shell offers behind a line; zsh is given half a minute for what it should be."""
    if shell == "bash":
        words = " ".join(f"'{word}'" for word in line.split(" "))
        text = BASH.format(words=words, last=len(line.split(" ")) - 1)
        command = [program("bash"), "--norc", "-c", text, "bash", str(script)]
    elif shell == "zsh":
        command = [program("zsh"), "-f", "-c", ZSH.format(line=line)]
    else:
        command = [program("fish"), "--no-config", "-c", f'source {script}; complete --do-complete "{line}"']
    environment = environment | {"DIR": str(script.parent), "WANT": " ".join(offered)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, timeout=60)
    return done.stdout


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(("line", "offered"), LINES)
def test_a_shell_completes(shell, line, offered, path, tmp_path):
    """Commands, arguments and options are completed by the shell itself, with the script of the package."""
    script = tmp_path / completion.PLACES[shell].name
    script.write_text(completion.script(shell))
    out = completed(shell, line, offered, script, path)
    assert {word for word in offered if word not in out} == set()
    assert "Traceback" not in out
    assert "disconnect" not in out


def test_scripts_are_named_as_the_shells_look_for_them():
    """The script of zsh begins with the line that compinit looks for, and those of the others name the command."""
    assert completion.script("zsh").startswith("#compdef steelyard\n")
    assert "complete -o nosort -F _steelyard_completion steelyard" in completion.script("bash")
    assert "complete --no-files --command steelyard" in completion.script("fish")
