"""CONTRIBUTING.md: the rooms and files that it names exist, and every room is named."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text().partition("## Where things are")[2].partition("\n## ")[0]


def test_what_it_names_exists():
    """Each file and folder of "Where things are" is in the checkout, below proxy/ or one of its large rooms, or at its top."""
    named = [one for one in re.findall(r"`([a-z0-9_/.]+)`", PAGE) if one.endswith((".py", "/"))]
    assert len(named) > 50
    assert [
        one
        for one in named
        if not any((ROOT / room / one).exists() for room in ("", "proxy", "proxy/relay", "proxy/config"))
    ] == []


def test_every_room_is_named():
    """Each folder of proxy/ and of proxy/relay/ is named, and says in its own first sentence what lives there."""
    rooms = [path.parent for path in (ROOT / "proxy").rglob("__init__.py") if path.parent != ROOT / "proxy"]
    assert len(rooms) > 20
    for room in rooms:
        assert (room / "__init__.py").read_text().startswith('"""'), room
        if "messages" not in room.parts and "probes" not in room.parts:
            assert f"`{room.name}/`" in PAGE, room
