"""Virtual routers, sync groups, notifications."""

import pytest

ROUTER = '[vrrp.{name}]\ninterface = "{interface}"\nvrid = {vrid}\naddresses = [{addresses}]\n{rest}\n'
NODES = 'nodes = ["lb1", "lb2"]\n'


def router(name="inside", interface="eth1", vrid=52, addresses='"10.0.0.10/24"', rest=""):
    """Return a router's text."""
    return ROUTER.format(name=name, interface=interface, vrid=vrid, addresses=addresses, rest=rest)


def test_a_router_has_the_defaults_of_the_reference(loaded):
    """A router that says the least has priority 100, version 3, adverts each second, preemption, a pseudo-header checksum."""
    (found,) = loaded(router()).vrrp
    assert (found.name, found.interface, found.vrid, found.addresses) == ("inside", "eth1", 52, ("10.0.0.10/24",))
    assert (found.priority, found.version, found.advert_interval, found.preempt, found.checksum) == (
        100,
        3,
        1.0,
        True,
        "pseudo",
    )
    assert (found.announce.count, found.announce.repeat_after, found.announce.refresh) == (5, 5.0, 60.0)
    assert found.members is None


def test_defaults_and_members(loaded):
    """[defaults.vrrp] is merged in; a member is one address or a list, and every node sees all members."""
    text = (
        NODES
        + "[defaults.vrrp]\npriority = { lb1 = 150, lb2 = 100 }\n"
        + router(
            addresses='"10.0.0.10/24", "fd00:10::10/64"',
            rest='members = { lb1 = ["10.0.0.2", "fd00:10::2"], lb2 = ["10.0.0.3", "fd00:10::3"] }',
        )
    )
    (found,) = loaded(text, "lb2").vrrp
    assert found.priority == 100
    assert found.members == {"lb1": ("10.0.0.2", "fd00:10::2"), "lb2": ("10.0.0.3", "fd00:10::3")}
    alone = loaded(NODES + router(rest='members = { lb1 = "10.0.0.2", lb2 = "10.0.0.3" }'), "lb1").vrrp[0]
    assert alone.members == {"lb1": ("10.0.0.2",), "lb2": ("10.0.0.3",)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (router(vrid=256), "vrid = 256 is too large: at most 255"),
        (router(vrid=0), "vrid = 0 is too small: at least 1"),
        (router(rest="priority = 0"), "priority = 0 is too small: at least 1"),
        (router(rest="priority = 256"), "priority = 256 is too large: at most 255"),
        (router(interface="a" * 16), f'"{"a" * 16}" is not the name of a network interface (at most 15 characters)'),
        (router(addresses=""), "addresses is empty"),
        (router(addresses='"10.0.0.10/33"'), '"10.0.0.10/33" is not an address: write "10.0.0.10/24" or "2001:db8::10/64"'),
        (router(addresses='"10.0.0.10", "10.0.0.10/24"'), "10.0.0.10 is twice here"),
        (router(name="10.0.0.1"), None),
        (router(rest="version = 4"), "version must be 2 or 3, not 4"),
        (router(addresses='"fd00::1"', rest="version = 2"), "version 2 knows no IPv6: write version = 3 or leave the IPv6 addresses out"),
        (router(rest='version = 2\nadvert-interval = "500ms"'), "version 2 counts advert-interval in whole seconds"),
        (router(rest='advert-interval = "41s"'), "advert-interval is at most 40.95s in version 3"),
        (router(rest='auth-key-files = ["/etc/key"]'), 'auth-key-files was replaced | write auth = { mode = "enforce", key-files = […] }'),
        ('[defaults.vrrp]\nauth-key-files = ["/etc/key"]\n' + router(), 'auth-key-files was replaced | write auth = { mode = "enforce", key-files = […] }'),
        (router(rest='auth = { mode = "enforce" }'), 'mode = "enforce" needs key-files | write key-files = ["/etc/steelyard/vrrp.key"]'),
        (router(rest='auth = { mode = "force" }'), 'mode = "force": must be "off", "receive-only", "permissive" or "enforce" | did you mean "enforce"?'),
        (router(rest='auth = { key-files = ["key"] }'), '"key" is no absolute path, nor one behind the id of its key: write "2:/etc/steelyard/key"'),
        (router(rest='auth = { key-files = ["0:/nowhere/key"] }'), '"0" is not the id of a key: ids are 1 to 255'),
        (router(rest='auth = { key-files = ["256:/nowhere/key"] }'), '"256" is not the id of a key: ids are 1 to 255'),
        (router(rest='auth = { key-files = ["2:/nowhere/key", "/nowhere/other"] }'), "two keys have the id 2 | a key without an id has the number of its place"),
        (router(rest="virtual-router-id = 5"), 'unknown key "virtual-router-id" | did you mean "vrid"?'),
        (router(rest='track = [{ probe = "x", interface = "eth0" }]'), "[vrrp.inside] tracks one thing an entry: an interface, a service or a probe"),
        (router(rest="track = [{ penalty = 5 }]"), "[vrrp.inside] tracks one thing an entry: an interface, a service or a probe"),
        (router(rest='track = [{ service = "dns", penalty = 5 }]'), "there is no [service.dns]"),
        (router(rest='track = [{ probe = "gw" }]'), "there is no [probe.gw]"),
        (router(rest='track = [{ probe = "gw" }]\n[probe.gw]\ntype = "ping"'), "[probe.gw] has no address: a router's probe has no backend to ask"),
        (router(rest='track = [{ interface = "eth0", penalty = 255 }]'), "penalty = 255 is too large: at most 254"),
        (router() + router(name="other", addresses='"10.0.0.11"'), "vrid 52 on eth1 is taken by [vrrp.inside]"),
        (router() + router(name="other", vrid=53), "10.0.0.10 is also in [vrrp.inside]"),
        (router() + '[sync-group.g]\nvrrp = ["insde"]', 'there is no [vrrp.insde] | did you mean "inside"?'),
        (router() + '[sync-group.g]\nvrrp = ["inside"]\n[sync-group.h]\nvrrp = ["inside"]', "inside is already in [sync-group.g]"),
        (router() + '[sync-group.g]\nname = "x"\nvrrp = ["inside"]', 'unknown key "name"'),
        (router() + "[notify.n]", "[notify.n] needs either command or fifo"),
        (router() + '[notify.n]\ncommand = ["true"]', "command is a list that begins with an absolute path"),
        (router() + '[notify.n]\nfifo = "/run/x"\nto = ["actve"]', None),
        (NODES + router(rest='members = { lb1 = "10.0.0.2", lb3 = "10.0.0.3" }'), None),
        (NODES + router(rest='members = { lb1 = "10.0.0.2" }'), "no address for node lb2"),
        (NODES + router(rest='members = { lb1 = "fd00::1", lb2 = "10.0.0.3" }'), None),
    ],
)  # fmt: skip
def test_mistakes_in_routers(said, text, expected):
    """V1, V2: what a router's table cannot say is an error in words, before anything is on the wire."""
    found = [
        line.partition(" error: ")[2]
        for line in said(text, "lb1" if text.startswith("nodes") else None)
        if "error" in line
    ]
    assert found
    if expected is not None:
        assert found == [expected]


@pytest.mark.parametrize(
    ("rest", "mode", "keys"),
    [
        ("", "off", ()),
        ('auth = { key-files = ["/nowhere/a", "/nowhere/b"] }', "enforce", ((1, "/nowhere/a"), (2, "/nowhere/b"))),
        ('auth = { mode = "off", key-files = ["7:/nowhere/a"] }', "off", ((7, "/nowhere/a"),)),
        ('auth = { mode = "permissive", key-files = ["/nowhere/1:a"] }', "permissive", ((1, "/nowhere/1:a"),)),
    ],
)
def test_how_adverts_are_signed(loaded, rest, mode, keys):
    """V21: keys have the ids of their places unless they have others, and with keys signatures are required unless said."""
    (found,) = loaded(router(rest=rest)).vrrp
    assert (found.auth.mode, found.auth.keys) == (mode, keys)


def test_a_key_file_is_looked_at(said, tmp_path):
    """R13, V21, S6: a key that `run` could not use is an error of check, at its place and without the key."""
    key = tmp_path / "key"
    key.write_text("a key that is too short")
    key.chmod(0o600)
    (line,) = said(router(rest=f'auth = {{ key-files = ["{key}"] }}'))
    assert line.startswith(f"5:23 error: {key}: the key has 23 octets, not 32 to 64 | make one: ")
    key.write_text("hex:" + "ab" * 32 + "\n")
    assert said(router(rest=f'auth = {{ key-files = ["{key}"] }}')) == []
    key.chmod(0o604)
    assert said(router(rest=f'auth = {{ key-files = ["{key}"] }}'))[0].startswith(
        f"5:23 warning: {key} contains a secret and everybody can read it"
    )


def test_a_members_address_is_of_the_routers_family(said):
    """V10: a member without an address of a family that the router serves could not be advertised to."""
    text = NODES + router(rest='members = { lb1 = "fd00::1", lb2 = "10.0.0.3" }')
    assert said(text)[0] == "6:19 error: lb1 has no IPv4 address here, but the router has IPv4 addresses to advertise"


def test_groups_and_notifications_are_kept(loaded):
    """Sync groups, notifications and tracked probes are in the effective configuration."""
    text = router(rest='track = [{ probe = "gw", penalty = 60 }, { interface = "eth0" }]') + (
        '[sync-group.all]\nvrrp = ["inside"]\n[notify.n]\non = ["vrrp.*"]\nto = ["active"]\ncommand = ["/bin/true"]\n'
        '[probe.gw]\ntype = "ping"\naddress = "10.0.0.1"\n'
    )
    config = loaded(text)
    assert config.sync_groups[0].vrrp == ("inside",)
    assert (config.notify[0].name, config.notify[0].command) == ("n", ("/bin/true",))
    assert config.probes["gw"].address == "10.0.0.1"
    assert [track.penalty for track in config.vrrp[0].track] == [60, None]
