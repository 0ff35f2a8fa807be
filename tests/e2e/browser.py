"""Headless Chromium, driven over its DevTools protocol: pages, what they show, their console, pictures."""

import asyncio
import base64
import json
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import aiohttp

START = 60.0  # s that the browser may take to listen
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-extensions", "--disable-default-apps",
    "--disable-dev-shm-usage", "--remote-debugging-port=0", "--hide-scrollbars",
)  # fmt: skip


def is_there() -> bool:
    """Return True if the host has Chromium."""
    return shutil.which("chromium") is not None


class Page:
    """One tab."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._number = 0
        self._open: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.console: list[str] = []
        """Errors and warnings of the page, also breaches of its content security policy."""
        self.requests: list[str] = []
        """The addresses of all that the page asked for."""
        self._reading = asyncio.ensure_future(self._read())

    async def begin(self) -> Self:
        """Listen to what the page says."""
        for domain in ("Page", "Runtime", "Log", "Network", "Audits"):
            await self.send(f"{domain}.enable")
        return self

    async def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Give a command; return its result."""
        self._number += 1
        self._open[self._number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": self._number, "method": method, "params": parameters})
        return await asyncio.wait_for(self._open[self._number], 60)

    async def run(self, script: str) -> Any:
        """Return the value of an expression in the page."""
        answer = await self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise AssertionError(json.dumps(answer["exceptionDetails"])[:2000])
        return answer["result"].get("value")

    async def until(self, script: str, seconds: float) -> Any:
        """Return the first true value of an expression; TimeoutError after so many seconds."""
        async with asyncio.timeout(seconds):
            while not (value := await self.run(script)):  # noqa: ASYNC110 - the page announces no change
                await asyncio.sleep(0.05)
        return value

    async def look(self, width: int, height: int, scheme: str) -> None:
        """Have a window of this size, and prefer "light" or "dark"."""
        mobile = width < 600
        await self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=2 if mobile else 1,
            mobile=mobile,
        )  # fmt: skip
        await self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    async def picture(self, path: Path) -> None:
        """Save what the window shows."""
        answer = await self.send("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(answer["data"]))  # noqa: ASYNC240 - nothing waits for it

    async def _read(self) -> None:
        async for message in self._socket:
            told = json.loads(message.data)
            if "id" in told:
                future = self._open.pop(told["id"], None)
                if future is not None and not future.done():
                    future.set_result(told.get("result", {"exceptionDetails": told.get("error")}))
            else:
                self._heard(told["method"], told["params"])

    def _heard(self, method: str, told: dict[str, Any]) -> None:
        if method == "Log.entryAdded":
            self.console.append(f"{told['entry']['source']} {told['entry']['level']}: {told['entry']['text']}")
        elif method == "Runtime.consoleAPICalled" and told["type"] in {"error", "warning"}:
            self.console.append(f"console {told['type']}: {told['args']}")
        elif method == "Runtime.exceptionThrown":
            self.console.append(f"exception: {json.dumps(told['exceptionDetails'])[:500]}")
        elif method == "Audits.issueAdded" and told["issue"]["code"] == "ContentSecurityPolicyIssue":
            self.console.append(f"policy: {json.dumps(told['issue'])[:500]}")
        elif method == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Page]:
    """Open a page in a browser with a new profile; the browser ends afterwards."""
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        command = ["chromium", *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: ASYNC220
        try:
            port = await _port(Path(profile) / "DevToolsActivePort")
            async with aiohttp.ClientSession() as session:
                async with session.get(f"http://127.0.0.1:{port}/json") as answer:
                    tabs = await answer.json(content_type=None)
                tab = next(one for one in tabs if one["type"] == "page")
                async with session.ws_connect(tab["webSocketDebuggerUrl"], max_msg_size=64 << 20) as socket:
                    page = await Page(socket).begin()
                    await page.send("Page.navigate", url=url)
                    yield page
        finally:
            browser.terminate()
            try:
                browser.wait(10)
            except subprocess.TimeoutExpired:
                browser.kill()
                browser.wait()


async def _port(file: Path) -> int:
    async with asyncio.timeout(START):
        while not file.exists() or "\n" not in file.read_text():  # noqa: ASYNC110, ASYNC240 - files announce no change
            await asyncio.sleep(0.05)
    return int(file.read_text().splitlines()[0])  # noqa: ASYNC240
