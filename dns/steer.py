"""Which site a client of a steered name is sent to, and why.

Law: first filter, then rank. Eligibility is `health.view.withheld` and nothing else; all of a decision comes from one
`View`, and A and AAAA are answered from one `Decision`. When no site is eligible the name's own policy says what
happens, and the decision says that it did. Every candidate has a reason.
"""

import re
from dataclasses import dataclass
from typing import assert_never

from anycastle.dns.fastest import Fastest
from anycastle.dns.geo import DEFAULT_PLACE, Geo, Place
from anycastle.dns.rank import Depends, may_hash, rank
from anycastle.dns.settings import Address, NoneEligible, Policy, SteeredName, SteeredSite
from anycastle.dns.standing import Standing, stand
from anycastle.health.view import View

NOERROR = 0
SERVFAIL = 2
"""Response codes of RFC 1035 section 4.1.1."""

_PLAIN_LABEL = re.compile(rb"[a-z0-9_-]+")
"""What a star may match: nothing that could mean something in a path (a slash, a dot, NUL)."""


@dataclass(frozen=True, slots=True)
class Match:
    """The rule for a name that was asked for, and the content it stands for."""

    rule: SteeredName
    captures: tuple[str, ...]
    """What the star matched, its labels joined by dots; empty for an exact name."""
    prefix: bytes
    """The content prefix in the rule's group; empty means the whole group."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why (not) one site."""

    site: str
    eligible: bool
    rank: int | None
    """1 is the best; None when the site is not ranked at all."""
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to answer, and every reason for it."""

    sites: tuple[str, ...]
    """Chosen: one, or all with `none = "all"`, or none."""
    addresses: tuple[Address, ...]
    """Of the chosen sites, both families."""
    ttl: int
    """Seconds."""
    ttl_reason: str
    scope_bits: int
    """How many bits of the client's address decided; 0 when the client made no difference."""
    depends: Depends
    """What of the client decided. By NETWORK it was a hash: its neighbours may be sent elsewhere."""
    rcode: int
    reasons: tuple[Reason, ...]
    """Of every candidate: the ranked ones first, the best first."""
    none_used: NoneEligible | None
    """The policy that was used because no site was eligible."""


@dataclass(frozen=True, slots=True)
class Steering:
    """All steered names, sites and the map; immutable, and may be pickled to the workers."""

    geo: Geo
    sites: dict[str, SteeredSite]
    exact: dict[tuple[bytes, ...], SteeredName]
    wildcards: dict[tuple[bytes, ...], SteeredName]
    """By the labels behind the star."""
    fastest: Fastest | None = None
    """The map for `fastest`, over `geo`; None while nothing is measured."""

    @classmethod
    def build(cls, names: tuple[SteeredName, ...], sites: tuple[SteeredSite, ...], geo: Geo) -> "Steering":
        """Names and sites are those that `anycastle.config` has checked; `geo` knows all the sites."""
        labels = {tuple(rule.name.encode().split(b".")): rule for rule in names}
        return cls(
            geo,
            {site.name: site for site in sites},
            {name: rule for name, rule in labels.items() if name[0] != b"*"},
            {name[1:]: rule for name, rule in labels.items() if name[0] == b"*"},
        )

    def match(self, name_labels_lower: tuple[bytes, ...]) -> Match | None:
        """The rule for a name: exact, else the longest wildcard. A star stands for one or more labels."""
        rule = self.exact.get(name_labels_lower)
        if rule is not None:
            return Match(rule, (), rule.content.encode())
        for count in range(1, len(name_labels_lower) + 1):
            if not _PLAIN_LABEL.fullmatch(name_labels_lower[count - 1]):
                return None
            rule = self.wildcards.get(name_labels_lower[count:])
            if rule is not None:
                star = b".".join(name_labels_lower[:count]).decode("ascii")
                return Match(rule, (star,), rule.content.replace("{1}", star).encode())
        return None

    def map_of(self, rule: SteeredName) -> Geo | Fastest:
        """The map that decides for a name's clients."""
        return self.fastest if self.fastest is not None and rule.policy is Policy.FASTEST else self.geo

    def candidates(self, rule: SteeredName) -> tuple[SteeredSite, ...]:
        """The sites that a name may use, in failover order."""
        return tuple(self.sites[name] for name in rule.sites) if rule.sites else tuple(self.sites.values())


def decide(steering: Steering, match: Match, client: bytes, source_bits: int, view: View, *, now: float) -> Decision:
    """The answer for a client address of 4 or 16 bytes; `source_bits` 0 says that nothing is known of the client.

    The scope does not depend on `source_bits`: when it is longer, RFC 7871 section 7.2.1 has it say that more bits
    would have helped.
    """
    standing = stand(match.rule, match.prefix, steering.candidates(match.rule), view, now=now)
    return choose(steering, match, standing, client, source_bits)


def choose(steering: Steering, match: Match, standing: Standing, client: bytes, source_bits: int) -> Decision:
    """Ranks what stands for one client."""
    where = steering.map_of(match.rule)
    number, scope_bits = where.find(client) if source_bits else (DEFAULT_PLACE, 0)
    place = where.places[number]
    if not standing.eligible:
        return _none_eligible(steering, standing, place, scope_bits)
    network_bits, network = scope_bits, b""
    if source_bits and may_hash(match.rule, standing.loads):
        network_bits, network = where.find_client_network(client)
    name = " ".join((match.rule.name, *match.captures))
    ranking = rank(match.rule, standing.eligible, standing.loads, place, name=name, network=network)
    scope = {Depends.NOTHING: 0, Depends.PLACE: scope_bits, Depends.NETWORK: network_bits}[ranking.depends]
    known = client if source_bits else b""
    ranked = (
        Reason(site, True, position, _why_ranked(steering.sites[site], standing, place, where, known))
        for position, site in enumerate(ranking.sites, start=1)
    )
    left_out = (Reason(site, False, None, why) for site, why in standing.barred.items())
    return _decision(steering, standing, ranking.sites[:1], scope, ranking.depends, (*ranked, *left_out))


def _decision(
    steering: Steering,
    standing: Standing,
    sites: tuple[str, ...],
    scope_bits: int,
    depends: Depends,
    reasons: tuple[Reason, ...],
    none_used: NoneEligible | None = None,
) -> Decision:
    addresses = tuple(address for site in sites for address in steering.sites[site].addresses)
    return Decision(
        sites=sites,
        addresses=standing.rule.fallback if none_used is NoneEligible.FALLBACK else addresses,
        ttl=standing.ttl,
        ttl_reason=standing.ttl_reason,
        scope_bits=scope_bits,
        depends=depends,
        rcode=SERVFAIL if none_used is NoneEligible.SERVFAIL else NOERROR,
        reasons=reasons,
        none_used=none_used,
    )


def _none_eligible(steering: Steering, standing: Standing, place: Place, scope_bits: int) -> Decision:
    """What the name's own policy says: nothing about it is by surprise."""
    policy = standing.rule.none
    depends = Depends.NOTHING
    declared = tuple(site.name for site in standing.candidates)
    chosen: tuple[str, ...]
    match policy:
        case NoneEligible.CLOSEST:
            nearest = [site for site in place.order if site in declared]
            ranked = tuple(sorted(nearest, key=standing.badness.__getitem__))
            chosen = ranked[:1]
            if [standing.badness[site] for site in ranked].count(standing.badness[ranked[0]]) > 1:
                depends = Depends.PLACE
        case NoneEligible.ALL:
            ranked = chosen = declared
        case NoneEligible.NODATA | NoneEligible.SERVFAIL | NoneEligible.FALLBACK:
            ranked = chosen = ()
        case _:
            assert_never(policy)
    used = f'; given all the same, as no site is eligible and the name says none = "{policy.value}"'
    order = (*ranked, *(site for site in declared if site not in ranked))
    reasons = tuple(
        Reason(
            site,
            False,
            position if site in ranked else None,
            standing.barred[site] + (used if site in chosen else ""),
        )
        for position, site in enumerate(order, start=1)
    )
    # What all clients share has scope 0; so have negative answers, which resolvers share anyway (RFC 7871 section 7.4).
    scope = scope_bits if depends is Depends.PLACE else 0
    return _decision(steering, standing, chosen, scope, depends, reasons, policy)


def _why_ranked(site: SteeredSite, standing: Standing, place: Place, where: Geo | Fastest, client: bytes) -> str:
    """Why an eligible site stands where it stands."""
    rule = standing.rule
    match rule.policy:
        case Policy.CLOSEST:
            text = f"by closeness ({place.why})"
        case Policy.FASTEST:
            text = f"by closeness, as nothing is measured ({place.why})"
            if isinstance(where, Fastest) and client:
                text = where.why_ranked(client, site.name)
        case Policy.CHEAPEST:
            text = f"by cost {site.cost:g}, then closeness ({place.why})"
        case Policy.FAILOVER:
            text = "by the name's order of sites"
        case Policy.WEIGHTED:
            total = sum(other.weight for other in standing.eligible)
            text = f"by weight {site.weight} of {total} and a hash of the client's network"
        case _:
            assert_never(rule.policy)
    load = standing.loads[site.name].text
    frozen = "as last known before all members were lost" if standing.frozen_for not in ("", site.name) else ""
    return "; ".join(part for part in (text, load, frozen) if part)
