"""docs/reference/metrics.md, made from the table of metrics: `python -m proxy.web.reference > docs/reference/metrics.md`."""

from typing import Final

from health.timing import BOUNDS
from proxy.stats import meanings
from proxy.stats.layout import BACKEND_ERRORS
from proxy.web.names import ALL, REFUSED
from proxy.web.reasons import WEB_REASONS

_KINDS: Final = {"info": "gauge, always 1"}


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
