"""The web server of a real daemon, on loopback: what it serves across reload and reexec, and the page in a browser."""
# ruff: noqa: ASYNC110, B023 - what the page and the daemon count announces no change, and each lambda ends with its turn

import asyncio
import json
import os
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e import browser
from tests.e2e.loopback import Backend, Node, echo_service, exchange, free_port, lift_loopback, living, settled
from tests.e2e.process import descendants, until
from tests.proxy.web.bed import Bed, backend, service, status

MARKUP = "<img src=x onerror=alert(1)>"


@pytest.fixture(autouse=True, scope="module")
def _loopback():
    lift_loopback()


@pytest.fixture
def backends():
    two = [Backend(), Backend()]
    yield two
    for one in two:
        one.close()


@pytest.fixture
def node(tmp_path, backends):
    """A daemon with an echo service and [web]; `web` and `echo` are the ports."""
    web, echo = free_port(), free_port()
    made = Node(tmp_path, f'{echo_service(echo, backends)}\n[web]\nlisten = "127.0.0.1:{web}"\n', workers=1)
    made.web, made.echo = web, echo
    made.start(ready=False)
    until(made.socket.exists, 60, "the daemon to start")
    made.until(settled, "the daemon to be ready", 60)
    yield made
    made.end()


def get(node, path, **headers):
    """Return the status and the body of an answer."""
    request = urllib.request.Request(f"http://127.0.0.1:{node.web}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def samples(node):
    """Return all samples of the metrics by name and labels."""
    code, text = get(node, "/metrics")
    assert code == 200, text
    return {
        (one.name, *sorted(one.labels.items())): (family.type, one.value)
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


def master(node):
    """Return the process that answers on the control socket."""
    with socket.socket(socket.AF_UNIX) as control:
        control.connect(str(node.socket))
        return int.from_bytes(control.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 4), "little")


def herald(pid):
    """Return the process id of a master's herald process, 0 without one."""
    for child in descendants(pid)[1:]:
        with suppress(OSError):
            if b"proxy.heraldd" in Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0"):
                return child
    return 0


def talk(node, times):
    """Make connections through the daemon."""
    for _ in range(times):
        with socket.create_connection(("127.0.0.1", node.echo), timeout=5) as sock:
            assert exchange(sock, b"hello") == b"hello"


def test_what_a_real_daemon_shows(node):
    """S3: status, events, metrics and readiness come over HTTP as over the control socket, from a process without privileges."""
    talk(node, 3)
    code, text = get(node, "/status.json")
    shown, asked = json.loads(text), node.status()
    assert code == 200
    assert shown.keys() == asked.keys()
    assert [one["name"] for one in shown["services"]] == ["echo"]
    assert (get(node, "/healthz"), get(node, "/readyz")) == ((200, "ok\n"), (200, "ok\n"))
    events = json.loads(get(node, "/events.json")[1])["events"]
    assert any(event["kind"] == "start" for event in events)
    found = until(
        lambda: (
            (now := samples(node))["steelyard_service_accepted_total", ("node", "n"), ("service", "echo")][1] >= 3
            and now
        ),
        5,
        "the counters",
    )
    for name in ("steelyard_probe_seconds_count", "steelyard_backend_connect_seconds_count", "steelyard_open_files"):
        assert any(key[0] == name and value[1] > 0 for key, value in found.items()), name
    rights = Path(f"/proc/{herald(node.pid)}/status").read_text()
    assert "CapEff:\t0000000000000000" in rights
    if os.geteuid() == 0:
        assert "Uid:\t0" not in rights
    assert "aiohttp" not in Path(f"/proc/{node.pid}/maps").read_text()


def test_strangers_are_refused(node):
    """S3: a foreign name in Host, another method and an unknown path are refused and counted in the metrics."""
    assert get(node, "/status.json", Host="attacker.example")[0] == 421
    assert get(node, "/nothing")[0] == 404
    wanted = {
        ("steelyard_web_refused_total", ("node", "n"), ("reason", reason)) for reason in ("bad_host", "not_found")
    }
    until(lambda: all(key in samples(node) for key in wanted), 10, "the refusals to be counted")


def test_a_death(node):
    """R8: one that is killed is replaced, its clients wait, no probe, connection or refusal is forgotten."""
    talk(node, 2)
    get(node, "/nothing")
    counted = lambda: {key: value for key, (kind, value) in samples(node).items() if kind in {"counter", "histogram"}}  # noqa: E731
    until(
        lambda: ("steelyard_web_refused_total", ("node", "n"), ("reason", "not_found")) in counted(), 10, "the refusal"
    )
    before = counted()
    for module in ("proxy.heraldd", "proxy.healthd"):
        os.kill(node.child(module), signal.SIGKILL)
    assert get(node, "/healthz") == (200, "ok\n")
    until(lambda: get(node, "/readyz")[0] == 200, 10, "it to be ready")
    until(lambda: counted().keys() >= before.keys(), 10, "all counters to be there")
    after = counted()
    assert {key: (value, after[key]) for key, value in before.items() if after[key] < value} == {}
    assert node.told("herald", "killed by SIGKILL", "restarted")


def test_counters_over_reload_and_reexec(node, backends):
    """R8: counters never go back over a reload and a reexec, no request is refused meanwhile, and a second one goes on."""
    failures, stop = [], []

    def ask():
        while not stop:
            try:
                if get(node, "/healthz") != (200, "ok\n"):
                    failures.append("another answer")
            except OSError as error:
                failures.append(repr(error))

    talk(node, 4)
    get(node, "/nothing")
    time.sleep(2.5)
    last = {key: value for key, (kind, value) in samples(node).items() if kind in {"counter", "histogram"}}
    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for act in ("reload", "reexec", "reexec"):
            if act == "reload":
                node.file.write_text(node.text.replace("workers = 1", 'workers = 1\nstop-timeout = "9s"'))
            code, said = node.steelyard(act)
            assert code == 0, said
            talk(node, 2)
            until(lambda: samples(node).keys() >= last.keys(), 30, "the metrics of the successor")
            now = {key: value[1] for key, value in samples(node).items()}
            assert {key: (value, now.get(key)) for key, value in last.items() if now.get(key, -1) < value} == {}
            last = {key: now[key] for key in last}
        assert failures == []
    finally:
        stop.append(True)
        asking.join(20)
        successor = master(node)
        if successor != node.pid:
            os.kill(successor, signal.SIGQUIT)
            until(lambda: not living([successor]), 20, "the successor to end")


def test_it_comes_and_goes_with_the_file(node):
    """A reload that removes [web] ends the process, one that adds it starts it, and a port that is taken refuses the reload."""
    with_web, (head, _, _) = node.text, node.text.partition("[web]")
    node.file.write_text(head)
    assert node.steelyard("reload")[0] == 0
    until(lambda: not herald(node.pid), 10, "the process to end")
    with pytest.raises(OSError, match="refused"):
        get(node, "/healthz")
    with socket.create_server(("127.0.0.1", node.web)):
        node.file.write_text(with_web)
        code, said = node.steelyard("reload")
        assert code == 1
        assert "already in use" in said
        assert "[web]" in said
    code, said = node.steelyard("reload")
    assert (code, "[web]" in said) == (0, True)
    assert get(node, "/healthz") == (200, "ok\n")


def test_a_start_on_a_port_that_is_taken(tmp_path, backends):
    """A daemon whose port for HTTP is taken does not start, and says who has it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        node = Node(tmp_path, f'{echo_service(free_port(), backends)}\n[web]\nlisten = "127.0.0.1:{port}"\n')
        code, said = node.failed()
    assert code == 1
    assert f"[web] 127.0.0.1:{port}/tcp: already in use by " in "\n".join(said)


# -- the page, in a browser

needs_chromium = pytest.mark.skipif(not browser.is_there(), reason="chromium is not installed")
SHOWN = 'document.querySelector("[data-backend=b0] .badge")?.textContent'


@needs_chromium
async def test_a_backend_that_dies_is_seen(node, backends):
    """The page shows within two seconds of its verdict that a backend is down, without a reload of the page."""
    async with browser.opened(f"http://127.0.0.1:{node.web}/") as page:
        await page.until(f'{SHOWN} === "up"', 60)
        await page.until('document.querySelector("#live")?.className === "fresh"', 10)
        backends[0].refuse()

        async def verdict():
            while all(one["state"] != "down" for service in node.status()["services"] for one in service["backends"]):
                await asyncio.sleep(0.05)

        await asyncio.wait_for(verdict(), 15)
        await page.until(f'{SHOWN} === "down"', 2.0)
        await page.until('document.querySelector("#events li")?.textContent.includes("b0")', 2.0)
        assert await page.run('document.querySelector("[data-service=echo] tbody tr").dataset.backend') == "b0"
        assert page.console == []
        assert all(
            url.startswith((f"http://127.0.0.1:{node.web}/", "data:")) for url in page.requests if url != "about:blank"
        )


@needs_chromium
async def test_a_daemon_that_is_away(node):
    """When the daemon stops answering, the page says so and how old it is; when it answers again, it is live again."""
    async with browser.opened(f"http://127.0.0.1:{node.web}/") as page:
        await page.until('document.querySelector("#live")?.className === "fresh"', 60)
        os.kill(node.pid, signal.SIGSTOP)
        try:
            await page.until('document.querySelector("#alarm")?.textContent.startsWith("The daemon is away")', 60)
            assert await page.run('document.querySelector("main").className') == "stale"
        finally:
            os.kill(node.pid, signal.SIGCONT)
        await page.until('document.querySelector("#live")?.className === "fresh"', 60)


@needs_chromium
async def test_names_with_markup_stay_text():
    """S3: names, reasons and events with markup are shown as text: nothing of them runs, and no policy had to stop it."""
    bed = await Bed().start()
    hostile = service(
        MARKUP,
        backend(
            MARKUP,
            reason=MARKUP,
            state="down",
            admin="drain",
            admin_by=MARKUP,
            admin_reason="<script>alert(2)</script>",
        ),
        listen=[MARKUP],
        scheduler=MARKUP,
    )
    router = {
        "name": MARKUP, "state": "active", "priority": 100, "effective_priority": 90, "priority_parts": {MARKUP: -10},
        "addresses": [MARKUP], "standby": False, "since": 1.0, "peer": {"node": MARKUP, "priority": 1, "last_advert_s": 1},
        "last_change": {"at": 1.0, "from": MARKUP, "to": "active", "reason": MARKUP},
    }  # fmt: skip
    shown = status(
        hostile,
        node=MARKUP,
        version=MARKUP,
        vrrp=[router],
        config={**status()["config"], "valid": False, "error": MARKUP},
    )

    async def show():
        while True:
            bed.show(shown)
            await asyncio.sleep(0.3)

    showing = asyncio.create_task(show())
    bed.view.tell([{"at": 1.0, "kind": MARKUP, "subject": MARKUP, "text": MARKUP, "level": "error"}])
    try:
        async with browser.opened(f"http://127.0.0.1:{bed.port}/") as page:
            await page.until('document.querySelector("#events li") !== null', 60)
            await page.until('document.querySelector("[data-service]") !== null', 10)
            text = await page.run("document.body.innerText")
            assert text.count("onerror=alert(1)") >= 12
            assert await page.run('document.querySelectorAll("img, main script").length') == 0
            assert page.console == []
    finally:
        showing.cancel()
        await bed.server.close(0.0)
