"""Which prefixes may be announced: what a slip of the hand makes is refused, unless the file says it is meant.

Law: pure; the ranges are those of IANA's special-purpose registries (RFC 6890), of which nothing is globally reachable.
"""

import ipaddress
from collections.abc import Iterable, Iterator

from anycastle.bgp.settings import Prefix

LONGEST = {4: 24, 6: 48}
"""More specific ones are dropped by nearly all networks."""

_NEVER = tuple(
    map(
        ipaddress.ip_network,
        (
            *("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4"),
            *("::/128", "::1/128", "::ffff:0:0/96", "fe80::/10", "ff00::/8"),
        ),
    )
)
"""No unicast destination beyond one link or one machine: no flag allows these."""
_PRIVATE = tuple(
    map(
        ipaddress.ip_network,
        (
            *("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.168.0.0/16"),
            *("198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
            *("64:ff9b:1::/48", "100::/64", "2001:2::/48", "2001:db8::/32", "3fff::/20", "5f00::/16", "fc00::/7"),
        ),
    )
)
"""For use inside networks: private, shared, benchmarks, documentation."""


def problem(prefix: Prefix, *, nameserver: bool, allow_private: bool, allow_long_prefix: bool) -> str:
    """Why `prefix` is hardly meant, with the key that allows it; empty when it is fine.

    Host routes of nameservers are fine: a service address to one's own routers is what they are for.
    """
    if (forbidden := _overlapping(prefix, _NEVER)) is not None:
        return f"{prefix} overlaps {forbidden}, which nobody can reach from another machine; nothing allows it"
    if not allow_private and (private := _overlapping(prefix, _PRIVATE)) is not None:
        return f"{prefix} overlaps {private}, which is not globally reachable; allow_private = true says it is meant"
    host_route = prefix.prefixlen == prefix.max_prefixlen
    longest = LONGEST[prefix.version]
    if prefix.prefixlen > longest and not allow_long_prefix and not (nameserver and host_route):
        return (
            f"{prefix} is more specific than /{longest}, which most networks drop; "
            "allow_long_prefix = true says it is meant"
        )
    return ""


def overlaps(prefixes: Iterable[Prefix]) -> Iterator[tuple[Prefix, Prefix]]:
    """Pairs of which the first lies within the second, the nearest one around it only."""
    known = set(prefixes)
    for inner in sorted(known, key=lambda prefix: (prefix.version, prefix)):
        around = (inner.supernet(new_prefix=length) for length in range(inner.prefixlen - 1, 0, -1))
        outer = next((each for each in around if each in known), None)
        if outer is not None:
            yield inner, outer


def _within(inner: Prefix, outer: Prefix) -> bool:
    return inner.version == outer.version and inner.network_address in outer


def _overlapping(prefix: Prefix, ranges: Iterable[Prefix]) -> Prefix | None:
    return next((each for each in ranges if _within(prefix, each) or _within(each, prefix)), None)
