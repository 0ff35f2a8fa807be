"""Leaves out backends that lead back to this host's own listeners, as far as its addresses tell.

The validation of the file and `add` find the loops that the file shows.  A listener on every address also answers on
this host's own addresses, which come and go while the daemon runs: those loops are found here.
"""

from collections.abc import Callable, Collection, Mapping

from proxy.backends.effective import Running, written
from proxy.config.loops import Chain, addresses, explain, is_wild, loops
from proxy.config.model import BackendKey, Config
from proxy.records.timeline import Tell


class LoopGuard:
    """The backends that lead back to this host.  `on_change(reasons)` gets all of them after each change."""

    def __init__(
        self,
        running: Running,
        own: Callable[[], Collection[str]],
        tell: Tell,
        on_change: Callable[[Mapping[BackendKey, str]], None],
    ) -> None:
        """Begin with none; `own` returns the addresses of this host's interfaces."""
        self._running = running
        self._own = own
        self._tell = tell
        self._on_change = on_change
        self._config: object = None  # the configuration of the last look
        self._addresses: Collection[str] | None = None
        self._wild = False
        self._chains: Mapping[BackendKey, Chain] = {}

    def look(self) -> None:
        """Look for backends that lead back; call it often, since such a backend gets traffic until the next look."""
        config = self._running.config
        if self._config is not config:
            self._config, self._addresses, self._wild = config, None, is_wild(config.services)
        own = self._own() if self._wild else ()  # without such a listener the validation and `add` find all loops
        if not self._wild or own == self._addresses:
            return
        self._addresses = own
        before, self._chains = self._chains, self._find(config, own)
        for key in self._chains.keys() - before.keys():
            text = f"{explain(key[1], self._chains[key])}: it gets no traffic"
            self._tell("loop", written(key), text, level="error")
        for key in before.keys() - self._chains.keys() & self._running.backends.keys():
            self._tell("loop", written(key), "it no longer leads back to this host")
        if before != self._chains:
            self._on_change({key: explain(key[1], chain) for key, chain in self._chains.items()})

    def would_lead_back(self, config: Config) -> Mapping[BackendKey, str]:
        """Return which backends of another configuration would lead back, and in words how."""
        chains = self._find(config, self._own())
        return {key: explain(key[1], chain) for key, chain in chains.items()}

    def _find(self, config: Config, own: Collection[str]) -> Mapping[BackendKey, Chain]:
        return loops(config.services, {*own, *addresses(config.services, config.vrrp, config.node.name)})
