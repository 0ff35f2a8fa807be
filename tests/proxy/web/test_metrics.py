"""Tests of the metrics, read back by the official parsers."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as classic

from health.timing import BOUNDS
from proxy.stats.histogram import bucket
from proxy.web import names
from proxy.web.metrics import latency, rendered
from proxy.web.view import Seen
from tests.proxy.web.bed import backend, service, status

FIGURES = {
    "services": {
        "dns": {
            "udp_sessions": 3, "udp_sessions_limit": 65536,
            "backends": {
                "b0": {
                    "latency": {"40": 2, "95": 1},
                    "probes": [{"type": "tcp", "buckets": [1.0] * (len(BOUNDS) + 1), "seconds": 2.5, "rejected": True, "lag": 12.0}],
                }
            },
        }
    },
    "vrrp": {"outside": {"transitions": 3, "conflicts": 1}}, "worker_restarts": 2,
    "files": {"master": [30, 1024], "worker 0": [50, 1024]}, "override_age_s": 5.0, "web_refused": {"not_allowed": 7},
}  # fmt: skip
ROUTER = {
    "name": "outside", "state": "active", "effective_priority": 90,
    "peer": {"node": "lb2", "priority": 100, "last_advert_s": 0.5},
}  # fmt: skip
DNS = service(
    "dns",
    backend("b0"),
    backend("b1", state="down", tier=1),
    protocol="dns",
    counters={"retries": 4, "servfail": 5, "denied": 6, "queries": 9},
)


def samples(shown=None, figures=None, parse=classic, accept=""):
    """Return the samples by name and labels (all but the node, which is checked)."""
    seen = Seen(json.dumps(shown or status(DNS, vrrp=[ROUTER])).encode(), json.dumps(figures or FIGURES).encode(), 0, 0)
    text, _ = rendered(seen, 0.25, accept)
    found = {}
    for family in parse(text.decode()):
        assert family.documentation
        for one in family.samples:
            assert one.labels["node"] == (shown or status())["node"]
            key = (one.name, *(value for label, value in sorted(one.labels.items()) if label != "node"))
            assert key not in found, key
            found[key] = one.value
    return found


@pytest.mark.parametrize(
    ("parse", "accept"), [(classic, ""), (openmetrics, "application/openmetrics-text; version=1.0.0")]
)
def test_all_metrics(parse, accept):
    """R8: both official parsers accept the metrics, and every metric of the table has a sample with the right value."""
    found = samples(parse=parse, accept=accept)
    for name in names.ALL:
        wanted = f"{name.written}_count" if name.kind == "histogram" else name.written
        assert any(key[0] == wanted for key in found), name
    assert {
        ("steelyard_backend_state", "b1", "dns", "down"): 1,
        ("steelyard_backend_state", "b1", "dns", "up"): 0,
        ("steelyard_backend_connections", "b0", "dns"): 2,
        ("steelyard_backend_errors_total", "b0", "reset", "dns"): 1,
        ("steelyard_service_backends", "dns"): 2,
        ("steelyard_service_backends_usable", "dns"): 1,
        ("steelyard_service_quorum_met", "dns"): 1,
        ("steelyard_service_refused_total", "denied", "dns"): 6,
        ("steelyard_service_accepted_total", "dns"): 9,
        ("steelyard_dns_retries_total", "dns"): 4,
        ("steelyard_dns_servfail_total", "dns"): 5,
        ("steelyard_udp_sessions_limit", "dns"): 65536,
        ("steelyard_probe_success", "b0", "1", "dns", "tcp"): 1,
        ("steelyard_probe_seconds_sum", "b0", "1", "dns", "tcp"): 2.5,
        ("steelyard_probe_lag_seconds", "b0", "1", "dns", "tcp"): 12,
        ("steelyard_probe_credentials_rejected", "b0", "1", "dns", "tcp"): 1,
        ("steelyard_vrrp_active", "outside"): 1,
        ("steelyard_vrrp_effective_priority", "outside"): 90,
        ("steelyard_vrrp_transitions_total", "outside"): 3,
        ("steelyard_vrrp_peer_advert_age_seconds", "outside"): 0.5,
        ("steelyard_vrrp_conflicts_total", "outside"): 1,
        ("steelyard_config_reload_ok",): 1,
        ("steelyard_config_info", "ab" * 32): 1,
        ("steelyard_override_age_seconds",): 5,
        ("steelyard_worker_restarts_total",): 2,
        ("steelyard_open_files", "worker 0"): 50,
        ("steelyard_open_files_limit", "master"): 1024,
        ("steelyard_web_refused_total", "not_allowed"): 7,
        ("steelyard_snapshot_age_seconds",): 0.25,
    }.items() <= found.items()


def test_what_is_unknown_is_absent():
    """A value that nobody knows has no sample rather than a zero: a probe without a result, a peer that was never heard."""
    fresh = service("a", backend(probes=[]))
    router = {**ROUTER, "effective_priority": None, "peer": None}
    found = samples(status(fresh, vrrp=[router]), {"services": {}})
    absent = {
        "probe_success",
        "probe_seconds_count",
        "probe_lag_seconds",
        "vrrp_peer_advert_age_seconds",
        "udp_sessions",
    }
    absent |= {"vrrp_effective_priority", "override_age_seconds"}
    assert {key[0].removeprefix("steelyard_") for key in found} & absent == set()


def test_who_counts():
    """A drained backend, one without a weight, and a healthy one in another role count neither as usable nor as missing."""
    shown = service(
        "a", backend("a"), backend("b", admin="drain"), backend("c", weight=0), backend("d", state="down"),
        backend("e", state="reserve", tier=1), quorum=2,
    )  # fmt: skip
    found = samples(status(shown), {"services": {"a": {"backends": {"d": {"standby": True}}}}})
    assert found["steelyard_service_backends", "a"] == 2
    assert found["steelyard_backend_standby", "d", "a"] == 1
    assert found["steelyard_service_backends_usable", "a"] == 2
    assert found["steelyard_service_quorum_met", "a"] == 0
    assert found["steelyard_backend_ready", "b", "a"] == 0


@given(st.dictionaries(st.integers(0, 95).map(str), st.integers(0, 1 << 40)))
def test_histograms_lose_nothing(cells):
    """Invariant: each counted latency is in one bucket, whose bound it does not exceed, and the sum fits the counts."""
    buckets, total = latency(cells)
    assert sum(count for _, count in buckets) == sum(cells.values())
    assert [bound for bound, _ in buckets] == sorted(bound for bound, _ in buckets)
    assert total >= 0


@given(st.integers(0, 8_388_607))
def test_the_bucket_of_a_latency(microseconds):
    """Invariant: a latency is counted below the first bound that it does not exceed."""
    buckets, _ = latency({str(bucket(microseconds)): 1})
    bound = next(bound for bound, count in buckets if count)
    assert microseconds / 1e6 <= bound
    assert bound <= 0.000256 or microseconds / 1e6 >= bound / 2


_TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(_TEXT, _TEXT, _TEXT)
def test_any_names(name, other, reason):
    """R8, S6: whatever names and reasons hold, quotes, line breaks, braces, both official parsers read them back."""
    shown = status(service(name, backend(other, errors={reason: 1})), node=name)
    for parse, accept in ((classic, ""), (openmetrics, "application/openmetrics-text; version=1.0.0")):
        found = samples(shown, {"services": {}}, parse, accept)
        assert found["steelyard_backend_errors_total", other, reason, name] == 1
