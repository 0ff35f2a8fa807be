"""Builds an advert of a router's settings without sending it: settings that no packet can carry show before they count."""

import struct
from ipaddress import ip_interface

from vrrp import packet
from vrrp.settings import RouterSettings


def unfit(settings: RouterSettings, family: int) -> str:
    """Return why no advert of IP version `family` can be built from these settings, in words; "" if one can."""
    addresses = tuple(ip_interface(one).ip for one in settings.of_family(family))
    advert = packet.Advert(settings.version, settings.vrid, settings.priority, addresses, settings.advert_interval)
    try:
        packet.build(advert, addresses[0], addresses[0], checksum=settings.checksum)
    except (ValueError, struct.error) as error:
        return f"no advert can be built from the settings: {error}"
    return ""


def shape(settings: RouterSettings) -> tuple[object, ...]:
    """Return what decides whether an advert can be built, besides the addresses."""
    return settings.version, settings.advert_interval, settings.priority, settings.checksum
