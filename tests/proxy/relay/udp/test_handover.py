"""The rows of UDP sessions on their way to a successor."""

import pytest

from proxy.relay.proxy_header.header import Header
from proxy.relay.udp import handover


def test_a_row_of_another_version() -> None:
    """A row without its last part, or with unknown keys in it, is read; one that makes no sense is refused."""
    row = ["127.0.0.1:53/udp", "dns", "b0", "10.0.0.1", 4711, 1.5]
    plain = handover.Moving("127.0.0.1:53/udp", "dns", "b0", ("10.0.0.1", 4711), 1.5, -1, None)
    assert handover.read(row) == handover.read([*row, {"color": "blue"}]) == plain
    more = {"member": 2, "rest": [0, 3], "local": "0102", "header": [["10.0.0.1", 1], ["10.0.0.2", 53], 28]}
    moving = handover.read([*row, more])
    assert moving.client == ("10.0.0.1", 4711, 0, 3, b"\x01\x02")
    assert (moving.member, moving.told) == (2, Header(("10.0.0.1", 1), ("10.0.0.2", 53), 28))
    for wrong in ([], row[:5], [*row, 7], [*row[:4], None, 1.5], [*row, {"local": "zz"}]):
        with pytest.raises(ValueError, match=r"row|hex|values"):
            handover.read(wrong)
