"""What in a map is probably not what its author meant: lines that never count, sites that nobody is nearest to.

Law: none of it is a fault. It is worked out from the merged map, so it says what clients get, not what files look like.
"""

from collections.abc import Iterator, Sequence

from anycastle.dns.geo import Geo
from anycastle.dns.settings import Policy, SteeredName, SteeredSite

_BY_PLACE = (Policy.CLOSEST, Policy.FASTEST)


def covered_lines(geo: Geo) -> Iterator[str]:
    """Lines of the operator's files that decide for no address, because others leave nothing of their networks."""
    assert geo.sources is not None, "a map that was just built has its sources"
    used = geo.sources.used()
    for number, source in enumerate(geo.sources.every):
        if source.written and number not in used:
            yield f"{source.why}: never matches, as other lines cover all of it"


def unpreferred_sites(geo: Geo, names: Sequence[SteeredName], sites: Sequence[SteeredSite]) -> Iterator[str]:
    """Sites that no network is nearest to, for any of the names, though all names that use them go by nearness."""
    used_places = {value for runs in (geo.runs4, geo.runs6) for value in runs.values if value >= 0}
    orders = [geo.places[place].order for place in sorted(used_places)]
    if len(orders) < 2:
        return  # Everybody has one order: there is no map to speak of.
    for site in sites:
        using = [name for name in names if not name.sites or site.name in name.sites]
        if not using or any(name.policy not in _BY_PLACE for name in using):
            continue
        if not any(_is_first(site.name, name, order) for name in using for order in orders):
            yield f"no network prefers {site.name}: it gets clients only while others are withheld"


def _is_first(site: str, name: SteeredName, order: tuple[str, ...]) -> bool:
    return next((each for each in order if not name.sites or each in name.sites), None) == site
