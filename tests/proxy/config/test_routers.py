"""Virtual routers, sync groups, notifications."""

from ipaddress import ip_address

import pytest

from proxy.config import ConfigError, load
from vrrp.packet import GROUP4, Advert, build

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
        (router(rest='version = 2\nadvert-interval = "500ms"'), 'version 2 counts advert-interval in whole seconds | write "1s"'),
        (router(rest='version = 2\nadvert-interval = "2500ms"'), 'version 2 counts advert-interval in whole seconds | write "2s" or "3s"'),
        (router(rest='version = 2\nadvert-interval = "256s"'), 'advert-interval = "256s" is too large: at most 255'),
        (router(rest='advert-interval = "333ms"'), 'version 3 counts advert-interval in whole hundredths of a second | write "330ms" or "340ms"'),
        (router(rest='advert-interval = "1.005s"'), 'version 3 counts advert-interval in whole hundredths of a second | write "1s" or "1010ms"'),
        (router(rest='advert-interval = "40955ms"'), "advert-interval is at most 40.95s in version 3"),
        (router(rest='advert-interval = "never"'), 'advert-interval = "never" is too large: at most 255'),
        (router(rest='announce = { refresh = "1us" }'), 'refresh is at least 1s | for none write "never"'),
        (router(rest='announce = { refresh = "0s" }'), 'refresh is at least 1s | for none write "never"'),
        (router(rest='start-delay = "never"'), 'start-delay = "never" is too large: at most 86400'),
        (router(rest='preempt-delay = "never"'), 'preempt-delay = "never" is too large: at most 86400'),
        (router(interface="lo"), "nothing that is sent on lo leaves the host: no other host hears an advert"),
        (router(interface="eth0:1"), '"eth0:1" is not the name of a network interface (at most 15 characters)'),
        (router(interface=".."), '".." is not the name of a network interface (at most 15 characters)'),
        (router(interface="é" * 8), f'"{"é" * 8}" is not the name of a network interface (at most 15 characters)'),
        (router(addresses='"0.0.0.0"'), '"0.0.0.0" is the address of no host'),
        (router(addresses='"0.1.2.3/24"'), '"0.1.2.3" is the address of no host'),
        (router(addresses='"::"'), '"::" is the address of no host'),
        (router(addresses='"224.0.0.5/24"'), '"224.0.0.5" is a multicast address: no single host has it'),
        (router(addresses='"ff02::12/64"'), '"ff02::12" is a multicast address: no single host has it'),
        (router(addresses='"255.255.255.255"'), '"255.255.255.255" is the broadcast address: no single host has it'),
        (router(addresses='"10.0.0.255/24"'), '"10.0.0.255" is the broadcast address of 10.0.0.0/24: no host can have it'),
        (router(addresses='"10.0.0.0/24"'), '"10.0.0.0" is the network address of 10.0.0.0/24: no host can have it'),
        (router(addresses='"10.0.0.10/0"'), '"10.0.0.10/0" makes every address a neighbour: write "10.0.0.10" or the prefix of its network'),
        (router(addresses='"127.0.0.2"'), '"127.0.0.2" is a loopback address: no client on the network can reach it'),
        (router(addresses='"::1"'), '"::1" is a loopback address: no client on the network can reach it'),
        (router(addresses='"::ffff:10.0.0.1"'), '"::ffff:10.0.0.1" is an IPv4 address: write "10.0.0.1"'),
        (router(addresses='"fe80::1%eth0/64"'), '"fe80::1%eth0/64" names an interface, which the router has already: write "fe80::1/64"'),
        (router(addresses=", ".join(f'"10.0.{number // 250}.{number % 250 + 1}"' for number in range(256))), "256 IPv4 addresses: an advert carries at most 255 | divide them between routers with different vrids"),
        (NODES + router(rest='members = { lb1 = "10.0.0.2", lb2 = "10.0.0.2" }'), "10.0.0.2 is here the address of lb1 as well: each member needs its own"),
        (NODES + router(rest='members = { lb1 = ["10.0.0.2", "10.0.0.2"], lb2 = "10.0.0.3" }'), "10.0.0.2 is here twice: each member needs its own"),
        (NODES + router(rest='members = { lb1 = "10.0.0.10", lb2 = "10.0.0.3" }'), "10.0.0.10 is one of the router's addresses: whichever host has it, the members need others to talk | write the address that the host keeps for itself"),
        (NODES + router(rest='members = { lb1 = "10.0.0.2", lb2 = "10.0.1.9" }') + router(name="other", vrid=53, addresses='"10.0.1.9"'), "10.0.1.9 is an address of [vrrp.other]: a member needs one that its host keeps"),
        (NODES + router(addresses='"fe80::10/64"', rest='members = { lb1 = "fe80::2%eth1", lb2 = "fe80::3" }'), '"fe80::2%eth1" names an interface, which the router has already: write "fe80::2"'),
        (NODES + router(rest='members = { lb1 = "224.0.0.18", lb2 = "10.0.0.3" }'), '"224.0.0.18" is a multicast address: no single host has it'),
        (NODES + router(rest='members = { lb1 = "10.0.0.255", lb2 = "10.0.0.3" }'), "10.0.0.255 is the network or the broadcast address of 10.0.0.0/24: no host has it"),
        (NODES + router(rest='members = { lb1 = "127.0.0.1", lb2 = "10.0.0.3" }'), '"127.0.0.1" is a loopback address: the other members cannot reach it'),
        (router(rest='advert-interval = "41s"'), "advert-interval is at most 40.95s in version 3"),
        (router(rest='auth-key-files = ["/etc/key"]'), 'auth-key-files was replaced | write auth = { mode = "enforce", key-files = […] }'),
        ('[defaults.vrrp]\nauth-key-files = ["/etc/key"]\n' + router(), 'auth-key-files was replaced | write auth = { mode = "enforce", key-files = […] }'),
        (router(rest='auth = { mode = "enforce" }'), 'mode = "enforce" needs key-files | write key-files = ["/etc/steelyard/vrrp.key"]'),
        (router(rest='auth = { mode = "force" }'), 'mode = "force": must be "off", "receive-only", "permissive" or "enforce" | did you mean "enforce"?'),
        (router(rest='auth = { key-files = ["key"] }'), '"key" is no absolute path, nor one behind the id of its key: write "2:/etc/steelyard/key"'),
        (router(rest='auth = { key-files = ["0:/nowhere/key"] }'), '"0" is not the id of a key: ids are 1 to 255'),
        (router(rest='auth = { key-files = ["256:/nowhere/key"] }'), '"256" is not the id of a key: ids are 1 to 255'),
        (router(rest='auth = { key-files = ["2:credential:a", "credential:b"] }'), "two keys have the id 2 | a key without an id has the number of its place"),
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
        (router() + '[notify.n]\ncommand = ["/bin/true", "a\\u0000b"]', "command contains a control character (U+0000) | remove it"),
        (router() + f'[notify.n]\nfifo = "/run/{"x" * 256}"', f'"/run/{"x" * 55}…" is too long: a path has at most 4095 bytes, each name in it 255'),
        (router() + '[notify.n]\nfifo = "/run/x"\nto = ["actve"]', None),
        (NODES + router(rest='members = { lb1 = "10.0.0.2", lb3 = "10.0.0.3" }'), None),
        (NODES + router(rest='members = { lb1 = "10.0.0.2" }'), "no address for node lb2"),
        (NODES + router(rest='members = { lb1 = "fd00::1", lb2 = "10.0.0.3" }'), None),
    ],
)  # fmt: skip
def test_mistakes_in_routers(said, text, expected):
    """V1, V2: a mistake in a router's table is an error with a reason, before any advert is sent."""
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
        (
            'auth = { key-files = ["credential:vrrp", "9:credential:old"] }', "enforce",
            ((1, "credential:vrrp"), (9, "credential:old")),
        ),
    ],
)  # fmt: skip
def test_how_adverts_are_signed(write, rest, mode, keys):
    """V21: keys have the ids of their places unless they have others, and with keys signatures are required unless said."""
    (found,) = load(write(router(rest=rest)), need_files=False).vrrp
    assert (found.auth.mode, found.auth.keys) == (mode, keys)


def test_a_key_file_is_looked_at(said, tmp_path):
    """R13, V21, S6: a key that `run` could not use is an error of check, at its place and without the key."""
    key = tmp_path / "key"
    key.write_text("a key that is too short")
    key.chmod(0o600)
    (line,) = said(router(rest=f'auth = {{ key-files = ["{key}"] }}'))
    assert line.startswith(f"5:23 error: {key}: the key has 23 octets: it must have 32 to 64 | make one: ")
    key.write_text("hex:" + "ab" * 32 + "\n")
    assert said(router(rest=f'auth = {{ key-files = ["{key}"] }}')) == []
    key.chmod(0o604)
    assert said(router(rest=f'auth = {{ key-files = ["{key}"] }}'))[0].startswith(
        f"5:23 warning: {key} contains a secret and everybody can read it"
    )


def test_a_key_must_be_there_to_run(loaded, said, tmp_path, monkeypatch):
    """R13: what `run` needs of a router's key must be there, or the error is at its place; `check` warns of a credential, which it cannot get."""
    for name, level, words in (
        (f"{tmp_path}/key", "error", f"{tmp_path}/key: no such file or directory on this host"),
        ("2:credential:vrrp", "warning", "credential:vrrp cannot be looked at: the service manager has given this process no credent"),
    ):  # fmt: skip
        text = router(rest=f'auth = {{ key-files = ["{name}"] }}')
        with pytest.raises(ConfigError) as caught:
            loaded(text)
        (one,) = caught.value.diagnostics
        assert (one.line, one.col, one.message[: len(words)]) == (5, 23, words)
        assert said(text)[0].startswith(f"5:23 {level}: {words}")
        assert loaded(text.replace("auth = {", 'auth = { mode = "off",')).vrrp
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "vrrp").write_text("hex:" + "ab" * 32)
    (tmp_path / "vrrp").chmod(0o400)
    assert loaded(text).vrrp[0].auth.keys == ((2, "credential:vrrp"),)


@pytest.mark.parametrize("name", ["credential:", "credential:a/b", "3:credential:..", "credential:2:x"])
def test_a_key_may_not_lead_out_of_the_credentials(said, name):
    """S5: what cannot be the name of a credential is an error at its place."""
    (line,) = said(router(rest=f'auth = {{ key-files = ["{name}"] }}'))
    assert line.startswith("5:23 error: ")
    assert "names no credential" in line


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


@pytest.mark.parametrize("interval", ["10ms", "330ms", "1s", "1.01s", "40.95s"])
def test_an_interval_of_whole_hundredths_is_carried(loaded, interval):
    """V2: each interval that `check` accepts can be built into an advert of version 3."""
    (found,) = loaded(router(rest=f'advert-interval = "{interval}"')).vrrp
    addresses = (ip_address("10.0.0.10"),)
    build(Advert(3, found.vrid, 100, addresses, found.advert_interval), ip_address("10.0.0.2"), GROUP4)


def test_a_wrong_value_hides_no_other(said):
    """V2: an interval that no advert can carry is reported together with the router's other mistakes."""
    text = router(rest='advert-interval = "333ms"\nannounce = { refresh = "1us" }')
    assert [line.partition(": ")[0] for line in said(text)] == ["5:19 error", "6:24 error"]


def test_vrids_are_counted_by_interface_and_ip_version(loaded):
    """One VRID on one interface may be an IPv4 router and another IPv6 one, which are two on the wire."""
    config = loaded(router() + router(name="other", addresses='"fe80::10/64", "fd00::10/64"'))
    assert [one.vrid for one in config.vrrp] == [52, 52]


def test_a_link_local_address_belongs_to_its_interface(loaded, said):
    """The same link-local address on two interfaces is two addresses; on one interface it is a mistake."""
    first = router(addresses='"fe80::10/64"')
    assert len(loaded(first + router(name="other", interface="eth2", addresses='"fe80::10/64"')).vrrp) == 2
    again = said(first + router(name="other", vrid=53, addresses='"fe80::10/64"'))
    assert again == ["9:14 error: fe80::10 is also in [vrrp.inside]"]


def test_a_point_to_point_network_has_no_broadcast_address(loaded):
    """Both addresses of a /31 are hosts (RFC 3021)."""
    assert loaded(router(addresses='"10.0.0.0/31"')).vrrp[0].addresses == ("10.0.0.0/31",)


def test_an_advert_in_fragments_is_a_warning(said):
    """More IPv6 addresses than one Ethernet frame carries are legal, and `check` says what it means."""
    addresses = ", ".join(f'"fe80::{number:x}/64"' for number in range(1, 93))
    (line,) = said(router(addresses=addresses))
    words = "adverts with 92 IPv6 addresses have 1520 octets: more than 1500, so they travel in fragments"
    assert line == f"4:13 warning: {words} | divide them between routers with different vrids"


def test_an_owner_is_known_on_every_node(said, loaded):
    """V7: each node knows which routers have an owner, and `check` says what priority 255 means."""
    owner = router(rest="priority = { lb1 = 255, lb2 = 100 }")
    text = NODES + owner + router(name="other", vrid=53, addresses='"10.0.1.10"')
    assert [loaded(text, node).owned for node in ("lb1", "lb2")] == [("inside",), ("inside",)]
    (line,) = said(text)
    assert line.startswith("6:20 warning: priority 255 says that the host has these addresses for good")


def test_a_host_that_is_no_member_is_not_run(said, loaded):
    """A router in unicast does not run on a host whose address the others do not know: both would be active."""
    text = router(rest='members = { lb1 = "10.0.0.2", lb2 = "10.0.0.3" }')
    words = 'this host is called "lb9", which is no member: the others would ignore its adverts'
    assert [line.split(": ", 1)[1].partition(" | ")[0] for line in said(text, "lb9")] == [words]
    with pytest.raises(ConfigError, match=words):
        loaded(text, "lb9")
    assert loaded(text, "lb2").vrrp[0].name == "inside"
