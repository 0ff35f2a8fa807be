"""The breakages: for each behaviour a change that takes it away, as a careless developer might, and the tests that see it.

A row of `*.toml` says which behaviour (`id`), what is broken in a few words (`what`), in which `file` which text (`find`, there
exactly once) becomes which other (`replace`), and which `tests` (node ids) turn red then; each of them names the behaviour.
"""

import ast
import functools
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests import behaviours

ROOT = Path(__file__).parents[2]
AREAS = "TUH"
"""The areas of which every behaviour has a row."""
CHANGES = ("R3", "R4", "R5", "R6", "R8", "R9", "R12")
"""The further behaviours that have a row each: what is changed while the daemon runs."""


class Breakage(NamedTuple):
    """One row."""

    id: str
    what: str
    file: str
    find: str
    replace: str
    tests: list[str]

    def broken(self, source: str) -> str:
        """Return the file's source with the change in it; raises ValueError in words where the row does not fit."""
        if (count := source.count(self.find)) != 1:
            raise ValueError(f"{self.file} has the text {count} times, not once")
        found = source.replace(self.find, self.replace)
        if _meaning.__wrapped__(self.file, found) == _meaning(self.file, source):
            raise ValueError(f"nothing changes in {self.file}")
        return found


@functools.cache
def _meaning(file: str, source: str) -> str:
    """Return the source as a text without comments, layout and line numbers, kept as a file has many rows."""
    if file.endswith(".py"):
        return ast.dump(ast.parse(source))
    lines = (line.partition("#")[0].rstrip() for line in source.splitlines())
    return "\n".join(line for line in lines if line)


def rows() -> list[Breakage]:
    """Return all of them, in the order of the behaviours."""
    found = [
        Breakage(**row)
        for path in sorted(Path(__file__).parent.glob("*.toml"))
        for row in tomllib.loads(path.read_text())["breakage"]
    ]
    return sorted(found, key=lambda row: list(behaviours.BEHAVIOURS).index(row.id))


def mistakes(row: Breakage, root: Path = ROOT) -> Iterator[str]:
    """Yield in words why a row proves nothing: it does not fit the source, or its tests do not name the behaviour."""
    try:
        row.broken((root / row.file).read_text())
    except (OSError, SyntaxError, ValueError) as error:
        yield str(error)
    if not row.tests:
        yield "no test is named"
    for node in row.tests:
        path, *names = node.partition("[")[0].split("::")
        if row.id not in _named(root / path, names):
            yield f"{node} is no test that names {row.id}"


def _named(path: Path, names: list[str]) -> list[str]:
    """Return the behaviours that a test, or a class around it, names; none for one that does not exist."""
    found: list[str] = []
    body = _tree(path.read_text()).body if path.is_file() else []
    for name in names:
        kinds = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        node = next((one for one in body if isinstance(one, kinds) and one.name == name), None)
        if node is None:
            return []
        found += behaviours.ID.findall(ast.get_docstring(node) or "")
        body = node.body
    return found


@functools.cache
def _tree(source: str) -> ast.Module:
    """Return a parsed module, kept as many rows name tests of one."""
    return ast.parse(source)
