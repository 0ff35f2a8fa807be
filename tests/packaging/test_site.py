"""The documentation as a site: it builds without a warning, is complete in itself, and its pages are true."""

import ast
import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pytest

from proxy.config import diagnose, unsupported
from proxy.stats.meanings import BACKEND, SERVICE
from shipping import ROOT

DOCS = ROOT / "docs"
NEW = ("quick-start.md", "mail-hosting.md")
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
CALLS = {"add", "_add", "tell", "_tell", "told", "_told"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the site, built in a process without a network."""
    to = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", ROOT / "packaging" / "mkdocs.yml"]
    environment = os.environ | {
        "NO_MKDOCS_2_WARNING": "1",
        "http_proxy": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
    }
    done = subprocess.run(
        [*command, "--site-dir", to], capture_output=True, text=True, check=False, env=environment, timeout=110
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return to


def test_every_page_is_in_it(site):
    """Each page of docs/ is a page of the site and in its menu: the builder warns of broken links and anchors, and ends then."""
    index = (site / "index.html").read_text()
    for page in DOCS.rglob("*.md"):
        name = str(page.relative_to(DOCS).with_suffix(".html"))
        assert (site / name).exists(), name
        assert f'href="{name}"' in index, name


def test_it_asks_nobody_else(site):
    """No page loads a font, a script, a style or a picture from another host."""
    pattern = re.compile(
        r"""<(?:script|img|iframe)[^>]*\ssrc=["']?(https?:)?//|<link[^>]*\bhref=["']?(https?:)?//[^>]*(stylesheet|icon|preconnect)"""
    )
    pages = list(site.rglob("*.html"))
    assert len(pages) > 10
    assert [page.name for page in pages if pattern.search(page.read_text())] == []
    styles = "".join(path.read_text() for path in site.rglob("*.css"))
    assert re.findall(r"url\(['\"]?https?://[^)]*", styles) == []


def test_it_is_searchable(site):
    """The index of the search has the text of the reference and of the guides."""
    index = json.loads((site / "search" / "search_index.json").read_text())
    text = " ".join(entry["text"] for entry in index["docs"])
    assert {
        word for word in ("retry-after", "max-serial-lag", "wrong_question", "postscreen") if word not in text
    } == set()


@pytest.mark.parametrize(
    "page", [*DOCS.rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name
)
def test_links_lead_somewhere(page):
    """Each link to a file leads to one, and each link to a heading to a heading."""
    for link in LINK.findall(page.read_text()):
        if re.match("[a-z]+:", link):
            continue
        file, _, anchor = unquote(link).partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text()), link


def anchors(text: str) -> set[str]:
    """Return what links may name in a page: its headings, and anchors of its own."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    names = {re.sub(r"[^\w\- ]", "", one.lower()).strip().replace(" ", "-") for one in headings}
    return names | set(re.findall(r'<a id="([^"]+)"', text))


@pytest.mark.parametrize("page", NEW)
def test_examples_run(page, tmp_path):
    """Each example of the guides is a whole file without errors, and `steelyard run` refuses none of its keys."""
    examples = re.findall(r"```toml\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
    assert examples
    for text in examples:
        path = tmp_path / "steelyard.toml"
        path.write_text(text)
        config, found = diagnose(path)
        assert config is not None, [str(one) for one in found]
        assert unsupported(config) == []


def rows(section: str) -> dict[str, list[str]]:
    """Return name -> other cells of a table of the page of counters."""
    body = re.search(rf"^## {section}\n(.*?)(?=^## |\Z)", (DOCS / "counters.md").read_text(), re.DOTALL | re.MULTILINE)
    assert body is not None
    lines = [line.strip("|").split("|") for line in body[1].splitlines() if line.startswith("| `")]
    return {cells[0].strip().strip("`"): [cell.strip() for cell in cells[1:]] for cells in lines}


@pytest.mark.parametrize(("section", "meanings"), [("Of a service", SERVICE), ("Of a backend", BACKEND)])
def test_every_counter_is_explained(section, meanings):
    """Each counter has a row with the words that the status shows, and with what to do."""
    found = rows(section)
    assert {name: cells[0] for name, cells in found.items()} == meanings
    assert all(len(cells) == 2 and cells[1] for cells in found.values())


@cache
def kinds() -> set[str]:
    """Return the kinds of events that the daemon's code records: the first word of what it tells, or the argument `kind`."""
    found = set()
    for path in (ROOT / "proxy").rglob("*.py"):
        if {"relay", "demo", "config", "cli"} & set(path.relative_to(ROOT).parts):
            continue
        for call in (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)):
            name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
            words = [keyword.value for keyword in call.keywords if keyword.arg == "kind"]
            if name in CALLS and len(call.args) >= 3:
                words.append(call.args[0])
            found |= {str(one.value) for one in words if isinstance(one, ast.Constant) and isinstance(one.value, str)}
    return {kind for kind in found if re.fullmatch("[a-z]+", kind)}


def test_every_event_is_explained():
    """Each kind of event that the daemon records has a row, with what to do."""
    assert {"verdict", "vrrp", "reload", "reexec", "admin"} <= kinds()
    found = rows("Events")
    assert kinds() - set(found) == set()
    assert all(len(cells) == 2 and all(cells) for cells in found.values())
