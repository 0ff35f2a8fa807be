"""Runs the dashboard without a terminal, presses its keys, and reads its screen."""

import time

from proxy.dashboard.app import Dashboard
from proxy.dashboard.widgets import List
from tests.proxy.dashboard.lively import NOW, Source

PATIENCE = 40.0


class Driven:
    """The program under test, with what it shows as text."""

    def __init__(self, app, pilot, source):
        self.app, self.pilot, self.source = app, pilot, source

    @property
    def screen(self):
        """What stands on the screen now, line by line."""
        width, height = self.app.size
        strips = self.app.screen._compositor.render_strips()
        return ["".join(part.text for part in strip)[:width] for strip in strips[:height]]

    @property
    def text(self):
        """The screen in one text."""
        return "\n".join(self.screen)

    @property
    def selected(self):
        """The key of the selected row."""
        return self.app.screen_stack[0].query_one(List).selected

    async def until(self, condition):
        """Wait until something is on the screen."""
        ends = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < ends, self.text
            await self.pilot.pause(0.05)

    async def press(self, *keys):
        """Press keys, and wait until they have had their effect."""
        await self.pilot.press(*keys)
        await self.pilot.pause()


def driving(size=(120, 40), **more):
    """Return what runs the program at a size."""

    class Running:
        async def __aenter__(self):
            self.source = more.pop("source", None) or Source()
            self.app = Dashboard(self.source, **{"clock": lambda: NOW} | more)
            self.context = self.app.run_test(size=size)
            driven = Driven(self.app, await self.context.__aenter__(), self.source)
            if getattr(self.source, "away", None) is None:
                await driven.until(lambda: "▾ " in driven.text)
                await driven.pilot.pause()
            return driven

        async def __aexit__(self, *why):
            return await self.context.__aexit__(*why)

    return Running()
