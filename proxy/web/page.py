"""The files of the page, which the process reads at its start: later it may lack the permission."""

from dataclasses import dataclass
from importlib.resources import files as packaged
from typing import Final

KINDS: Final = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class Content:
    """A file and its type."""

    body: bytes
    kind: str


def files() -> dict[str, Content]:
    """Return the files by path; "/" is the page itself."""
    found: dict[str, Content] = {}
    for file in packaged("proxy.web").joinpath("static").iterdir():
        kind = KINDS.get(file.name.rpartition(".")[2])
        if kind is not None:
            found["/" if file.name == "index.html" else f"/{file.name}"] = Content(file.read_bytes(), kind)
    return found
