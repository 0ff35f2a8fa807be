"""The selectors for no usable backend and for a single one, and the base class of most selectors."""

from collections.abc import Collection

from proxy.balance.backend import Backend


class Heedless:
    """The base of selectors that need neither a key nor calls of `changed`, `refreshed` and `tick`."""

    __slots__ = ("backends",)

    standbys: tuple[Backend, ...] = ()
    needs_key = False
    needs_changes = False
    needs_ticks = False

    def __init__(self, backends: tuple[Backend, ...]) -> None:
        self.backends = backends

    def pick(self, key: int = 0, exclude: Collection[Backend] = ()) -> Backend | None:
        """Return a backend that is not in `exclude`; None if none is left."""
        raise NotImplementedError

    def changed(self, backend: Backend) -> None:
        """Do nothing."""

    def refreshed(self) -> None:
        """Do nothing."""

    def tick(self, now: float) -> None:
        """Do nothing."""


class Nobody(Heedless):
    """No usable backend: every pick is None."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(())

    def pick(self, key: int = 0, exclude: Collection[Backend] = ()) -> Backend | None:  # noqa: ARG002 - a Selector's
        """Return None."""
        return None


class Only(Heedless):
    """A single usable backend. O(1)."""

    __slots__ = ("_backend",)

    def __init__(self, backend: Backend) -> None:
        super().__init__((backend,))
        self._backend = backend

    def pick(self, key: int = 0, exclude: Collection[Backend] = ()) -> Backend | None:  # noqa: ARG002 - a Selector's
        """Return the single backend; None if it was tried already."""
        return None if self._backend in exclude else self._backend
