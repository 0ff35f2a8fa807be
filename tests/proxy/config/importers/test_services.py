"""Backends are as short as their neighbours allow."""

from proxy.config.importers.draft import Draft
from proxy.config.importers.ledger import Ledger, Statement
from proxy.config.importers.lexer import Place, Token
from proxy.config.importers.services import Server, write_backends

STATEMENT = Statement((Token("word", "x", Place("f", 1)),))


def written(*servers):
    draft = Draft()
    part = draft.part("service", "a")
    write_backends(
        draft, ledger := Ledger(), part, [Server(backend, STATEMENT, probes) for backend, probes in servers], STATEMENT
    )
    probe = draft.parts.get(("service", "a", "probe"))
    return (
        part.get("backends").values,
        {item.key: item.value for item in probe.settings()} if probe else part.get("probe"),
        ledger,
    )


def test_a_probe_that_all_share_is_the_services():
    """A probe of every server is written once; a server with another one keeps its own, a spare without one is always up."""
    tcp, http = {"type": "tcp"}, {"type": "http"}
    rows, probe, _ = written(
        ({"address": "10.0.0.1"}, [tcp]),
        ({"address": "10.0.0.2"}, [tcp]),
        ({"address": "10.0.0.3", "backup": True}, []),
    )
    assert rows == ["10.0.0.1", "10.0.0.2", {"address": "10.0.0.3", "backup": True, "probe": {"type": "none"}}]
    assert probe == tcp
    rows, probe, _ = written(({"address": "10.0.0.1"}, [tcp]), ({"address": "10.0.0.2"}, [tcp, http]))
    assert rows[1] == {"address": "10.0.0.2", "probe": [tcp, http]}
    assert probe is None


def test_several_probes_are_rows():
    """Several probes that all servers share are a list of the service."""
    _, probe, _ = written(({"address": "10.0.0.1"}, [{"type": "tcp", "port": 1}, {"type": "tcp", "port": 2}]))
    assert probe.values == [{"type": "tcp", "port": 1}, {"type": "tcp", "port": 2}]


def test_names_are_legal_and_different():
    """Names lose blanks, and get numbers if two are the same; a server with several ports gets a name for each."""
    rows, _, _ = written(
        ({"address": "10.0.0.1", "name": "public dns"}, []), ({"address": "10.0.0.2", "name": "public dns"}, []),
        ({"address": "10.0.0.3", "port": 1}, []), ({"address": "10.0.0.3", "port": 2}, []),
    )  # fmt: skip
    assert [row["name"] for row in rows] == ["public-dns", "public-dns-2", "10.0.0.3:1", "10.0.0.3:2"]


def test_unprobed_servers_are_told():
    """A service whose servers are not probed has a note."""
    _, probe, ledger = written(({"address": "10.0.0.1"}, []))
    assert probe == {"type": "none"}
    assert "all count as up" in str(ledger.notes[0])
