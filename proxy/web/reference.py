"""docs/reference/metrics.md, made from the table of metrics: `python -m proxy.web.reference > docs/reference/metrics.md`."""

from typing import Final

from health.timing import BOUNDS
from proxy.stats import meanings
from proxy.stats.layout import BACKEND_ERRORS
from proxy.web.gate import ANSWER_TIME, HEAD_SIZE, HEAD_TIME, MOST
from proxy.web.names import ALL, REFUSED

_KINDS: Final = {"info": "gauge, always 1"}
WEB_REASONS: Final = {
    "not_allowed": "a client outside `allow`: 403",
    "too_many": f"a connection beyond {MOST}, or a stream too many: 503",
    "too_long": f"a request's line and headers of more than {HEAD_SIZE >> 10} KiB: 431",
    "too_slow": f"no whole request within {HEAD_TIME:g} s: 408; or an answer that took more than {ANSWER_TIME:g} s: cut",
    "body": "octets after the request, more than a client sends by mistake: cut",
    "bad_host": "a name in the Host header on loopback that is none of this host's: 421",
    "method": "another method than GET and HEAD: 405",
    "not_found": "an unknown path: 404",
    "malformed": "a request or a parameter that makes no sense: 400",
}
"""What `web_refused` counts; the server counts no other reason."""


def text() -> str:
    """Return the page."""
    rows = [
        f"| `{name.written}` | {_KINDS.get(name.kind, name.kind)} | {', '.join(f'`{label}`' for label in name.labels) or '-'} "
        f"| {name.meaning} |"
        for name in ALL
    ]
    errors = [f"| `{reason}` | {meanings.BACKEND[reason]} |" for reason, _ in BACKEND_ERRORS]
    refused = [f"| `{reason}` | {meanings.SERVICE[cell]} |" for cell, reason in REFUSED.items()]
    web = [f"| `{reason}` | {meaning} |" for reason, meaning in WEB_REASONS.items()]
    bounds = ", ".join(f"{bound:g}" for bound in BOUNDS)
    return "\n".join(
        [
            "# Metrics",
            "",
            "`/metrics` of [`[web]`](configuration.md#web) answers with these, in Prometheus' text format or as OpenMetrics.",
            "They are of the snapshot that `steelyard status` shows. Each has the label `node`, the name of the host. Counters",
            "never go back over a reload, a reexec or the death of a process; a restart of the daemon begins with zeros.",
            "A value that nobody knows has no sample.",
            "",
            "| metric | type | labels besides `node` | meaning |",
            "|---|---|---|---|",
            *rows,
            "",
            f"The buckets of `steelyard_probe_seconds` end at {bounds} s, those of `steelyard_backend_connect_seconds` at powers",
            "of two from 0.000256 to 8.388608 s. `probe` is the number of the probe in the order of the file, from 1.",
            "",
            "## Reasons of `steelyard_backend_errors_total`",
            "",
            "| reason | meaning |",
            "|---|---|",
            *errors,
            "",
            "## Reasons of `steelyard_service_refused_total`",
            "",
            "| reason | meaning |",
            "|---|---|",
            *refused,
            "",
            "## Reasons of `steelyard_web_refused_total`",
            "",
            "| reason | meaning |",
            "|---|---|",
            *web,
            "",
        ]
    )


if __name__ == "__main__":
    import sys

    sys.stdout.write(text())
