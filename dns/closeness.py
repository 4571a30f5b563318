"""Orders of sites by distance.

Law: every order holds every site once. A site without coordinates stands behind those that have them; what distance
cannot tell apart keeps the order in which the configuration declares the sites.
"""

import math
from collections.abc import Sequence

from anycastle.dns.settings import SteeredSite

EARTH_RADIUS_KILOMETRES = 6371.0
Point = tuple[float, float]
"""Latitude, longitude in degrees."""


def kilometres(here: Point, there: Point) -> float:
    """The great-circle distance (haversine formula)."""
    latitude_1, longitude_1, latitude_2, longitude_2 = map(math.radians, (*here, *there))
    half = (
        math.sin((latitude_2 - latitude_1) / 2) ** 2
        + math.cos(latitude_1) * math.cos(latitude_2) * math.sin((longitude_2 - longitude_1) / 2) ** 2
    )
    return 2 * EARTH_RADIUS_KILOMETRES * math.asin(min(1.0, math.sqrt(half)))


def by_distance(point: Point, sites: Sequence[SteeredSite]) -> tuple[str, ...]:
    """All sites, the nearest to the point first."""
    return tuple(site.name for site in sorted(sites, key=lambda site: _distance(point, site)))


def completed(listed: Sequence[str], sites: Sequence[SteeredSite]) -> tuple[str, ...]:
    """The sites an operator listed for a network, then the others by their distance from the first one listed."""
    first = next(site for site in sites if site.name == listed[0])
    rest = [site for site in sites if site.name not in listed]
    behind = by_distance(first.coordinates, rest) if first.coordinates else tuple(site.name for site in rest)
    return (*listed, *behind)


def _distance(point: Point, site: SteeredSite) -> float:
    return kilometres(point, site.coordinates) if site.coordinates else math.inf
