"""Which addresses webhooks may reach. Addresses, and not names, are checked whenever a connection is opened."""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

__all__ = ["AddressPolicy", "AddressRefused", "Network", "canonical", "is_host_name"]

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

# Private, local and special-purpose networks (registries of IANA), in IPv4 and in IPv6.
REFUSED: tuple[Network, ...] = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
        "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24",
        "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
        # ::/96 holds ::, ::1 and the obsolete IPv4-compatible addresses.
        "::/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32",
        "2002::/16", "3fff::/20", "5f00::/16", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8",
    )
)  # fmt: skip
HOST_NAME = re.compile(
    r"(?=.{1,253}\Z)(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))*\.?", re.IGNORECASE
)
NUMERIC = re.compile(r"(0x[0-9a-f]*|[0-9]+)(\.(0x[0-9a-f]*|[0-9]+))*\.?", re.IGNORECASE)


class AddressRefused(Exception):
    """Webhooks may not reach the endpoint's address; `str` says which address and why."""


def canonical(text: str) -> Address:
    """The address that the kernel would connect to: IPv4-mapped IPv6 (::ffff:a.b.c.d) is IPv4. Raise ValueError."""
    address = ip_address(text.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped if mapped is not None else address


def is_host_name(host: str) -> bool:
    """Whether it is a valid DNS name. Addresses in unusual notations (2130706433, 0177.1, 0x7f.0.0.1) are not."""
    return HOST_NAME.fullmatch(host) is not None and NUMERIC.fullmatch(host) is None


class AddressPolicy:
    """Decides which addresses may be reached: public ones, and those in `allowed`.

    allowed: private networks, such as "10.0.0.0/8". Raise ValueError for an invalid network.
    """

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        self.allowed: tuple[Network, ...] = tuple(ip_network(text) for text in allowed)

    def check(self, text: str) -> None:
        """Raise AddressRefused for an address (not a name) that is not allowed."""
        try:
            address = canonical(text)
        except ValueError:
            raise AddressRefused(f"{text!r} is not an address") from None
        for network in self.allowed:
            if address in network:
                return
        for network in REFUSED:
            if address in network:
                raise AddressRefused(f"address {address} is in {network}, which webhooks may not reach")
        if not address.is_global or address.is_multicast:
            raise AddressRefused(f"address {address} is not public")
