"""The headers of every answer: a browser may load nothing but our own files, and nobody may frame or sniff them [pure]."""

from typing import Final

SECURITY: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Server": "steelyard",
}
"""No `Access-Control-Allow-Origin`: pages of other origins read nothing."""
