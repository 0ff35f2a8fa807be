"""A Debian root that a test may change, on a host of the bed: packaging/shipping/tree.py says what it is made of."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from proxy.host import privileges
from shipping import tree
from tests.e2e.bed import Bed
from tests.e2e.process import MissingError, Proc, descendants, program, until

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Tree:
    """A root over `lower`, with the network of a host of the bed and processes of its own, until the bed is closed."""

    def __init__(self, bed: Bed, host: str, lower: Path) -> None:
        if privileges.alone():
            raise MissingError("an overlay over a Debian root needs a real root")
        self.bed, self.host, self._lower = bed, host, lower
        self.proc: Proc = bed.spawn(
            host, tree.command(lower, [], "sh", "-c", "echo up; exec sleep infinity"), name="tree"
        )
        until(lambda: self.proc.output().endswith("up\n"), 20, "the tree")
        self._init = next(pid for pid in descendants(self.proc.pid) if _is_init(pid))

    @property
    def root(self) -> Path:
        """The root, for processes outside."""
        return Path(f"/proc/{self._init}/root")

    def changed(self) -> set[str]:
        """Return every file that is not as it is below: made, removed, or with another content."""
        words = ["nsenter", f"--target={self._init}", "--mount", "--", "find", str(tree.UPPER), "!", "-type", "d"]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        names = {line.removeprefix(str(tree.UPPER)) for line in done.stdout.splitlines()}
        return {name for name in names if not self._same(name)}

    def _same(self, name: str) -> bool:
        """Return True for a file that is only a copy: one that was opened to be written, such as a lock."""
        above, below = (root / name.lstrip("/") for root in (self.root, self._lower))
        both = above.is_file() and below.is_file()
        return both and above.read_bytes() == below.read_bytes()

    def command(self, *words: str) -> list[str]:
        """Return what runs a command in the tree."""
        enter = [program("nsenter"), f"--target={self._init}", "--mount", "--pid", "--net", "--root", "--wd", "--"]
        return [*enter, "env", "-i", f"PATH={_PATH}", "HOME=/root", "LC_ALL=C.UTF-8", *words]

    def run(self, *words: str, check: bool = True, timeout: float = 120.0) -> subprocess.CompletedProcess[str]:
        """Run a command in the tree to its end.  Raises AssertionError with its output if it fails and `check` is set."""
        command = self.command(*words)
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False
        )
        if check and done.returncode:
            raise AssertionError(f"{' '.join(words)}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def spawn(self, words: Sequence[str]) -> Proc:
        """Start a program in the tree."""
        return self.bed.spawn(self.host, self.command(*words), name=words[0])

    def put(self, path: Path, to: str) -> None:
        """Copy a file of this host into the tree."""
        self.write(to, path.read_bytes())

    def write(self, to: str, content: bytes) -> None:
        """Write a file of the tree."""
        place = self.root / to.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)

    def read(self, path: str) -> str:
        """Return a file of the tree."""
        return (self.root / path.lstrip("/")).read_text()


def _is_init(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    return "\nNSpid:\t" in status and status.partition("\nNSpid:\t")[2].partition("\n")[0].split()[1:] == ["1"]
