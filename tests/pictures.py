"""Draws the pictures of `steelyard top` in docs/pictures, of an installation in which everything happens.

`make pictures` runs it; each picture is the SVG that Textual exports of the running program, without the fonts that it
would fetch.
"""

import asyncio
import os
import re
import sys
import time
from pathlib import Path

from proxy.dashboard.app import Dashboard
from tests.proxy.dashboard.lively import NOW, Source, past

TO = Path(__file__).parents[1] / "docs" / "pictures"
PICTURES: dict[str, tuple[tuple[int, int], list[str]]] = {
    "top-80x24": ((80, 24), []),
    "top-120x40": ((120, 40), []),
    "top-200x60": ((200, 60), []),
    "top-backend": ((120, 40), ["down"] * 9 + ["enter"]),
    "top-drain": ((80, 24), ["down"] * 5 + ["d"]),
    "top-away": ((80, 24), []),
}
"""Of each picture the size, and the keys that are pressed."""
FONTS = 'ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace'


async def draw(name: str) -> str:
    """Run the program, press keys, and return what it shows."""
    size, keys = PICTURES[name]
    now = [NOW]
    source = Source()
    app = Dashboard(source, clock=lambda: now[0], writable=name == "top-drain")
    past(app.scene.history, time.monotonic())
    async with app.run_test(size=size) as pilot:
        await pilot.pause(0.5)
        await pilot.press(*keys)
        await pilot.pause(0.5)
        if name == "top-away":
            now[0] += 12
            source.away = OSError("/run/steelyard/control.sock: connection refused: is the daemon running?")
            await pilot.pause(2)
        return local(app.export_screenshot(title=f"steelyard top, {size[0]}x{size[1]}"))


def local(picture: str) -> str:
    """Return an SVG that fetches nothing and takes the fonts of the reader's machine."""
    picture = re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL)
    return re.sub(r"font-family: Fira Code, monospace", f"font-family: {FONTS}", picture) + "\n"


def main(to: Path) -> None:
    """Draw all of them."""
    to.mkdir(parents=True, exist_ok=True)
    for name in PICTURES:
        (to / f"{name}.svg").write_text(asyncio.run(draw(name)))


if __name__ == "__main__":
    os.environ["TZ"] = "UTC"
    time.tzset()
    os.environ.pop("NO_COLOR", None)
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else TO)
