"""keepalived's signed adverts."""

from tests.proxy.config.importers.bed import bring

ROUTER = "vrrp_instance V {\ninterface eth0\nvirtual_router_id 1\nvirtual_ipaddress {\n10.0.0.10\n}\nauth_hmac {\n%s\n}\n%s}\n"
NODES = "@a priority 100\n@b priority 90\n"  # the keys' files are those of other hosts


def test_keys_in_files():
    """The keys' files and ids are the router's, the active key first, with the same mode."""
    found = bring(
        "keepalived",
        ROUTER
        % ("key 1 file:/etc/k1\nkey 2 file:/etc/k2\nactive_key 2\nmode permissive\nanti_replay monotonic", NODES),
    )
    assert found.tables["vrrp"]["V"]["auth"] == {"mode": "permissive", "key-files": ["2:/etc/k2", "1:/etc/k1"]}
    assert found.counts["left"] == 0


def test_the_clock_is_not_asked():
    """The mode that compares clocks is told of, and its window."""
    found = bring("keepalived", ROUTER % ("key 1 file:/etc/k1\nanti_replay time\ntime_window 5", NODES))
    assert "anti_replay monotonic" in found.note("anti_replay")
    assert "not by the clock" in found.note("time_window")


def test_a_key_in_the_file_itself():
    """A key that is written in keepalived.conf is neither printed nor shown, and the router is not signed (S7)."""
    found = bring("keepalived", ROUTER % ("key 1 hex:0123456789abcdef", NODES))
    assert "auth" not in found.tables["vrrp"]["V"]
    assert "0123456789" not in found.text + "".join(found.notes)
    assert "into a file" in found.note("key")


def test_wrong_values():
    """Unknown modes, missing values and ids out of range are told."""
    found = bring("keepalived", ROUTER % ("key 1 file:/etc/k\nmode loud\nactive_key\nkey 999 file:/etc/x", NODES))
    assert found.tables["vrrp"]["V"]["auth"] == {"mode": "enforce", "key-files": ["1:/etc/k"]}
    assert found.counts["left"] == 3
