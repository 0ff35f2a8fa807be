"""Reads keepalived.conf(5): each file is one host's, and so is each configuration id of `@` lines [pure]."""

from collections.abc import Sequence
from typing import Final

from proxy.config.importers.draft import Draft, by_node
from proxy.config.importers.keepalived_lines import Lines, Reader
from proxy.config.importers.keepalived_mail import NO_MAIL, Mail
from proxy.config.importers.keepalived_routers import BUFFERS, ROUTES, TRACKED, Routers
from proxy.config.importers.keepalived_servers import Servers
from proxy.config.importers.ledger import Handler, Ledger, LeftError, Statement, first
from proxy.config.importers.lexer import Place
from proxy.config.importers.values import decimal, duration, number
from proxy.config.notify_choice import STATES
from proxy.config.reserved import reserved
from proxy.config.types import is_name

_PROCESS: Final = "processes, their names and their priorities are the daemon's own business"
_MIB: Final = "there is no SNMP and no D-Bus: `steelyard status --json` has everything"
_FIREWALL: Final = "the daemon touches no firewall: its listeners answer on the addresses"
_GLOBALS: Final = {
    "smtp_helo_name": NO_MAIL,
    "no_email_faults": NO_MAIL, "alert_mail": NO_MAIL,
    "checker_log_all_failures": "`steelyard status` has the last result, `steelyard events` each change",
    "default_interface": "for static addresses, which are the host's own",
    "lvs_sync_daemon": "connections do not move to the other host: clients connect again",
    "script_user": "programs run as the daemon's user, probes as node.user",
    "vrrp_mcast_group4": "adverts go to 224.0.0.18", "vrrp_mcast_group6": "adverts go to ff02::12",
    "vrrp_garp_interval": "announcements are not spread", "vrrp_gna_interval": "announcements are not spread",
    "vrrp_garp_master_refresh_repeat": "one announcement at each refresh",
    "vrrp_garp_lower_prio_delay": "after a conflict the addresses are announced as at the beginning",
    "vrrp_garp_lower_prio_repeat": "after a conflict the addresses are announced as at the beginning",
    "vrrp_min_garp": "the announcements are those of `announce`",
    "vrrp_down_timer_adverts": "a backup takes over after three missed adverts, as RFC 9568 has it",
    "vrrp_lower_prio_no_advert": "adverts follow RFC 9568", "vrrp_higher_prio_send_advert": "adverts follow RFC 9568",
    "vrrp_iptables": _FIREWALL, "vrrp_ipsets": _FIREWALL, "nftables": _FIREWALL, "nftables_priority": _FIREWALL,
    "nftables_counters": _FIREWALL, "nftables_ifindex": _FIREWALL, "nftables_ipvs": _FIREWALL,
    "nftables_ipvs_priority": _FIREWALL, "nftables_ipvs_start_fwmark": _FIREWALL,
    "vrrp_notify_priority_changes": "programs are told of states, not of priorities",
    "lvs_notify_fifo_script": "start the reader of the FIFO as a service of its own",
    "notify_fifo_script": "start the reader of the FIFO as a service of its own",
    "vrrp_notify_fifo_script": "start the reader of the FIFO as a service of its own",
    "startup_script": "a unit of the service manager can run it: ExecStartPre=",
    "shutdown_script": "a unit of the service manager can run it: ExecStopPost=",
    "umask": "the daemon's files have fixed modes", "log_unknown_vrids": "`steelyard events` has conflicts",
    "fifo_write_vrrp_states_on_reload": "a reload that changes no state is not told",
    **dict.fromkeys(
        ("snmp_socket", "enable_snmp_vrrp", "enable_snmp_checker", "enable_snmp_keepalived", "enable_snmp_rfc",
         "enable_snmp_rfcv2", "enable_snmp_rfcv3", "enable_traps", "enable_dbus", "dbus_service_name"), _MIB),
    **dict.fromkeys(
        ("vrrp_netlink_cmd_rcv_bufs", "vrrp_netlink_cmd_rcv_bufs_force", "vrrp_netlink_monitor_rcv_bufs",
         "vrrp_netlink_monitor_rcv_bufs_force", "lvs_netlink_cmd_rcv_bufs", "lvs_netlink_cmd_rcv_bufs_force",
         "lvs_netlink_monitor_rcv_bufs", "lvs_netlink_monitor_rcv_bufs_force", "process_monitor_rcv_bufs",
         "process_monitor_rcv_bufs_force", "vrrp_rx_bufs_policy", "vrrp_rx_bufs_multiplier"), BUFFERS),
    **dict.fromkeys(
        ("process_names", "process_name", "vrrp_process_name", "checker_process_name", "bfd_process_name", "max_auto_priority",
         "min_auto_priority_delay", "vrrp_cpu_affinity", "checker_cpu_affinity", "bfd_cpu_affinity", "vrrp_rlimit_rttime",
         "checker_rlimit_rttime", "bfd_rlimit_rttime", "checker_priority", "bfd_priority", "checker_rt_priority",
         "bfd_rt_priority", "tmp_config_directory", "config_save_dir", "startup_script_timeout", "shutdown_script_timeout",
         "vmac_prefix", "vmac_addr_prefix", "random_seed", "reload_time_file", "reload_repeat", "reload_file",
         "data_use_instance", "use_symlink_paths"), _PROCESS),
}  # fmt: skip
_FIFOS: Final = {
    "notify_fifo": (),
    "vrrp_notify_fifo": STATES["router"],
    "lvs_notify_fifo": (*STATES["service"], *STATES["backend"]),
}
"""The words of FIFOs, and the states that each is told of; none: all."""
_ALWAYS: Final = frozenset(
    ("enable_script_security", "dynamic_interfaces", "lvs_flush", "lvs_flush_onstop", "vrrp_strict", "vrrp_no_swap", "checker_no_swap",
     "bfd_no_swap", "vrrp_priority", "vrrp_rt_priority", "vrrp_skip_check_adv_addr", "vrrp_check_unicast_src",
     "rs_init_notifies", "reload_check_config", "include_check")
)  # fmt: skip
_TOP: Final = {
    "static_ipaddress": "set addresses that do not move with the host's own network configuration",
    "static_routes": "set routes with the host's own network configuration",
    "static_rules": "set rules with the host's own network configuration",
    "track_group": ROUTES,
    "bfd_instance": TRACKED["track_bfd"],
    "vrrp_track_process": TRACKED["track_process"],
    "track_process": TRACKED["track_process"],
    "vrrp_track_file": TRACKED["track_file"],
    "track_file": TRACKED["track_file"],
    "garp_group": "announcements are not spread",
    "net_namespace": "start the daemon in the namespace: NetworkNamespacePath= of its unit, or ip netns exec",
    "net_namespace_ipvs": "there is no IPVS: connections end at this host",
    "instance": "several daemons on a host need a state-dir and a control socket each",
    "linkbeat_interfaces": "the kernel tells of links",
    "interface_up_down_delays": "a link that is down is a fault at once",
    "child_wait_time": _PROCESS,
    "SSL": "keepalived does not verify the servers: a probe with tls-ca-file and tls-name does",
}
_TOP_ALWAYS: Final = frozenset(
    ("use_pid_dir", "linkbeat_use_polling", "namespace_with_ipsets", "namespace_with_ipsets")
)


def convert(files: Sequence[tuple[str, str]], reader: Reader, ledger: Ledger) -> Draft:
    """Return the tables for the files of one or more hosts; raises `UnreadableError`."""
    drafts: dict[str, Draft] = {}
    for file, text in files:
        scratch = Lines(reader, Ledger(), "")
        scratch.statements(file, text)
        identities = scratch.identities or [""]
        for identity in identities:
            statements = Lines(reader, ledger, identity).statements(file, text)
            node = _node(identity, statements, drafts)
            drafts[node] = _Host(ledger, node, alone=len(files) == len(identities) == 1).draft(statements)
    whole = by_node(drafts) if len(drafts) > 1 else next(iter(drafts.values()), Draft())
    _name_peers(whole, list(drafts), ledger, files[0][0] if files else "")
    return whole


def _node(identity: str, statements: Sequence[Statement], taken: dict[str, Draft]) -> str:
    """Return a name for a host: its id, else its router_id, else a number."""
    said = [
        each.args[0]
        for block in statements
        if block.name == "global_defs"
        for each in block.inner
        if each.name == "router_id" and each.args
    ]
    for name in (identity, *said):
        if name in reserved():
            name = f"host-{name}"
        if name and is_name(name) and name not in taken:
            return name
    number_ = len(taken) + 1
    while f"lb{number_}" in taken:
        number_ += 1
    return f"lb{number_}"


def _name_peers(draft: Draft, nodes: list[str], ledger: Ledger, file: str) -> None:
    """Give the unicast peers whose files are not here names, and list all nodes if there are several."""
    names: dict[str, str] = {}
    nodes = list(nodes)
    first = draft.below("vrrp")
    for part in first:
        members = part.get("members")
        if members is None:
            continue
        known = {address: node for node, address in members.items() if not node.startswith("?")}
        for node, address in members.items():
            if node.startswith("?") and address not in known:
                name = names.setdefault(address, "") or next(f"lb{n}" for n in range(1, 999) if f"lb{n}" not in nodes)
                if name not in nodes:
                    nodes.append(name)
                names[address] = known[address] = name
        part.set("members", {node: address for address, node in known.items()}, part.place)
    if len(nodes) > 1:
        top = draft.part()
        top.remark("each node is the name of a host (`hostname`), or what STEELYARD_NODE says there")
        top.set("nodes", nodes)
        node = draft.parts.pop(("node",), None)
        if node is not None:
            for item in list(node.items):
                if getattr(item, "key", "") != "name":
                    draft.part("node").items.append(item)
    elif first:
        why = 'the other host of the pair needs another priority: nodes = ["lb1", "lb2"], then priority = { lb1 = 150, lb2 = 100 }'
        ledger.remark(first[0].place or Place(file, 1), "vrrp_instance", why, first[0])


class _Host:
    """Turns the statements of one host into tables."""

    def __init__(self, ledger: Ledger, node: str, *, alone: bool) -> None:
        self.ledger = ledger
        self.alone = alone
        self.tables = Draft()
        self.mail = Mail(self.tables, ledger)
        self.routers = Routers(self.tables, ledger, node, self.mail)
        self.servers = Servers(self.tables, ledger, self.routers.holders, self.mail)

    def draft(self, statements: Sequence[Statement]) -> Draft:
        """Return the tables; scripts are read before the routers that track them, and these before what names them."""
        order: list[dict[str, Handler]] = [
            {"global_defs": self._globals},
            {"vrrp_script": self.routers.script},
            {"vrrp_instance": self.routers.instance},
            {"vrrp_sync_group": self.routers.group},
            {"virtual_server_group": self.servers.group},
            {"virtual_server": self.servers.server},
        ]
        known = {word for each in order for word in each}
        for handlers in order:
            if "virtual_server_group" in handlers:
                self.routers.join_interfaces()
            self.ledger.read([each for each in statements if each.name in handlers], handlers, part=self.tables.part())
        rest = [each for each in statements if each.name not in known]
        top = self.tables.part()
        self.ledger.read(rest, {}, part=top, always=_TOP_ALWAYS, left=_TOP, elsewhere=sorted(known))
        self.mail.finish()
        return self.tables

    def _globals(self, statement: Statement) -> None:
        announce = self.tables.part("defaults", "vrrp", "announce", place=statement.place)
        vrrp = self.tables.part("defaults", "vrrp", place=statement.place)
        top = self.tables.part()
        handlers: dict[str, Handler] = {
            "router_id": self._name,
            "vrrp_version": lambda each: setattr(self.routers, "version", number(first(each), 2, 3)),
            "vrrp_startup_delay": lambda each: vrrp.set("start-delay", duration(decimal(first(each))), each.place),
            "vrrp_garp_master_delay": lambda each: announce.set("repeat-after", _pause(each), each.place),
            "vrrp_garp_master_repeat": lambda each: announce.set("count", number(first(each), 1, 100), each.place),
            "vrrp_garp_master_refresh": lambda each: announce.set("refresh", _pause(each), each.place),
            "lvs_timeouts": self._timeouts,
            **self.mail.handlers(),
            **dict.fromkeys(_FIFOS, self._fifo),
        }
        self.ledger.read(statement.inner, handlers, part=top, always=_ALWAYS, left=_GLOBALS)

    def _name(self, statement: Statement) -> None:
        name = first(statement)
        if not is_name(name):
            raise LeftError(
                "not a name of letters, digits, dots, hyphens and underscores; the host's name is the default"
            )
        if self.alone:
            node = self.tables.part("node", place=statement.place)
            node.remark("a file for both hosts has no such line: there, each host's name is that of `hostname`")
            node.set("name", name, statement.place)

    def _timeouts(self, statement: Statement) -> None:
        words = iter(statement.args)
        for word in words:
            seconds = duration(decimal(next(words, "")))
            keys = {"tcp": ("tcp", "idle-timeout"), "tcpfin": ("tcp", "fin-timeout"), "udp": ("udp", "idle-timeout")}
            if word not in keys:
                raise LeftError("the words are tcp, tcpfin and udp, each with seconds")
            table, key = keys[word]
            self.tables.part("defaults", table, place=statement.place).set(key, seconds, statement.place)

    def _fifo(self, statement: Statement) -> None:
        told = self.tables.part("notify", self.tables.unused("notify", "fifo"), place=statement.place)
        if _FIFOS[statement.name]:
            told.set("to", list(_FIFOS[statement.name]))
        told.set("fifo", first(statement), statement.place)
        if statement.name != "vrrp_notify_fifo":
            why = "lines of servers are other: SERVICE or BACKEND, the name in quotes, state, number, reason"
            self.ledger.changed(statement, why, told)
        if len(statement.args) > 1:
            self.ledger.changed(statement, "the FIFO belongs to the daemon's user", told)


def _pause(statement: Statement) -> str:
    seconds = decimal(first(statement))
    return duration(seconds) if seconds else "never"
