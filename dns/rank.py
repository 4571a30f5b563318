"""Ranks the eligible sites of a name for one client, by its policy and by how loaded they are.

Law: pure, and equal for all clients of one network of the size that `Ranking.depends` names. A client's hash never
depends on which other sites exist, so a site that comes or goes moves only its own share of the clients.
"""

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import assert_never

from anycastle.dns.geo import Place
from anycastle.dns.settings import Policy, SteeredName, SteeredSite


class Depends(enum.Enum):
    """What of the client decides the first site; the answer's scope follows from it."""

    NOTHING = 0
    PLACE = 1
    NETWORK = 2


@dataclass(frozen=True, slots=True)
class Load:
    """How a site's load stands to its marks."""

    shed: float
    """The share of its clients, 0.0 to 1.0, that goes on to the next site."""
    full: bool
    """At or above the hard mark: behind all others."""
    text: str
    """For people; empty when the site is below its marks."""


NO_LOAD = Load(0.0, False, "")


@dataclass(frozen=True, slots=True)
class Ranking:
    """Sites, the best first."""

    sites: tuple[str, ...]
    depends: Depends


def load_of(site: SteeredSite, load: float) -> Load:
    """Between the marks the share grows evenly from 0 to 1; without a hard mark just the excess over soft is shed."""
    soft, hard = site.soft_load, site.hard_load
    if hard is not None and load >= hard:
        return Load(0.0, True, f"load {load:.0f}/s is at or above the hard mark of {hard:.0f}/s: behind all others")
    if soft is None or load <= soft:
        return NO_LOAD
    shed = 1 - soft / load if hard is None else (load - soft) / (hard - soft)
    return Load(shed, False, f"load {load:.0f}/s is above the soft mark of {soft:.0f}/s: {shed:.0%} go on to the next")


def may_hash(rule: SteeredName, loads: dict[str, Load]) -> bool:
    """Whether the order may depend on a hash of the client's network."""
    return rule.policy is Policy.WEIGHTED or any(load.shed for load in loads.values())


def rank(
    rule: SteeredName,
    sites: Sequence[SteeredSite],
    loads: dict[str, Load],
    place: Place,
    *,
    name: str,
    network: bytes,
) -> Ranking:
    """The order for one client. `name` is the name asked for; `network` matters only when `may_hash` says so."""
    open_sites = [site for site in sites if not loads[site.name].full]
    full_sites = [site for site in sites if loads[site.name].full]
    first = _by_policy(rule, open_sites, place, name, network)
    behind = _by_policy(rule, full_sites, place, name, network)
    if not open_sites:
        return behind
    order = first.sites
    if not loads[order[0]].shed or len(order) == 1:
        return Ranking((*order, *behind.sites), first.depends)
    passed: list[str] = []
    for site in order:
        if _unit("shed", name, site, network) >= loads[site].shed:
            break
        passed.append(site)
    # Whoever was sent on by all of them stays with its first.
    return Ranking((*order[len(passed) :], *passed, *behind.sites), Depends.NETWORK)


def _by_policy(rule: SteeredName, sites: Sequence[SteeredSite], place: Place, name: str, network: bytes) -> Ranking:
    several = len(sites) > 1
    match rule.policy:
        case Policy.CLOSEST | Policy.FASTEST:
            return Ranking(_by_closeness(sites, place), Depends.PLACE if several else Depends.NOTHING)
        case Policy.CHEAPEST:
            cost = {site.name: site.cost for site in sites}
            order = tuple(sorted(_by_closeness(sites, place), key=lambda site: cost[site]))
            tied = several and cost[order[0]] == cost[order[1]]
            return Ranking(order, Depends.PLACE if tied else Depends.NOTHING)
        case Policy.FAILOVER:
            return Ranking(tuple(site.name for site in sites), Depends.NOTHING)
        case Policy.WEIGHTED:
            return _by_weight(sites, name, network)
        case _:
            assert_never(rule.policy)


def _by_closeness(sites: Sequence[SteeredSite], place: Place) -> tuple[str, ...]:
    wanted = {site.name for site in sites}
    return tuple(site for site in place.order if site in wanted)


def _by_weight(sites: Sequence[SteeredSite], name: str, network: bytes) -> Ranking:
    """Weighted rendezvous hashing: each site's share is its weight's; sites of weight 0 stand behind, in order."""
    weighty = [site for site in sites if site.weight > 0]
    idle = [site.name for site in sites if site.weight <= 0]
    if len(weighty) < 2:
        return Ranking((*(site.name for site in weighty), *idle), Depends.NOTHING)
    scores = {site.name: site.weight / -math.log(_unit("weight", name, site.name, network)) for site in weighty}
    return Ranking((*sorted(scores, key=scores.__getitem__, reverse=True), *idle), Depends.NETWORK)


def _unit(purpose: str, name: str, site: str, network: bytes) -> float:
    """A stable number, evenly spread between 0 and 1 but neither; from 52 bits of hash, which a float holds exactly."""
    text = f"{purpose} {name} {site} ".encode()
    return ((int.from_bytes(blake2b(text + network, digest_size=8).digest()) >> 12) + 0.5) / 2**52
