"""Where the users of groups with affinity are at home, and how they are told (`edge_affinity` has the mark itself).

Laws: a home that is drained or withheld is none; a user whose home may be used and just could not answer keeps it; who
brings no cookies and gets none has no session, and is not marked, so that caches may keep the answer.
"""

from collections.abc import Iterable

from multidict import CIMultiDict

from anycastle.clock import Clock
from anycastle.replicator.edge_affinity import Affinity, Mark
from anycastle.replicator.edge_exchange import Exchange
from anycastle.replicator.edge_gate import Eligible
from anycastle.replicator.gate import Forward
from anycastle.replicator.settings import EdgeSettings, GroupSettings


class Homes:
    """For one site's edge."""

    def __init__(
        self, settings: EdgeSettings, groups: Iterable[GroupSettings], *, eligible: Eligible, clock: Clock
    ) -> None:
        self._site = settings.site
        self._eligible, self._clock = eligible, clock
        self._affinities = {
            group.name: Affinity(
                group=group.name, site=settings.site, keys=settings.affinity_keys, seconds=group.affinity_seconds
            )
            for group in groups
            if settings.affinity_keys and group.affinity_seconds is not None
        }

    def elsewhere(self, exchange: Exchange) -> str:
        """The other site that the user is at home at; the empty string when there is none, or it sent the request."""
        mark = self._mark(exchange) if self._affinities and not exchange.hops else None
        return mark.site if mark is not None and mark.site != self._site else ""

    def mark(self, exchange: Exchange, headers: CIMultiDict[str]) -> CIMultiDict[str]:
        """An answer of the application here, which marks its user for this site if need be."""
        affinity = self._affinities.get(exchange.target.group.name)
        if affinity is None or not ("Set-Cookie" in headers or exchange.headers.get("Cookie")):
            return headers
        mark, wall = self._mark(exchange), self._clock.wall()
        at_home_elsewhere = mark is not None and mark.site != self._site
        if at_home_elsewhere or not affinity.due(mark, wall=wall):
            return headers
        secure = exchange.headers.get("X-Forwarded-Proto") == "https"
        marked = headers.copy()
        marked.add("Set-Cookie", affinity.cookie(wall=wall, secure=secure))
        return marked

    def _mark(self, exchange: Exchange) -> Mark | None:
        """Of a site that may be used."""
        target = exchange.target
        affinity = self._affinities.get(target.group.name)
        if affinity is None:
            return None
        mark = affinity.read(exchange.headers.getall("Cookie", ()), wall=self._clock.wall())
        if mark is None or mark.site == self._site or self._eligible(mark.site, target.group.name, target.prefix):
            return mark
        return None


def home_first(verdict: Forward, home: str) -> Forward:
    """The gate's sites, that of the user before the others if it is among them."""
    if home not in verdict.sites:
        return verdict
    return Forward((home, *(site for site in verdict.sites if site != home)), verdict.reason)
