"""Why HTTP refuses a client or a request, in the words of the reference page."""

from typing import Final

from proxy.web.gate import ANSWER_TIME, HEAD_SIZE, HEAD_TIME, MOST

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
