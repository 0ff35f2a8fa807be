"""The signatures of one router over changes of its keys: it signs and checks by its present settings.

The numbers of adverts outlive each change, so that recorded adverts never count, and the other hosts accept the next one.
"""

from collections.abc import Mapping

from vrrp import auth
from vrrp.packet import Drop, IPAddress
from vrrp.settings import AuthSettings


class Signing:
    """Signs the adverts of one router, and checks those that it receives.

    `sent` is the highest number of signed adverts that this host used before, and `seen` the highest of each sender.
    """

    __slots__ = ("_seen", "_sent", "_signer", "_verifier")

    def __init__(
        self, settings: AuthSettings, advert_interval: float, sent: int = 0, seen: Mapping[IPAddress, int] | None = None
    ) -> None:
        self._sent, self._seen = sent, dict(seen or {})
        self._begin(settings, advert_interval)

    def change(self, settings: AuthSettings, advert_interval: float) -> None:
        """Go on with other keys, another mode or another interval."""
        self._sent, self._seen = self.sent, dict(self.seen)
        self._begin(settings, advert_interval)

    def know(self, sent: int, seen: Mapping[IPAddress, int]) -> None:
        """Learn the numbers that were stored, before `change` has adverts signed for the first time."""
        self._sent, self._seen = max(self._sent, sent), {**seen, **self._seen}

    def _begin(self, settings: AuthSettings, advert_interval: float) -> None:
        self._signer: auth.Signer | None = None
        self._verifier: auth.Verifier | None = None
        if settings.mode in {"permissive", "enforce"}:
            self._signer = auth.Signer(*settings.keys[0], self._sent)
        if settings.mode != "off":
            self._verifier = auth.Verifier(
                dict(settings.keys),
                required=settings.mode == "enforce",
                advert_interval=advert_interval,
                seen=self._seen,
            )

    @property
    def signs(self) -> bool:
        """Whether adverts are signed."""
        return self._signer is not None

    @property
    def sent(self) -> int:
        """The highest number of our own signed adverts, for the next process; 0 if there were none."""
        return self._signer.number if self._signer is not None else self._sent

    @property
    def seen(self) -> Mapping[IPAddress, int]:
        """The highest number of each sender's signed adverts."""
        return self._verifier.seen if self._verifier is not None else self._seen

    def trailer(self, message: bytes, source: IPAddress, wall: float) -> bytes:
        """Return the trailer of an advert; nothing if adverts are not signed."""
        return self._signer.trailer(message, source, wall) if self._signer is not None else b""

    def check(self, data: bytes, source: IPAddress, wall: float) -> Drop | None:
        """Return why a parsed advert does not count, None if it does."""
        return self._verifier.check(data, source, wall) if self._verifier is not None else None
