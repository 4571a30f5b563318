"""The whole map for one name, a page at a time: each network with its order of sites and where it is sent now.

Law: the networks of all pages together cover both address spaces once, as the scopes of answers do; a page is bounded,
and goes on from an address, so a map that was replaced between two pages costs no more than one network seen twice.
"""

import ipaddress
from dataclasses import dataclass
from typing import Any

from anycastle.dns.errors import DnsError
from anycastle.dns.fastest import Fastest
from anycastle.dns.geo import EMBEDDINGS, Geo
from anycastle.dns.rank import Depends
from anycastle.dns.settings import Network, SteeredName
from anycastle.dns.standing import stand
from anycastle.dns.steer import Match, Steering, choose
from anycastle.health.view import View


@dataclass(frozen=True, slots=True)
class Row:
    """One network of the merged map."""

    network: Network
    place: int
    """Below 0: EMBEDDINGS[-1 - place] says which IPv4 address inside decides."""


def map_page(steering: Steering, view: View, name: str, after: str, limit: int, *, now: float) -> dict[str, Any]:
    """The networks behind `after` (a network; empty: from the beginning), at most `limit` of them.

    Keys: name, steered_by, networks (mappings with network, order, chosen, by_hash, why), next (what to give as
    `after`; None at the end). Raises DnsError when no rule steers the name or `after` is no network.
    """
    match = steering.match(tuple(name.encode("ascii", "replace").lower().rstrip(b".").split(b".")))
    if match is None:
        raise DnsError(f"{name} is not steered: expected one of [[names]], as in {_example(steering)}")
    rows = _rows(steering.map_of(match.rule), _behind(after), limit)
    told = _Told(steering, match, view, now)
    return {
        "name": name,
        "steered_by": match.rule.name,
        "networks": [{"network": str(row.network), **told.of(row)} for row in rows],
        "next": str(rows[-1].network) if len(rows) == limit and not _is_last(rows[-1].network) else None,
    }


class _Told:
    """What is said of a place, worked out once for the page."""

    def __init__(self, steering: Steering, match: Match, view: View, now: float) -> None:
        candidates = steering.candidates(match.rule)
        self._steering, self._match = steering, match
        self._standing = stand(match.rule, match.prefix, candidates, view, now=now)
        self._names = {site.name for site in candidates}
        self._known: dict[int, dict[str, Any]] = {}

    def of(self, row: Row) -> dict[str, Any]:
        if row.place < 0:
            offset = EMBEDDINGS[-1 - row.place].offset_bits
            why = f"by the IPv4 address that begins at bit {offset}"
            return {"order": [], "chosen": [], "by_hash": False, "why": why}
        if row.place not in self._known:
            self._known[row.place] = self._decided(row)
        where = self._steering.map_of(self._match.rule)
        return {**self._known[row.place], "why": where.why(row.network.network_address.packed)}

    def _decided(self, row: Row) -> dict[str, Any]:
        place = self._steering.map_of(self._match.rule).places[row.place]
        address = row.network.network_address.packed
        decision = choose(self._steering, self._match, self._standing, address, row.network.max_prefixlen)
        by_hash = decision.depends is Depends.NETWORK
        return {
            "order": [site for site in place.order if site in self._names],
            "chosen": [] if by_hash else list(decision.sites),
            "by_hash": by_hash,
        }


def _rows(where: Geo | Fastest, start: tuple[int, int] | None, limit: int) -> list[Row]:
    rows: list[Row] = []
    while start is not None and len(rows) < limit:
        version, address = start
        place, bits = where.leaf(version, address)
        unused_bits = (32 if version == 4 else 128) - bits
        first = address >> unused_bits << unused_bits
        network: Network = (
            ipaddress.IPv4Network((first, bits)) if version == 4 else ipaddress.IPv6Network((first, bits))
        )
        rows.append(Row(network, place))
        start = _next(network)
    return rows


def _behind(after: str) -> tuple[int, int] | None:
    """IP version and first address of what comes next."""
    if not after:
        return 4, 0
    try:
        return _next(ipaddress.ip_network(after))
    except ValueError as error:
        raise DnsError(f"after is {after!a}: expected a network, as `next` of the page before says: {error}") from None


def _next(network: Network) -> tuple[int, int] | None:
    last = int(network.broadcast_address)
    if last + 1 < 1 << network.max_prefixlen:
        return network.version, last + 1
    return (6, 0) if network.version == 4 else None


def _is_last(network: Network) -> bool:
    return _next(network) is None


def _example(steering: Steering) -> str:
    rules: list[SteeredName] = [*steering.exact.values(), *steering.wildcards.values()]
    return rules[0].name if rules else "(there is none)"
