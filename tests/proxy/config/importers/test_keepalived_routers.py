"""keepalived's routers, groups, scripts and notify scripts."""

import pytest

from tests.proxy.config.importers.bed import bring, only


def router(lines="", more="", address="10.0.0.10/24"):
    """Import a router with some lines."""
    head = "interface eth0\nvirtual_router_id 51\n" + (f"virtual_ipaddress {{\n{address}\n}}\n" if address else "")
    return bring("keepalived", f"{more}\nvrrp_instance VI_1 {{\n{head}{lines}\n}}\n")


def keys(lines="", more="", address="10.0.0.10/24"):
    return router(lines, more, address).tables["vrrp"]["VI_1"]


@pytest.mark.parametrize(
    ("lines", "key", "value"),
    [
        ("", "version", 2),
        ("version 3", "version", None),
        ("priority 150", "priority", 150),
        ("advert_int 2", "advert-interval", "2s"),
        ("version 3\nadvert_int 0.25", "advert-interval", "250ms"),
        ("nopreempt", "preempt", False),
        ("preempt_delay 300", "preempt-delay", "5m"),
        ("use_vmac", "virtual-mac", True),
        ("use_vmac vrrp.51", "virtual-mac", True),
        ("garp_master_delay 10", "announce", {"repeat-after": "10s"}),
        ("garp_master_repeat 3", "announce", {"count": 3}),
        ("garp_master_refresh 0", "announce", {"refresh": "never"}),
        ("garp_master_refresh 30", "announce", {"refresh": "30s"}),
        ("state MASTER\npreempt\nstrict_mode", "preempt", None),
        ("track_interface {\neth1\n}", "track", [{"interface": "eth1"}]),
        ("track_interface {\neth1 weight -20\n}", "track", [{"interface": "eth1", "penalty": 20}]),
    ],
)
def test_words_of_an_instance(lines, key, value):
    """Each word of an instance becomes its key; what is the default here is not written."""
    assert keys(lines).get(key) == value


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("authentication {\nauth_type PASS\nauth_pass hunter2\n}", "remove `authentication` on both hosts"),
        ("virtual_routes {\n10.9.0.0/24 via 10.0.0.1\n}", "routes and rules do not move"),
        ("virtual_rules {\nfrom 10.9.0.0/24 table 1\n}", "routes and rules do not move"),
        ("track_process {\nhaproxy\n}", "/usr/bin/pgrep"),
        ("lvs_sync_daemon_interface eth1", "clients connect again"),
        ("mcast_src_ip 10.0.0.2", "own address"),
        ("dont_track_primary", "always in fault"),
        ("garp_lower_prio_repeat 1", "announced as at the beginning"),
        ("notify_master_rx_lower_pri /bin/true", "steelyard events"),
        ("unicast_src_ip 10.0.0.2", "multicast"),
        ("priority 0", "out of range"),
        ("virtual_router_id 256", "out of range"),
        ("advert_int soon", "not a number of seconds"),
        ("smtp_alert", "sends no mail"),
        ("nopreemt", 'did you mean "nopreempt"?'),
    ],
)
def test_what_an_instance_loses(line, words):
    """What has no key here is told with its line and why, and stands as a comment in its table; no password is shown (S7)."""
    found = router(line)
    note = found.note(line.split()[0])
    assert note.startswith("/etc/a.conf:")
    assert "not carried over: " in note
    assert words in note
    assert f"# a.conf:{note.split(':')[1]}: {line.split()[0]}" in found.text
    assert "hunter2" not in found.text + note


def test_positive_weights_raise_the_priority():
    """Keepalived adds a positive weight while all is well; here the sum is the priority, and a failure costs the weight."""
    found = router("priority 100\ntrack_interface {\neth1 weight 20\neth2 weight -5\neth3\n}")
    table = found.tables["vrrp"]["VI_1"]
    assert table["priority"] == 120
    assert table["track"] == [
        {"interface": "eth1", "penalty": 20}, {"interface": "eth2", "penalty": 5}, {"interface": "eth3"}
    ]  # fmt: skip
    assert "penalties only lower a priority" in found.note("priority 100")
    assert keys("priority 250\ntrack_interface {\neth1 weight 20\n}")["priority"] == 254
    assert keys("priority 255\ntrack_interface {\neth1 weight 20\n}")["priority"] == 255


def test_addresses():
    """Addresses keep their prefix or its absence, without options, once; excluded ones are in adverts here."""
    found = router(
        "virtual_ipaddress_excluded {\n10.0.0.12\n}",
        address="10.0.0.10/24 label eth0:1\n10.0.0.11\n10.0.0.11 dev eth0\n300.1.1.1",
    )
    assert found.tables["vrrp"]["VI_1"]["addresses"] == ["10.0.0.10/24", "10.0.0.11", "10.0.0.12"]
    assert "label" in found.note("10.0.0.10/24 label")
    assert "in the list already" in found.note("10.0.0.11 dev eth0")
    assert "not an address" in found.note("300.1.1.1")
    assert "the other host" in found.note("virtual_ipaddress_excluded")


def test_addresses_on_another_interface():
    """Addresses on other interfaces get routers there that move with the first one; if all are, the router is there."""
    found = router(address="10.0.0.10/24\n10.1.0.10/24 dev eth1")
    assert found.tables["vrrp"]["VI_1-eth1"] == {
        "interface": "eth1",
        "vrid": 51,
        "addresses": ["10.1.0.10/24"],
        "version": 2,
    }
    assert found.tables["sync-group"] == {"VI_1": {"vrrp": ["VI_1", "VI_1-eth1"]}}
    assert router(address="10.1.0.10/24 dev eth1").tables["vrrp"] == {
        "VI_1": {"interface": "eth1", "vrid": 51, "addresses": ["10.1.0.10/24"], "version": 2}
    }


def test_both_families_need_version_3():
    """IPv6 is version 3, and so is IPv4 beside it, with a note if the file says otherwise."""
    assert "version" not in keys(address="fe80::10/64\nfd00::10/64")
    found = router(address="10.0.0.10/24\nfd00::10/64")
    assert "version" not in found.tables["vrrp"]["VI_1"]
    assert "need version 3" in found.note("vrrp_instance VI_1: IPv4")


def test_unicast_members_have_names():
    """The host of the file and its peers become members, and nodes; without an own address there are none."""
    found = router("unicast_src_ip 10.0.0.2\nunicast_peer {\n10.0.0.3\n10.0.0.4\n}")
    assert found.tables["nodes"] == ["lb1", "lb2", "lb3"]
    assert found.tables["vrrp"]["VI_1"]["members"] == {
        "lb1": ["10.0.0.2"],
        "lb2": ["10.0.0.3"],
        "lb3": ["10.0.0.4"],
    } or (found.tables["vrrp"]["VI_1"]["members"] == {"lb1": "10.0.0.2", "lb2": "10.0.0.3", "lb3": "10.0.0.4"})
    assert "unicast_src_ip" in router("unicast_peer {\n10.0.0.3\n}").note("unicast_peer")


def test_what_cannot_be_tracked():
    """A script that is not there, one without a command and a reversed track are told."""
    assert "no vrrp_script nosuch" in router("track_script {\nnosuch\n}").note("nosuch")
    assert "has no script" in router(more="vrrp_script x {\ninterval 1\n}\n").note("vrrp_script x")
    assert "reverse" in router("track_interface {\neth1 weight 5 reverse\n}").note("eth1")


def test_groups():
    """A group has its routers, tracks through the first of them, and its scripts; names without a router are told."""
    text = (
        "vrrp_instance A {\ninterface eth0\nvirtual_router_id 1\nvirtual_ipaddress {\n10.0.0.1\n}\n}\n"
        "vrrp_instance B {\ninterface eth1\nvirtual_router_id 1\nvirtual_ipaddress {\n10.1.0.1\n}\n}\n"
        "vrrp_sync_group G {\ngroup {\nA\nB\nC\n}\ntrack_interface {\neth2\n}\nnotify_master /bin/true\nglobal_tracking\n}\n"
        "vrrp_sync_group H {\ngroup {\nD\n}\n}\n"
    )
    found = bring("keepalived", text)
    assert found.tables["sync-group"] == {"G": {"vrrp": ["A", "B"]}}
    assert found.tables["vrrp"]["A"]["track"] == [{"interface": "eth2"}]
    assert only(found.tables["notify"])["on"] == ["G"]
    assert "no vrrp_instance C" in found.note(": C:")
    assert "no routers" in found.note("vrrp_sync_group H")


def test_an_old_group_without_the_word():
    """Names that stand in a group without `group` are its routers too."""
    text = "vrrp_sync_group G {\nVI_1\n}\n"
    assert router(more=text).tables["sync-group"] == {"G": {"vrrp": ["VI_1"]}}
