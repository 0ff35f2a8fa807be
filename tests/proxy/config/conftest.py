"""Write a file, and read what is said of it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.config import Config, diagnose, load


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the host's own node name out of the tests."""
    monkeypatch.delenv("STEELYARD_NODE", raising=False)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that writes a configuration file and returns its path."""

    def write_text(text: str, name: str = "steelyard.toml") -> Path:
        path = tmp_path / name
        path.write_bytes(text.encode())
        return path

    return write_text


@pytest.fixture
def said(write: Callable[[str], Path]) -> Callable[[str], list[str]]:
    """Return a function that returns what is said of a text: "line:col severity: message" and the hint behind a bar."""

    def diagnose_text(text: str, node: str | None = None) -> list[str]:
        _, found = diagnose(write(text), node)
        return [
            f"{item.line}:{item.col} {item.severity}: {item.message}" + (f" | {item.hint}" if item.hint else "")
            for item in found
        ]

    return diagnose_text


@pytest.fixture
def loaded(write: Callable[[str], Path]) -> Callable[[str], Config]:
    """Return a function that loads a text."""

    def load_text(text: str, node: str | None = None) -> Config:
        return load(write(text), node)

    return load_text
