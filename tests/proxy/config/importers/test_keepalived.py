"""keepalived.conf as a whole: global_defs, several hosts, what stands at its top."""

import pytest

from tests.proxy.config.importers.bed import bring, only

ROUTER = "vrrp_instance V {\ninterface eth0\nvirtual_router_id 1\nvirtual_ipaddress {\n10.0.0.10\n}\n%s\n}\n"


def glob(lines, router=""):
    return bring("keepalived", f"global_defs {{\n{lines}\n}}\n" + ROUTER % router)


@pytest.mark.parametrize(
    ("line", "path", "value"),
    [
        ("router_id lb7", ("node", "name"), "lb7"),
        ("vrrp_version 3", ("vrrp", "V", "version"), None),
        ("vrrp_startup_delay 5.5", ("defaults", "vrrp", "start-delay"), "5500ms"),
        ("vrrp_garp_master_delay 3", ("defaults", "vrrp", "announce", "repeat-after"), "3s"),
        ("vrrp_garp_master_repeat 2", ("defaults", "vrrp", "announce", "count"), 2),
        ("vrrp_garp_master_refresh 60", ("defaults", "vrrp", "announce", "refresh"), "1m"),
        ("vrrp_notify_fifo /run/fifo", ("notify", "fifo", "fifo"), "/run/fifo"),
        ("vrrp_notify_fifo /run/fifo", ("notify", "fifo", "to"), ["active", "backup", "fault", "stop"]),
        ("notify_fifo /run/fifo", ("notify", "fifo", "to"), None),
        ("lvs_notify_fifo /run/fifo", ("notify", "fifo", "to"), ["serving", "refusing", "up", "down", "reserve"]),
        ("lvs_timeouts tcp 7200 tcpfin 30 udp 60", ("defaults", "tcp", "idle-timeout"), "2h"),
        ("lvs_timeouts tcp 7200 tcpfin 30 udp 60", ("defaults", "udp", "idle-timeout"), "1m"),
    ],
)
def test_global_words(line, path, value):
    """A setting for the whole file becomes a default, or the node's."""
    found = glob(line)
    at = found.tables
    for key in path:
        at = at.get(key) if at is not None else None
    assert at == value
    assert found.counts["left"] == 0


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("vrrp_mcast_group4 224.0.0.19", "224.0.0.18"),
        ("enable_snmp_vrrp", "no SNMP"),
        ("default_interface eth7", "static addresses"),
        ("script_user root", "daemon's user"),
        ("vrrp_iptables x", "no firewall"),
        ("notification_email {\nroot@localhost\n}", "no mail"),
        ("router_id a/b", "not a name"),
        ("lvs_timeouts sctp 3", "tcp, tcpfin and udp"),
        ("vrp_version 3", 'did you mean "vrrp_version"?'),
    ],
)
def test_what_global_defs_loses(line, words):
    """What has no key here is told at its line."""
    assert words in glob(line).note(line.split()[0])


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ("static_routes {\n10.0.0.0/24 dev eth0\n}", "network configuration"),
        ("static_ipaddress {\n10.0.0.9 dev eth0\n}", "network configuration"),
        ("vrrp_track_process p {\nprocess x\n}", "pgrep"),
        ("bfd_instance b {\nneighbor_ip 10.0.0.1\n}", "no BFD"),
        ("net_namespace red", "NetworkNamespacePath"),
        ("SSL {\nca /x\n}", "does not verify"),
        ("vrrp_instanc X {\n}", 'did you mean "vrrp_instance"?'),
    ],
)
def test_what_the_top_loses(block, words):
    """A block that has no form here is told with its line, and everything in it counts."""
    found = bring("keepalived", f"{block}\n" + ROUTER % "")
    assert words in found.note(block.split()[0])
    assert found.counts["left"] >= 1


def test_an_only_file_says_what_the_other_host_needs():
    """The file of one host says that the other one needs another priority."""
    assert "priority = { lb1 = 150, lb2 = 100 }" in bring("keepalived", ROUTER % "").note("other host")


def test_conditional_lines_are_hosts():
    """Each configuration id is a node, and what differs is keyed by node (VRRP pair from one file)."""
    found = bring("keepalived", ROUTER % "@high priority 150\n@low priority 100\n@low nopreempt")
    assert found.tables["nodes"] == ["high", "low"]
    router = found.tables["vrrp"]["V"]
    assert router["priority"] == {"high": 150, "low": 100}
    assert router["preempt"] == {"high": True, "low": False}
    assert found.counts["left"] == 0


def test_two_files_are_two_hosts():
    """Several files are those of several hosts, named by router_id; unicast addresses become members."""
    text = "global_defs {\nrouter_id %s\n}\n" + ROUTER % "priority %d\nunicast_src_ip %s\nunicast_peer {\n%s\n}"
    found = bring(
        "keepalived", text % ("lb1", 150, "10.0.0.2", "10.0.0.3"), text % ("lb2", 100, "10.0.0.3", "10.0.0.2")
    )
    assert found.tables["nodes"] == ["lb1", "lb2"]
    assert found.tables["vrrp"]["V"]["priority"] == {"lb1": 150, "lb2": 100}
    assert found.tables["vrrp"]["V"]["members"] == {"lb1": "10.0.0.2", "lb2": "10.0.0.3"}
    assert "node" not in found.tables


def test_an_id_that_is_a_key():
    """An id that would make tables ambiguous gets another name."""
    assert bring("keepalived", ROUTER % "@master priority 150\n@backup priority 100").tables["nodes"] == [
        "master",
        "host-backup",
    ]


def test_a_file_with_nothing_to_run():
    """A file without routers and services gives no file, only notes."""
    found = bring("keepalived", "global_defs {\nrouter_id x\n}\n")
    assert found.text == ""


def test_scripts_may_stand_below():
    """The order of blocks does not matter: scripts, routers and groups find each other."""
    text = ROUTER % "track_script {\nc\n}" + "vrrp_script c {\nscript /bin/true\n}\n"
    assert only(bring("keepalived", text).tables["vrrp"])["track"] == [{"probe": "c"}]
