"""debian/copyright: who holds the rights to what is in the package, taken from the wheels themselves."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from email import message_from_string
from email.message import Message
from pathlib import Path
from typing import Final

from shipping.environment import HOME

_FORMAT: Final = "https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/"
_HOLDER: Final = re.compile(
    r"^\W*(copyright(?: \(c\)| ©)?[ :].*\d{4}.*|copyright \(c\) .*)$", re.IGNORECASE | re.MULTILINE
)

_LONGEST: Final = 60  # of a licence's name; more is its text
_COMMON: Final = (
    ("Apache-2.0", re.compile(r"Apache License\s+Version 2\.0, January 2004.*TERMS AND CONDITIONS", re.DOTALL)),
    ("LGPL-3", re.compile(r"GNU LESSER GENERAL PUBLIC LICENSE\s+Version 3")),
    ("GPL-3", re.compile(r"GNU GENERAL PUBLIC LICENSE\s+Version 3")),
    ("GPL-2", re.compile(r"GNU GENERAL PUBLIC LICENSE\s+Version 2")),
)
"""Licences whose text every Debian host has."""


@dataclass(frozen=True)
class Library:
    """One library of the package."""

    name: str
    version: str
    licence: str
    """As its metadata has it."""
    holders: tuple[str, ...]
    texts: tuple[str, ...]
    """The licence files."""
    files: tuple[str, ...]
    """What it has installed, below the directory of packages."""


def libraries(packages: Path) -> list[Library]:
    """Return what is installed in a directory of packages, without Steelyard.  Raises ValueError for one without a licence."""
    found = [_library(path) for path in packages.glob("*.dist-info")]
    return sorted((one for one in found if one.name != "steelyard"), key=lambda one: one.name.lower())


def copyright_file(found: list[Library], apache: str) -> str:
    """Return debian/copyright for Steelyard (whose licence's short form is `apache`) with these libraries."""
    paragraphs = [f"Format: {_FORMAT}\nUpstream-Name: steelyard"]
    paragraphs.append(f"Files: *\nCopyright: the authors of Steelyard\nLicense: Apache-2.0\n{_indented(apache)}")
    for one in found:
        holders = "\n ".join(one.holders or (f"the authors of {one.name}",))
        files = "Files: " + "\n ".join(f"{HOME.relative_to('/')}/lib/*/{file}" for file in one.files)
        files += f"\nCopyright: {holders}"
        text = "\n\n".join(one.texts) or f"{one.licence}, says its metadata; it has no licence file."
        paragraphs.append(f"{files}\nLicense: {_short(one)}\n{_indented(text)}")
    return "\n\n".join(paragraphs) + "\n"


def _short(one: Library) -> str:
    """Return a name for the licence of one library: texts of one name differ in their holders."""
    return f"{re.sub(r'[^A-Za-z0-9.+]+', '-', one.licence).strip('-')}-of-{one.name}"


def _library(path: Path) -> Library:
    metadata = message_from_string((path / "METADATA").read_text(errors="replace"))
    files = sorted(
        file for file in path.rglob("*") if file.is_file() and re.match(r"(?i)licen[cs]e|copying|notice", file.name)
    )
    texts = tuple(_text(file) for file in files)
    licence = _licence(metadata, texts)
    if not licence:
        raise ValueError(f"{path.name} has neither a licence in its metadata nor a licence file")
    holders = tuple(dict.fromkeys(" ".join(line.split()) for text in texts for line in _HOLDER.findall(text)))
    return Library(str(metadata["Name"]), str(metadata["Version"]), licence, holders[:20], texts, _files(path))


def _files(path: Path) -> tuple[str, ...]:
    """Return the files and directories of a library, from pip's record of them."""
    rows = (row.partition(",")[0].split("/") for row in (path / "RECORD").read_text().splitlines())
    return tuple(
        sorted({f"{first}/*" if rest else first for first, *rest in rows if first not in {"..", "__pycache__"}})
    )


def _text(file: Path) -> str:
    text = file.read_text(errors="replace").strip()
    for name, begins in _COMMON:
        if begins.search(text):
            return f"{file.name}: the text is in /usr/share/common-licenses/{name}."
    return text


def _licence(metadata: Message, texts: tuple[str, ...]) -> str:
    for value in _names(metadata):
        if value and "\n" not in value and len(value) < _LONGEST:
            return value
    return "custom" if texts else ""


def _names(metadata: Message) -> Iterator[str]:
    yield str(metadata["License-Expression"] or "")
    yield str(metadata["License"] or "")
    for value in metadata.get_all("Classifier", []):
        if str(value).startswith("License :: "):
            yield str(value).rpartition(" :: ")[2]


def _indented(text: str) -> str:
    lines = (line.rstrip().replace("\t", "    ").replace("\f", "") for line in text.splitlines())
    return "\n".join(f" {line}" if line else " ." for line in lines)
