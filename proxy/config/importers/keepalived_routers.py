"""keepalived's VRRP half: vrrp_instance, vrrp_sync_group, vrrp_script and their notify scripts [pure]."""

import ipaddress
from collections.abc import Callable, Sequence
from typing import Final

from proxy.config.importers.draft import Draft, Part, Row
from proxy.config.importers.keepalived_mail import Mail
from proxy.config.importers.keepalived_scripts import notifiers, script_probe, weight_of
from proxy.config.importers.keepalived_signing import signing
from proxy.config.importers.ledger import Handler, Ledger, LeftError, Statement, first
from proxy.config.importers.values import address, decimal, duration, number

REFUSED: Final = (
    "adverts carry no passwords (RFC 9568 has none); a keepalived with auth_type {kind} drops them and becomes active beside a "
    "host of higher priority, so remove `authentication` on both hosts before one of them runs Steelyard; `auth` signs adverts"
)
ROUTES: Final = (
    "routes and rules do not move with a router: set them for good on both hosts, or let a service that root runs follow the "
    "FIFO of a [notify.NAME]"
)
BUFFERS: Final = "socket buffers are the daemon's own choice"
TRACKED: Final = {
    "track_process": 'no processes are watched by themselves: track a script probe, command = ["/usr/bin/pgrep", "-x", "NAME"]',
    "track_bfd": "there is no BFD: a short advert-interval, or a ping probe with a short interval",
    "track_file": "files are not watched: track a script probe that reads it",
}
_WORDS: Final = {
    **TRACKED,
    "virtual_routes": ROUTES,
    "virtual_rules": ROUTES,
    "notify_master_rx_lower_pri": "no program is told of adverts with a lower priority; `steelyard events` has them",
    "notify_deleted": "no program is told that a router was deleted; it gives its addresses up, which is `stop`",
    "notify_priority_changes": "programs are told of states, not of priorities; `steelyard events` has these",
    "lvs_sync_daemon_interface": "connections do not move to the other host: clients connect again",
    "lvs_sync_daemon": "connections do not move to the other host: clients connect again",
    "mcast_src_ip": "adverts come from the interface's own address",
    "mcast_dst_ip": "adverts go to 224.0.0.18 and ff02::12",
    "use_ipvlan": "there is no ipvlan: virtual-mac is the choice",
    "vrf": "run one daemon in the VRF",
    "dont_track_primary": "a router whose interface is down is always in fault",
    "garp_lower_prio_delay": "after a conflict the addresses are announced as at the beginning",
    "garp_lower_prio_repeat": "after a conflict the addresses are announced as at the beginning",
    "garp_master_refresh_repeat": "one announcement at each refresh",
    "garp_extra_if": "addresses are announced on the router's own interface",
    "garp_extra_if_vmac": "addresses are announced on the router's own interface",
    "lower_prio_no_advert": "adverts follow RFC 9568",
    "higher_prio_send_advert": "adverts follow RFC 9568",
    "down_timer_adverts": "a backup takes over after three missed adverts, as RFC 9568 has it",
    "unicast_ttl": "adverts have a TTL of 255",
    "no_accept": "the host always answers on the addresses: its listeners are there",
    "promote_secondaries": "a sysctl of the host: net.ipv4.conf.INTERFACE.promote_secondaries",
    "kernel_rx_buf_size": BUFFERS,
    "debug": "log.level is for the whole daemon",
    "old_unicast_checksum": 'checksum = "plain" is the other form that version 3 knows',
}  # fmt: skip
_ALWAYS: Final = frozenset(
    ("state", "preempt", "accept", "strict_mode", "check_unicast_src", "skip_check_adv_addr", "native_ipv6", "track_src_ip",
     "vmac_xmit_base", "unicast_fault_no_peer", "track_primary")
)  # fmt: skip


class Routers:
    """Turns the VRRP blocks of one file into [vrrp.NAME], [sync-group.NAME], [probe.NAME] and [notify.NAME]."""

    def __init__(self, draft: Draft, ledger: Ledger, node: str, mail: Mail) -> None:
        """Prepare; `node` is the name of the host whose file it is."""
        self.mail = mail
        self.draft = draft
        self.ledger = ledger
        self.node = node
        self.version = 2
        self.holders: dict[str, tuple[str, int]] = {}
        """Each virtual address -> its router, and how many addresses that has."""
        self._scripts: dict[str, int | None] = {}
        self._names: dict[str, str] = {}
        self._elsewhere: dict[str, dict[str, list[str]]] = {}
        """Router -> interface -> addresses that it has on other interfaces."""

    def script(self, statement: Statement) -> None:
        """Read a vrrp_script as a named probe, so that routers can track it."""
        name = first(statement)
        self._names[name], self._scripts[name] = script_probe(statement, self.draft, self.ledger)

    # -- vrrp_instance

    def instance(self, statement: Statement) -> None:
        """Read a vrrp_instance."""
        name = first(statement)
        router = self.draft.part("vrrp", self.draft.unused("vrrp", name), place=statement.place)
        self._names[name] = router.path[1]
        version: list[int] = []
        raise_by: list[int] = []
        source: list[str] = []
        peers: list[str] = []
        announce = self.draft.part("vrrp", router.path[1], "announce", place=statement.place)

        def put(key: str, value: Callable[[Statement], object], to: Part = router) -> Handler:
            return lambda each: to.set(key, value(each), each.place)

        handlers: dict[str, Handler] = {
            "interface": put("interface", first),
            "virtual_router_id": put("vrid", lambda each: number(first(each), 1, 255)),
            "priority": put("priority", lambda each: number(first(each), 1, 255)),
            "advert_int": put("advert-interval", lambda each: duration(decimal(first(each)))),
            "version": lambda each: version.append(number(first(each), 2, 3)),
            "nopreempt": put("preempt", lambda _: False),
            "preempt_delay": put("preempt-delay", lambda each: duration(decimal(first(each)))),
            "use_vmac": lambda each: self._vmac(each, router),
            "virtual_ipaddress": lambda each: self._addresses(each, router),
            "virtual_ipaddress_excluded": lambda each: self._excluded(each, router),
            "track_interface": lambda each: self._interfaces(each, router, raise_by),
            "track_script": lambda each: self._track(each, router, raise_by),
            "unicast_src_ip": lambda each: source.append(address(first(each))),
            "unicast_peer": lambda each: self._peers(each, peers, router),
            "authentication": self._authentication,
            "auth_hmac": lambda each: signing(each, router, self.ledger),
            "smtp_alert": lambda each: self.mail.wanted(each, router.path[1], router),
            "garp_master_delay": put("repeat-after", _pause, announce),
            "garp_master_repeat": put("count", lambda each: number(first(each), 1, 100), announce),
            "garp_master_refresh": put("refresh", _pause, announce),
            **notifiers(router.path[1], self.draft, self.ledger),
        }  # fmt: skip
        block = sorted(statement.inner, key=lambda each: each.name != "interface")  # addresses are compared with it
        self.ledger.read(block, handlers, part=router, always=_ALWAYS, left=_WORDS)
        self._complete(statement, router, version, raise_by)
        self._members(statement, router, source, peers)

    def _complete(self, statement: Statement, router: Part, version: list[int], raise_by: list[int]) -> None:
        addresses = router.get("addresses") or []
        elsewhere = self._elsewhere.get(router.path[1], {})
        if not addresses and len(elsewhere) == 1:
            ((interface, addresses),) = elsewhere.items()
            del self._elsewhere[router.path[1]]
            router.set("interface", interface, router.place)
            router.set("addresses", addresses, router.place)
        if not addresses:
            for path in [path for path in self.draft.parts if path[:2] == router.path]:
                del self.draft.parts[path]
            raise LeftError("a router needs addresses")
        wanted = version[-1] if version else self.version
        if any(":" in each for each in addresses):
            if wanted == 2 and any(":" not in each for each in addresses):  # noqa: PLR2004 - of VRRP
                self.ledger.changed(statement, "IPv4 and IPv6 together need version 3: the other host too", router)
            wanted = 3
        if wanted == 2:  # noqa: PLR2004 - of VRRP; 3 is the default
            router.set("version", 2)
        gain = sum(raise_by)
        priority = router.get("priority", 100)
        if gain and priority < 254:  # noqa: PLR2004 - an owner's priority does not change
            what = next((each for each in statement.inner if each.name == "priority"), statement)
            router.set("priority", min(254, priority + gain), what.place)
            why = f"penalties only lower a priority, so {priority} and the positive weights together are the priority"
            self.ledger.changed(what, why if priority + gain < 255 else f"{why}, at most 254", router)  # noqa: PLR2004
        for each in addresses:
            self.holders[each.partition("/")[0]] = (router.path[1], len(addresses))

    def _vmac(self, statement: Statement, router: Part) -> None:
        router.set("virtual-mac", True, statement.place)
        if statement.args:
            self.ledger.changed(statement, "the daemon names the interface itself", router)

    def _addresses(self, statement: Statement, router: Part) -> None:
        found = router.get("addresses") or []
        router.set("addresses", found, statement.place)
        for each in statement.inner:
            self.ledger.try_to(lambda one: self._address(one, router, found), each, router)

    def _address(self, statement: Statement, router: Part, found: list[str]) -> None:
        words = [word.text for word in statement.words]
        try:
            text = str(ipaddress.ip_interface(words[0]))
        except ValueError:
            raise LeftError(f'"{words[0][:60]}" is not an address') from None
        options = dict(zip(words[1:], [*words[2:], ""], strict=False))
        device = options.get("dev") or router.get("interface")
        text = text if "/" in words[0] else text.partition("/")[0]
        if device != router.get("interface") and router.get("interface") is not None:
            elsewhere = self._elsewhere.setdefault(router.path[1], {}).setdefault(str(device), [])
            if text not in elsewhere:
                elsewhere.append(text)
            why = f"a router has its addresses on its own interface: those on {device} have a router of their own in the same group"
            self.ledger.changed(statement, why, router)
            return
        if any(one.partition("/")[0] == text.partition("/")[0] for one in found):
            self.ledger.changed(statement, "this address is in the list already", router)
            return
        found.append(text)
        dropped = [word for word in options if word in {"label", "scope", "brd", "peer", "home", "preferred_lft"}]
        if dropped:
            self.ledger.changed(statement, f"{', '.join(dropped)}: addresses have no such options", router)

    def _excluded(self, statement: Statement, router: Part) -> None:
        self._addresses(statement, router)
        self.ledger.changed(statement, "adverts list all addresses: let the other host list the same", router)

    def _interfaces(self, statement: Statement, router: Part, raise_by: list[int]) -> None:
        for each in statement.inner:
            self.ledger.try_to(
                lambda one: self._tracked(one, {"interface": one.name}, None, router, raise_by), each, router
            )

    def _track(self, statement: Statement, router: Part, raise_by: list[int]) -> None:
        for each in statement.inner:
            self.ledger.try_to(lambda one: self._script_of(one, router, raise_by), each, router)

    def _script_of(self, statement: Statement, router: Part, raise_by: list[int]) -> None:
        name = statement.name
        if name not in self._scripts:
            raise LeftError(f"there is no vrrp_script {name[:60]} above that could be carried over")
        self._tracked(statement, {"probe": self._names[name]}, self._scripts[name], router, raise_by)

    def _tracked(
        self, statement: Statement, entry: dict[str, object], weight: int | None, router: Part, raise_by: list[int]
    ) -> None:
        if "weight" in statement.args:
            weight = weight_of(statement.args[statement.args.index("weight") + 1 :])
        if "reverse" in statement.args:
            raise LeftError("a track whose failure is wanted (reverse) has no form here")
        if weight:
            entry["penalty"] = min(abs(weight), 254)
            if weight > 0:
                raise_by.append(weight)
        rows = router.rows("track")
        if entry not in rows.values:
            rows.append(Row(entry, statement.place))

    def _peers(self, statement: Statement, peers: list[str], router: Part) -> None:
        for each in statement.inner:
            self.ledger.try_to(lambda one: peers.append(address(one.name)), each, router)

    def _members(self, statement: Statement, router: Part, source: Sequence[str], peers: Sequence[str]) -> None:
        if peers and source:
            router.set("members", {self.node: source[-1], **{f"?{peer}": peer for peer in peers}}, statement.place)
        for each in statement.inner:
            if each.name == "unicast_peer" and not source:
                self.ledger.left(each, "unicast needs this host's own address too: unicast_src_ip", router)
            if each.name == "unicast_src_ip" and not peers:
                self.ledger.left(each, "the source of multicast adverts is the interface's own address", router)

    @staticmethod
    def _authentication(statement: Statement) -> None:
        kind = next((each.args[0] for each in statement.inner if each.name == "auth_type" and each.args), "PASS")
        raise LeftError(REFUSED.format(kind=kind[:8]))

    # -- vrrp_sync_group

    def group(self, statement: Statement) -> None:
        """Read a vrrp_sync_group; the instances must have been read."""
        group = self.draft.part("sync-group", self.draft.unused("sync-group", first(statement)), place=statement.place)
        members: list[str] = []
        group.set("vrrp", members, statement.place)

        def join(each: Statement) -> None:
            name = self._names.get(each.name)
            if name is None or ("vrrp", name) not in self.draft.parts:
                raise LeftError(f"there is no vrrp_instance {each.name[:60]} that could be carried over")
            if name not in members:
                members.append(name)

        def join_all(each: Statement) -> None:
            for one in each.inner:
                self.ledger.try_to(join, one, group)

        def track(each: Statement) -> None:
            if not members:
                raise LeftError("the group has no routers above that could track it")
            router = self.draft.part("vrrp", members[0])
            (self._interfaces if each.name == "track_interface" else self._track)(each, router, [])

        handlers: dict[str, Handler] = {
            "group": join_all,
            "track_interface": track,
            "track_script": track,
            "smtp_alert": lambda each: self.mail.wanted(each, group.path[1], group),
            **notifiers(group.path[1], self.draft, self.ledger),
        }
        by_name = [
            each for each in statement.inner if each.name in self._names and not each.args and each.block is None
        ]
        for each in by_name:  # an old form: the names without `group`
            self.ledger.try_to(join, each, group)
        rest = [each for each in statement.inner if each not in by_name]
        ordered = sorted(rest, key=lambda each: each.name != "group")
        self.ledger.read(
            ordered, handlers, part=group, always={"global_tracking", "sync_group_tracking_weight"}, left=_WORDS
        )
        if not members:
            del self.draft.parts[group.path]
            raise LeftError("it has no routers")

    def join_interfaces(self) -> None:
        """Make routers for addresses on other interfaces, in the group of the router that they belong to."""
        for name, interfaces in self._elsewhere.items():
            router = self.draft.parts.get(("vrrp", name))
            if router is None:
                continue
            group = next((part for part in self.draft.below("sync-group") if name in part.get("vrrp", [])), None)
            if group is None:
                group = self.draft.part("sync-group", self.draft.unused("sync-group", name), place=router.place)
                group.set("vrrp", [name], router.place)
            for interface, addresses in interfaces.items():
                other = self.draft.part("vrrp", self.draft.unused("vrrp", f"{name}-{interface}"), place=router.place)
                for each in router.settings():
                    if each.key not in {"members", "track"}:
                        other.set(each.key, each.value, each.place)
                other.set("interface", interface)
                other.set("addresses", addresses)
                group.get("vrrp").append(other.path[1])
                for one in addresses:
                    self.holders[one.partition("/")[0]] = (other.path[1], len(addresses))


def _pause(statement: Statement) -> str:
    seconds = decimal(first(statement))
    return duration(seconds) if seconds else "never"
