"""[vrrp.NAME] and [sync-group.NAME], and the references between them."""

import ipaddress
import math
from collections.abc import Sequence
from typing import Any, Final

from health.secrets import NoSecret, read
from health.spec import ScriptProbe
from health.units import format_duration
from proxy.config.diagnostics import Report, did_you_mean
from proxy.config.hostfiles import Use, check_file
from proxy.config.merge import merged, without
from proxy.config.model import SyncGroup, Vrrp, VrrpSettings
from proxy.config.positions import Arr, Spot, Tab
from proxy.config.probes import Probes
from proxy.config.types import is_name
from proxy.config.validate import examine, locate, validate
from vrrp.auth import decode_key
from vrrp.packet import MAX_ADDRESSES, MAX_INTERVAL

_UNITS: Final = {2: (1.0, "seconds"), 3: (0.01, "hundredths of a second")}
_MTU: Final = 1500  # octets; an Ethernet frame
_OLD_AUTH: Final = "auth-key-files"
_NEW_KEY: Final = 'make one: (umask 077; printf "hex:%s" "$(openssl rand -hex 32)" > {path})'


def tables(tree: Tab, key: str, report: Report) -> list[tuple[str, Tab, Spot]]:
    """Return the tables of a section whose keys are names, after checking the names."""
    section = tree.get(key)
    if section is None:
        return []
    if not isinstance(section, Tab):
        report.error(tree.spots[key], f"{key} holds tables: write [{key}.NAME]", at="key")
        return []
    found: list[tuple[str, Tab, Spot]] = []
    for name, table in section.items():
        spot = section.spots[name]
        if not isinstance(table, Tab):
            report.error(
                spot, f"[{key}] holds tables with names of their own: write [{key}.NAME] before this key", at="key"
            )
        elif not is_name(name):
            report.error(
                spot,
                f'"{name[:60]}" is not a name: ASCII letters, digits, dots, hyphens, underscores, at most 63',
                at="key",
            )
        else:
            found.append((name, table, spot))
    return found


def _without_old_keys(tab: Tab, report: Report) -> Tab:
    """Report keys that an earlier version read differently, with their replacement."""
    if _OLD_AUTH not in tab:
        return tab
    report.error(
        tab.spots[_OLD_AUTH],
        f"{_OLD_AUTH} was replaced",
        'write auth = { mode = "enforce", key-files = […] }',
        at="key",
    )
    return without(tab, _OLD_AUTH)


def _as_lists(tab: Tab) -> Tab:
    """Turn each member's one address into a list of one."""
    members = tab.get("members")
    if not isinstance(members, Tab):
        return tab
    lists = Tab(members.here)
    for node, value in members.items():
        spot = members.spots[node]
        if isinstance(value, str):
            array = Arr(spot)
            array.put(value, spot)
            lists.put(node, array, spot)
        else:
            lists.put(node, value, spot)
    result = tab.copy()
    result.put("members", lists, tab.spots["members"])
    return result


def routers(
    tree: Tab, defaults: Any, nodes: Sequence[str], report: Report, *, use: Use = "elsewhere"
) -> dict[str, tuple[Vrrp, Tab]]:
    """Return the virtual routers by name, with their tables; `use` says what they are read for."""
    found: dict[str, tuple[Vrrp, Tab]] = {}
    base = _as_lists(_without_old_keys(defaults, report)) if isinstance(defaults, Tab) else None
    if base is not None:
        validate(VrrpSettings, base, report, "[defaults.vrrp]", partial=True)
    for name, table, spot in tables(tree, "vrrp", report):
        tab = merged(base, _as_lists(_without_old_keys(table, report)), whole=("members",))
        settings, sound = examine(VrrpSettings, tab, report, f"[vrrp.{name}]")
        if name.replace(".", "").isdigit():
            report.error(
                spot,
                f'"{name}" looks like an address: give the router a name that `listen` can tell from one',
                at="key",
            )
        if settings is None:
            continue
        values = {key: getattr(settings, key) for key in type(settings).model_fields}
        values["auth"] = settings.auth.model_copy(update={"mode": settings.auth.mode_in_force})
        router = Vrrp.model_construct(name=name, **values)
        _check_router(router, tab, nodes, report)
        _check_auth(router, tab, report, use=use)
        if sound:
            found[name] = (router, tab)
    _check_pairs(found, report)
    return found


def _check_router(router: Vrrp, tab: Tab, nodes: Sequence[str], report: Report) -> None:
    if router.version == 2 and any(":" in address for address in router.addresses):  # noqa: PLR2004 - RFC 3768
        report.error(tab.spots["version"], "version 2 knows no IPv6: write version = 3 or leave the IPv6 addresses out")
    if router.interface == "lo":
        report.error(
            _spot(tab, "interface"), "nothing that is sent on lo leaves the host: no other host hears an advert"
        )
    _check_interval(router, tab, report)
    _check_number(router, tab, report)
    if router.members is not None:
        _check_members(router, tab, nodes, report)


def _check_interval(router: Vrrp, tab: Tab, report: Report) -> None:
    """Report an interval that no advert can carry (RFC 9568 section 5.2.7, RFC 3768 section 5.3.7)."""
    spot, interval, most = _spot(tab, "advert-interval"), router.advert_interval, MAX_INTERVAL[router.version]
    unit, words = _UNITS[router.version]
    if interval > most:
        report.error(spot, f"advert-interval is at most {most:g}s in version {router.version}")
        return
    steps = interval / unit
    if abs(steps - round(steps)) > 1e-6:  # noqa: PLR2004 - the rounding of a division
        near = {max(1, math.floor(steps)), math.ceil(steps)}
        hint = " or ".join(f'"{format_duration(step * unit)}"' for step in sorted(near))
        report.error(spot, f"version {router.version} counts advert-interval in whole {words}", f"write {hint}")


def _check_number(router: Vrrp, tab: Tab, report: Report) -> None:
    """Report more addresses than an advert can count, and warn of more than a packet can carry."""
    for version, header, size in ((4, 20, 4), (6, 40, 16)):
        count = sum((":" in address) == (version == 6) for address in router.addresses)  # noqa: PLR2004 - of IP
        octets = header + 8 + size * count
        if count > MAX_ADDRESSES:
            text = f"{count} IPv{version} addresses: an advert carries at most {MAX_ADDRESSES}"
            report.error(_spot(tab, "addresses"), text, "divide them between routers with different vrids")
        elif octets > _MTU:
            report.warn(
                _spot(tab, "addresses"),
                f"adverts with {count} IPv{version} addresses have {octets} octets: more than {_MTU}, so they travel in fragments",
                "divide them between routers with different vrids",
            )


def _check_auth(router: Vrrp, tab: Tab, report: Report, *, use: Use) -> None:
    auth = router.auth
    if auth.mode_in_force != "off" and not auth.key_files:
        spot = locate(tab, ("auth", "mode"))[1]
        report.error(spot, f'mode = "{auth.mode}" needs key-files', 'write key-files = ["/etc/steelyard/vrrp.key"]')
    seen: set[int] = set()
    for index, (number, path) in enumerate(auth.keys):
        spot = locate(tab, ("auth", "key-files", index))[1]
        if number in seen:
            report.error(spot, f"two keys have the id {number}", "a key without an id has the number of its place")
        seen.add(number)
        check_file(path, spot, report, use="elsewhere" if auth.mode_in_force == "off" else use, secret=True)
        try:
            decode_key(read(path))
        except NoSecret:
            continue  # reported above, or not readable for this user: `run` will check it
        except ValueError as why:
            report.error(spot, f"{path}: {why}", _NEW_KEY.format(path=path))


def _check_members(router: Vrrp, tab: Tab, nodes: Sequence[str], report: Report) -> None:
    members = tab["members"]
    for node in members:
        if nodes and node not in nodes:
            report.error(members.spots[node], f'"{node[:60]}" is not in nodes', did_you_mean(node, nodes), at="key")
    missing = [node for node in nodes if node not in members]
    if missing:
        report.error(tab.spots["members"], f"no address for node {', '.join(missing)}", at="key")
    _check_own_addresses(router, tab, report)
    for node, addresses in (router.members or {}).items():
        for version in {4 if "." in address.partition("/")[0] else 6 for address in router.addresses}:
            if not any(ipaddress.ip_address(address).version == version for address in addresses):
                report.error(
                    locate(tab, ("members", node))[1],
                    f"{node} has no IPv{version} address here, but the router has IPv{version} addresses to advertise",
                )


def _check_own_addresses(router: Vrrp, tab: Tab, report: Report) -> None:
    """Report addresses of members that cannot belong to a single host."""
    virtual = {address.partition("/")[0] for address in router.addresses}
    owners: dict[str, str] = {}
    interfaces = [ipaddress.ip_interface(address) for address in router.addresses]
    networks = {one.network for one in interfaces if one.version == 4 and one.network.prefixlen < 31}  # noqa: PLR2004
    for node, addresses in (router.members or {}).items():
        for index, address in enumerate(addresses):
            spot = locate(tab, ("members", node, index))[1]
            if address in virtual:
                report.error(
                    spot,
                    f"{address} is one of the router's addresses: whichever host has it, the members need others to talk",
                    "write the address that the host keeps for itself",
                )
            elif address in owners:
                whose = "twice" if owners[address] == node else f"the address of {owners[address]} as well"
                report.error(spot, f"{address} is here {whose}: each member needs its own")
            owners.setdefault(address, node)
            for network in networks:
                if ipaddress.ip_address(address) in {network.network_address, network.broadcast_address}:
                    report.error(
                        spot, f"{address} is the network or the broadcast address of {network}: no host has it"
                    )


def _spot(tab: Tab, key: str) -> Spot:
    return tab.spots.get(key, tab.here)


def _check_pairs(found: dict[str, tuple[Vrrp, Tab]], report: Report) -> None:
    ids: dict[tuple[str, int, int], str] = {}
    owners: dict[str, str] = {}
    for name, (router, tab) in found.items():
        for version in sorted({ipaddress.ip_interface(address).version for address in router.addresses}):
            other = ids.setdefault((router.interface, router.vrid, version), name)
            if other != name:
                report.error(_spot(tab, "vrid"), f"vrid {router.vrid} on {router.interface} is taken by [vrrp.{other}]")
                break
        for index, address in enumerate(router.addresses):
            bare = address.partition("/")[0]
            key = f"{bare}%{router.interface}" if _is_placed(bare) else bare
            if key in owners:
                where = "twice here" if owners[key] == name else f"also in [vrrp.{owners[key]}]"
                report.error(locate(tab, ("addresses", index))[1], f"{bare} is {where}")
            owners.setdefault(key, name)
    for name, (router, tab) in found.items():
        for node, addresses in (router.members or {}).items():
            for index, address in enumerate(addresses):
                key = f"{address}%{router.interface}" if _is_placed(address) else address
                if owners.get(key, name) != name:
                    report.error(
                        locate(tab, ("members", node, index))[1],
                        f"{address} is an address of [vrrp.{owners[key]}]: a member needs one that its host keeps",
                    )


def check_membership(found: dict[str, tuple[Vrrp, Tab]], node: str, report: Report, *, need: bool) -> None:
    """Report a router whose members do not include this node: the others would ignore its adverts.

    With `need` it is an error, otherwise a warning: a file may be checked on a host that is not for it.
    """
    for router, tab in found.values():
        if router.members is not None and node not in router.members:
            report.add(
                "error" if need else "warning",
                tab.spots["members"],
                f'this host is called "{node}", which is no member: the others would ignore its adverts',
                "say which node it is: --node, STEELYARD_NODE, or [node] name",
                at="key",
            )


def _is_placed(address: str) -> bool:
    """Return True if an address means something else on each interface (RFC 4291 section 2.5.6)."""
    found = ipaddress.ip_address(address)
    return found.version == 6 and found.is_link_local  # noqa: PLR2004 - of IP


def check_tracks(found: dict[str, tuple[Vrrp, Tab]], services: Sequence[str], probes: Probes, report: Report) -> None:
    """Check the tracked objects of the routers."""
    for name, (router, tab) in found.items():
        for index, track in enumerate(router.track):
            _, spot, _ = locate(tab, ("track", index))
            things = [key for key in ("interface", "service", "probe") if getattr(track, key) is not None]
            if len(things) != 1:
                report.error(spot, f"[vrrp.{name}] tracks one thing an entry: an interface, a service or a probe")
                continue
            place = locate(tab, ("track", index, things[0]))[1]
            if track.service is not None and track.service not in ("*", *services):
                hint = did_you_mean(track.service, services)
                report.error(place, f"there is no [service.{track.service[:60]}]", hint)
            if track.probe is not None:
                probe = probes.one(track.probe, place, None)
                if probe is None or isinstance(probe.spec, ScriptProbe):
                    continue
                if probe.spec.address is None:
                    report.error(place, f"[probe.{track.probe}] has no address: a router's probe has no backend to ask")
                elif probe.spec.port is None and probe.spec.needs_port:
                    report.error(
                        place, f"[probe.{track.probe}] has no port: a router's probe has no listener to tell it"
                    )


def sync_groups(tree: Tab, names: Sequence[str], report: Report) -> list[SyncGroup]:
    """Return the groups of routers that fail over together."""
    found: list[SyncGroup] = []
    member_of: dict[str, str] = {}
    for name, table, _spot in tables(tree, "sync-group", report):
        tab = table.copy()
        if "name" in tab:
            report.error(tab.spots["name"], 'unknown key "name"', at="key")
            continue
        tab.put("name", name, table.here)
        group = validate(SyncGroup, tab, report, f"[sync-group.{name}]")
        if group is None:
            continue
        for index, router in enumerate(group.vrrp):
            place = locate(tab, ("vrrp", index))[1]
            if router not in names:
                report.error(place, f"there is no [vrrp.{router[:60]}]", did_you_mean(router, names))
            elif router in member_of:
                report.error(place, f"{router} is already in [sync-group.{member_of[router]}]")
            member_of.setdefault(router, name)
        found.append(group)
    return found
