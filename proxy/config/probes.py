"""Turns the forms of `probe` into complete specs: looks up names, merges defaults, and fills in ports and transports."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from health.secrets import PASSWORD
from health.spec import PROBE_TYPES, DnsProbe, NoneProbe, PingProbe, ProbeBase, ProbeSpec, ScriptProbe, UdpProbe
from proxy.config.diagnostics import Report, did_you_mean, listed
from proxy.config.hostfiles import KINDS, Use, check_file, check_script
from proxy.config.merge import merged, without
from proxy.config.model import Listener
from proxy.config.positions import Arr, Spot, Tab
from proxy.config.validate import keys_of, toml_type, validate
from proxy.config.warnings import warn_of_probe

_FORMS: Final = 'a table { type = "tcp" }, a list of such tables, or the name of a [probe.NAME]'
_MOST_PROBES: Final = 32


@dataclass(frozen=True, slots=True)
class Checked:
    """A probe that is complete except for the values that depend on the backend."""

    spec: ProbeBase
    spot: Spot
    tab: Tab
    implied: bool = False
    """True if the file does not mention this probe."""


def all_keys() -> dict[str, list[str]]:
    """Return every key of any probe -> the types that have it."""
    keys: dict[str, list[str]] = {}
    for name, model in PROBE_TYPES.items():
        for key in keys_of(model):
            keys.setdefault(key, []).append(name)
    return keys


class Probes:
    """The named probes and the defaults of one configuration."""

    def __init__(self, named: Tab, defaults: Tab | None, report: Report, *, use: Use, user: str = "nobody") -> None:
        """Prepare; `use` says what they are read for; they run as `user` if this process is root."""
        self.named = named
        self.defaults = defaults
        self.report = report
        self.use = use
        self.user = user
        self.used: set[str] = set()
        self._keys = all_keys()

    def check_defaults(self) -> None:
        """Check [defaults.probe] by itself, so that a mistake is reported even if no service uses it."""
        if self.defaults is None:
            return
        kind = self.defaults.get("type")
        own = keys_of(PROBE_TYPES[kind]) if isinstance(kind, str) and kind in PROBE_TYPES else self._keys
        common = keys_of(ProbeBase)
        for key in self.defaults:
            if key not in self._keys:
                near = did_you_mean(key, self._keys)
                self.report.error(self.defaults.spots[key], f'unknown key "{key[:60]}"', near, at="key")
            elif key not in own and key not in common:
                self.report.error(self.defaults.spots[key], f'"{key}" is not a key of a {kind} probe', at="key")
        shared = without(self.defaults, *(key for key in self.defaults if key not in common))
        validate(ProbeBase, shared, self.report, "[defaults.probe]", partial=True)

    def check_unused(self) -> None:
        """Check the named probes that no service or router uses."""
        for name in self.named:
            if name not in self.used:
                self.one(name, self.named.spots[name], "tcp")

    def expand(self, value: Any, spot: Spot, default_type: str | None) -> list[Checked]:
        """Return the probes of a `probe` value; `default_type` is the type of a probe without `type`."""
        if isinstance(value, Arr):
            if not value:
                self.report.error(spot, 'probe is an empty list: for no probe at all write { type = "none" }')
            if len(value) > _MOST_PROBES:
                self.report.error(spot, f"more than {_MOST_PROBES} probes")
                return []
            found = [self.one(each, place, default_type) for each, place in zip(value, value.spots, strict=True)]
        else:
            found = [self.one(value, spot, default_type)]
        return [probe for probe in found if probe is not None]

    def implied(self, spot: Spot, default_type: str) -> Checked | None:
        """Return the probe of a service without `probe`."""
        tab = Tab(spot)
        if self.defaults is None or "type" not in self.defaults:
            tab.put("type", default_type, spot)
        found = self.one(tab, spot, default_type)
        return Checked(found.spec, found.spot, found.tab, implied=True) if found else None

    def _default_type(self, otherwise: str | None) -> Any:
        return self.defaults["type"] if self.defaults is not None and "type" in self.defaults else otherwise

    def one(self, value: Any, spot: Spot, default_type: str | None) -> Checked | None:
        """Return one probe, or None after reporting."""
        own = self._own(value, spot, ())
        if own is None:
            return None
        kind = own["type"] if "type" in own else self._default_type(default_type)
        if kind is None:
            self.report.error(spot, f'"type" is missing: one of {listed(list(PROBE_TYPES))}', at="key")
            return None
        if not isinstance(kind, str) or kind not in PROBE_TYPES:
            place = own.spots.get("type") or (self.defaults.spots["type"] if self.defaults else spot)
            hint = did_you_mean(str(kind), PROBE_TYPES) or f"one of {listed(list(PROBE_TYPES))}"
            self.report.error(place, f"unknown probe type {toml_type(kind)}", hint)
            return None
        model = PROBE_TYPES[kind]
        whole = merged(self.defaults, own, only=keys_of(model))
        if "type" not in whole:
            whole.put("type", kind, spot)
        homes = {
            key: "a probe of type " + listed(types) for key, types in self._keys.items() if key not in keys_of(model)
        }
        spec = validate(model, without(whole, "use"), self.report, f"this {kind} probe", homes=homes)
        if spec is None:
            return None
        self._check_files(spec, whole)
        return Checked(spec, spot, whole)

    def _own(self, value: Any, spot: Spot, seen: Sequence[str]) -> Tab | None:
        """Return a probe's keys, including those of the named probes that it uses."""
        if isinstance(value, str):
            return self._named(value, spot, seen)
        if not isinstance(value, Tab):
            self.report.error(spot, f"probe must be {_FORMS}, not {toml_type(value)}")
            return None
        if "use" not in value:
            return value
        base = self._named(value["use"], value.spots["use"], seen)
        return None if base is None else merged(base, without(value, "use"))

    def _named(self, name: Any, spot: Spot, seen: Sequence[str]) -> Tab | None:
        if not isinstance(name, str):
            self.report.error(spot, f"use must be the name of a [probe.NAME], not {toml_type(name)}")
            return None
        if name not in self.named:
            hint = did_you_mean(name, self.named)
            if not hint and name in PROBE_TYPES:
                hint = f'for the type write {{ type = "{name}" }}'
            self.report.error(spot, f"there is no [probe.{name[:60]}]", hint)
            return None
        if name in seen:
            self.report.error(spot, f"[probe.{name}] uses itself")
            return None
        self.used.add(name)
        value = self.named[name]
        if not isinstance(value, Tab):
            self.report.error(self.named.spots[name], f"probe.{name} must be a table")
            return None
        return self._own(value, spot, (*seen, name))

    def _check_files(self, spec: ProbeBase, tab: Tab) -> None:
        for key, kind in KINDS.items():
            if key in tab:
                secret = kind is PASSWORD
                check_file(tab[key], tab.spots[key], self.report, use=self.use, secret=secret, kind=kind)
        if isinstance(spec, ScriptProbe):
            spot = tab.spots["command"]
            check_script(spec.command[0], spot, self.report, use=self.use, user=self.user)


def default_type(protocol: str, listeners: Sequence[Listener]) -> str:
    """Return the default type of the probes of a service."""
    if protocol == "dns":
        return "dns"
    return "tcp" if any(listener.transport == "tcp" for listener in listeners) else "none"


def standing_alone(spec: ProbeBase) -> ProbeBase:
    """Return a complete probe without a service, with the least values for what depends on a service."""
    update: dict[str, Any] = {"send_proxy": spec.send_proxy or "off"}
    if isinstance(spec, DnsProbe) and spec.transport is None:
        update["transport"] = "udp"
    return spec.model_copy(update=update)


class Filler:
    """Fills in the values that depend on the service and the backend."""

    def __init__(self, listeners: Sequence[Listener], report: Report) -> None:
        self.report = report
        transports = {listener.transport for listener in listeners}
        self._transport = "both" if len(transports) > 1 else next(iter(transports), "udp")
        self._ports = {
            transport: sorted({listener.port for listener in listeners if transport in (listener.transport, "any")})
            for transport in ("udp", "tcp")
        }
        self._ports["any"] = sorted({listener.port for listener in listeners})

    def fill(self, probe: Checked, address: str, port: int | None, send_proxy: str) -> ProbeSpec | None:
        """Return the probe of one backend, None after reporting that its port is unknown."""
        spec = probe.spec
        update: dict[str, Any] = {"address": spec.address or address}
        if spec.send_proxy is None:
            update["send_proxy"] = send_proxy
        if isinstance(spec, DnsProbe) and spec.transport is None:
            update["transport"] = self._transport
        if spec.port is None and not isinstance(spec, PingProbe | NoneProbe):
            update["port"] = port or self._port(probe)
            if update["port"] is None and spec.needs_port:
                return None
        filled: ProbeSpec = spec.model_copy(update=update)  # type: ignore[assignment]
        warn_of_probe(filled, probe.tab, probe.spot, self.report)
        return filled

    def _port(self, probe: Checked) -> int | None:
        if not self._ports["any"]:
            return None
        spec = probe.spec
        family = "any" if isinstance(spec, DnsProbe) else "udp" if isinstance(spec, UdpProbe) else "tcp"
        ports = self._ports[family] or self._ports["any"]
        if len(ports) == 1:
            return ports[0]
        if spec.needs_port:
            shown = ", ".join(str(port) for port in ports[:6]) + (", …" if len(ports) > 6 else "")  # noqa: PLR2004 - fits a line
            what = "this service needs a probe with a port" if probe.implied else f"this {spec.type} probe needs a port"
            self.report.error(
                probe.spot,
                f"{what}: the listeners have several ({shown})",
                f'write for instance probe = {{ type = "{spec.type}", port = {ports[0]} }}',
                at="key" if probe.implied else "value",
            )
        return None
