"""The alert rules and the dashboard in packaging/: they are well formed, and name only metrics that there are."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from proxy.web import names
from proxy.web.metrics import rendered
from proxy.web.view import Seen
from tests.proxy.web.test_metrics import DNS, FIGURES, ROUTER, status

PACKAGING = Path(__file__).parents[1] / "packaging"
RULES = PACKAGING / "prometheus" / "steelyard.rules.yml"
CASES = PACKAGING / "prometheus" / "steelyard.rules.test.yml"
DASHBOARD = PACKAGING / "grafana" / "steelyard.json"
promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")


def metrics():
    """Return the metrics of a snapshot with everything in it."""
    seen = Seen(json.dumps(status(DNS, vrrp=[ROUTER])).encode(), json.dumps(FIGURES).encode(), 0, 0)
    return rendered(seen, 0.0, "")[0].decode()


def named(text):
    """Return the names of metrics in a text."""
    return set(re.findall(r"\bsteelyard_[a-z0-9_]+", text))


def there():
    """Return the names of all samples."""
    return {re.match(r"[a-z0-9_]+", line)[0] for line in metrics().splitlines() if not line.startswith("#")}


def check(*arguments, stdin=""):
    """Run promtool; return what it said, which is nothing bad."""
    done = subprocess.run(
        ["promtool", *map(str, arguments)], input=stdin, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@promtool
def test_the_rules_are_rules():
    """Prometheus' own tool accepts the rules, and each case of their tests has the outcome that it says."""
    check("check", "rules", RULES)
    check("test", "rules", CASES)


@promtool
def test_the_metrics_keep_the_conventions():
    """R8: Prometheus' own tool finds nothing to complain of in the metrics."""
    assert check("check", "metrics", stdin=metrics()).strip() == ""


def test_each_alert_has_both_cases():
    """Each alert has a case in which it fires, with its words, and one in which it does not."""
    alerts = re.findall(r"- alert: (\w+)", RULES.read_text())
    assert len(alerts) == 13
    cases = re.findall(r"- name: (\w+ .*)", CASES.read_text())
    assert sorted(cases) == sorted(f"{alert} {what}" for alert in alerts for what in ("fires", "does not fire"))


@pytest.mark.parametrize("file", [RULES, CASES, DASHBOARD], ids=lambda path: path.name)
def test_only_metrics_that_are_there(file):
    """Rules and dashboard ask for metrics that a host with everything in its file has."""
    wanted = named(file.read_text())
    assert len(wanted) > 12
    assert wanted - there() == set()


def test_the_dashboard():
    """The dashboard is JSON with one data source to choose, panels that do not overlap, and every kind of metric in it."""
    board = json.loads(DASHBOARD.read_text())
    taken = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
        assert all(target["datasource"]["uid"] == "${source}" for target in panel.get("targets", ()))
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    shown = named(DASHBOARD.read_text())
    for group in ("vrrp", "service", "backend", "probe", "dns", "udp", "open_files"):
        assert any(name.startswith(f"{names.PREFIX}{group}") for name in shown), group
