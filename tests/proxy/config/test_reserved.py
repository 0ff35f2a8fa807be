"""The keys that no node may be named after."""

from proxy.config.reserved import reserved


def test_keys_of_every_table_are_reserved():
    """The keys of services, backends, probes, routers and timers are there, and names of tables that users choose are not."""
    assert {"backup", "interval", "priority", "idle-timeout", "members", "listen", "nodes"} <= set(reserved())
    assert "lb1" not in reserved()
