"""Who asks, as far as we know it: what is passed on of it, and what is believed. Pure.

Laws: what a client says of itself in X-Forwarded-For, Forwarded and their like is dropped, unless the connection is of
a proxy that the operator trusts; then ours is appended to it. So an application that believes the last entry but those
of the edges is never lied to.
"""

import ipaddress
import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network

from multidict import CIMultiDict

KEPT_ADDRESSES = 4096
_CLAIMS = frozenset(("forwarded", "x-real-ip", "x-client-ip", "true-client-ip"))
_CLAIM_PREFIX = "x-forwarded-"
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class Proxies:
    """Those that the operator trusts."""

    def __init__(self, networks: Iterable[IPv4Network | IPv6Network]) -> None:
        self._networks = tuple(networks)
        self.trusts = lru_cache(KEPT_ADDRESSES)(self._trusts)

    def _trusts(self, address: str) -> bool:
        """Whether that address is one of them; what is no address is not."""
        try:
            parsed = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped:
            parsed = parsed.ipv4_mapped
        return any(parsed.version == network.version and parsed in network for network in self._networks)

    def client(self, headers: CIMultiDict[str], remote: str) -> str:
        """The address that asked first, as far as trusted proxies say it: the last one that is none of them."""
        if not self.trusts(remote):
            return remote
        said = ",".join(headers.getall("X-Forwarded-For", ())).split(",")
        addresses = [address.strip() for address in said if address.strip()]
        return next((address for address in reversed(addresses) if not self.trusts(address)), remote)


def with_client(headers: CIMultiDict[str], *, remote: str, scheme: str, trusted: bool) -> CIMultiDict[str]:
    """A request as it came from outside, with what we know of its client (RFC 7239 and the older fields)."""
    host = headers.get("Host", "")
    kept = ((name, value) for name, value in headers.items() if "_" not in name and (trusted or not is_claim(name)))
    told = CIMultiDict(kept)
    told["X-Forwarded-For"] = ", ".join((*told.getall("X-Forwarded-For", ()), remote))
    told["Forwarded"] = ", ".join((*told.getall("Forwarded", ()), _element(remote, scheme, host)))
    told.setdefault("X-Forwarded-Proto", scheme)
    told.setdefault("X-Forwarded-Host", host)
    return told


def is_claim(name: str) -> bool:
    """Whether a field of that name says something of who asks."""
    lower = name.lower()
    return lower.startswith(_CLAIM_PREFIX) or lower in _CLAIMS


def network_of(address: str) -> str:
    """What counts as one client: an IPv4 address, or the /64 that one IPv6 customer has at least."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(parsed) >> 64 << 64, 64)))


def _element(remote: str, scheme: str, host: str) -> str:
    """RFC 7239 section 4: an IPv6 address stands in brackets and quotes."""
    node = f'"[{remote}]"' if ":" in remote else remote
    escaped = host if _TOKEN.fullmatch(host) else '"' + re.sub(r'(["\\])', r"\\\1", host) + '"'
    return f"for={node};host={escaped};proto={scheme}"
