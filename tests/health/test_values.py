"""Values that only the probes of one protocol have."""

import pytest
from pydantic import ValidationError

from health.spec import DnsProbe


@pytest.mark.parametrize("query", ["example.net", "example.net SAO", "a b c", f"{'a' * 64}.net A", "a..b A"])
def test_a_query_is_a_name_and_a_type(query):
    """A query without type, with an unknown one, or with an impossible name is refused."""
    with pytest.raises(ValidationError, match=r"not a (query|record type|domain name)"):
        DnsProbe(query=query)


def test_record_types_may_be_numbers():
    """A record type without a name is written as RFC 3597 has it."""
    assert DnsProbe(query="example.net TYPE65280").qtype == "TYPE65280"
