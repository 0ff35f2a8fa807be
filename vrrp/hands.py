"""What all routers of a host share to act: the kernel, and what announces, refreshes and resets for all of them."""

from dataclasses import dataclass, field

from vrrp.announcer import Announcer
from vrrp.keeper import Keeper
from vrrp.kernel import Kernel
from vrrp.reset import Resets


@dataclass(slots=True)
class Hands:
    """What all routers of a host share, so that their work is done together and in turn."""

    kernel: Kernel
    keeper: Keeper = field(init=False)
    announcer: Announcer = field(default_factory=Announcer)
    resets: Resets = field(default_factory=Resets)

    def __post_init__(self) -> None:
        """Make a keeper of the kernel's."""
        self.keeper = Keeper(self.kernel)

    async def close(self) -> None:
        """Announce and refresh no more."""
        await self.announcer.close()
        await self.keeper.close()
