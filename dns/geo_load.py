"""Reads the operator's maps and the databases into a `Geo`.

Law: all or nothing. Every fault of a text file is found in one pass, with file, line and expectation; a database is
read whole, once, and is closed again, so that it may be replaced at any time. Precedence, the highest first: networks
file, distances of an autonomous system, the city database, the country database, the default.
"""

import ipaddress
from collections.abc import Iterator, Sequence
from pathlib import Path

from anycastle.dns.closeness import Point, by_distance, completed
from anycastle.dns.country_database import DatabaseError, networks_of
from anycastle.dns.distances import Distances, parse_distances
from anycastle.dns.geo import EMBEDDINGS, Geo, Source, Span, build, spanning
from anycastle.dns.geo_record import country_of, point_of, system_of
from anycastle.dns.map_file import GeoError, check_sites, parse_lines, read_text
from anycastle.dns.settings import GeoSettings, Network, SteeredSite

__all__ = ["GeoError", "load_geo", "parse_networks"]


def load_geo(settings: GeoSettings, sites: Sequence[SteeredSite]) -> Geo:
    """Reads all maps. Raises GeoError; blocks: a second or so for each 100,000 networks."""
    faults: list[str] = []
    explicit: list[Span] = []
    distances = Distances({}, {})
    try:
        if settings.networks is not None:
            text = read_text(settings.networks, "a UTF-8 text of lines CIDR,site site …")
            explicit = parse_networks(text, settings.networks.name, sites)
    except GeoError as error:
        faults += error.faults
    try:
        if settings.distances is not None:
            text = read_text(settings.distances, "a UTF-8 text of lines COUNTRY,site=km … or ASnumber,site=km …")
            distances = parse_distances(text, settings.distances.name, sites)
    except GeoError as error:
        faults += error.faults
    faults += _unusable(distances, settings)
    databases = ((settings.asn, _systems), (settings.city, _located), (settings.country, _located))
    # Generators, so that a database of millions of networks is never held as such.
    layers = (_told(spans(file, distances, sites), file) for file, spans in databases if file is not None)
    geo = None
    try:
        geo = build(tuple(site.name for site in sites), explicit, *layers)
    except GeoError as error:
        faults += error.faults
    if faults or geo is None:
        raise GeoError(faults)
    return geo


def _told(spans: Iterator[Span], file: Path) -> Iterator[Span]:
    """The same, with what is wrong with the database as GeoError."""
    try:
        yield from spans
    except (OSError, DatabaseError) as error:
        expected = "expected a country, city or ASN .mmdb file"
        raise GeoError([f"{file}: cannot be read as a MaxMind database: {error}; {expected}"]) from error


def parse_networks(text: str, file: str, sites: Sequence[SteeredSite]) -> list[Span]:
    """Lines `CIDR,site site site`; `#` begins a comment. Raises GeoError with all faults."""

    def parse(content: str, where: str) -> tuple[Network, Source]:
        cidr, comma, order = content.partition(",")
        listed = tuple(order.split())
        if not comma or not listed:
            raise ValueError(f"found {content!r}; expected CIDR,site site …")
        check_sites(listed, [site.name for site in sites])
        network = _parse_network(cidr.strip())
        return network, Source(completed(listed, sites), f"{where} {network}", written=True)

    return [spanning(network, source) for network, source in parse_lines(text, file, parse).items()]


def _unusable(distances: Distances, settings: GeoSettings) -> Iterator[str]:
    """Lines that no database can ever lead to."""
    located = settings.city or settings.country
    if distances.systems and settings.asn is None:
        why = next(iter(distances.systems.values())).why
        yield f"{why}: nothing says which networks that is; expected geo.asn, an ASN database"
    if distances.countries and located is None:
        why = next(iter(distances.countries.values())).why
        yield f"{why}: nothing says which networks that is; expected geo.country or geo.city, a database"


def _parse_network(cidr: str) -> Network:
    try:
        if "%" in cidr:
            raise ValueError("a zone index is of one machine only")
        network = ipaddress.ip_network(cidr, strict=False)
    except ValueError:
        raise ValueError(f"{cidr!r} is no network; expected one such as 192.0.2.0/24 or 2001:db8::/32") from None
    if ipaddress.ip_interface(cidr).ip != network.network_address:
        raise ValueError(f"{cidr} has host bits set; expected {network}")
    if isinstance(network, ipaddress.IPv6Network):
        for embedding in EMBEDDINGS:
            if network.subnet_of(embedding.network):
                raise ValueError(f"{network} lies in {embedding.network}; expected the IPv4 network that it carries")
    return network


def _located(database: Path, distances: Distances, sites: Sequence[SteeredSite]) -> Iterator[Span]:
    """The networks of a database that are somewhere. Each record and each point is worked out once."""
    points: dict[tuple[Point, str], Source] = {}
    known: dict[int, Source | None] = {}
    for version, first, bits, number, record in networks_of(database):
        if number in known:
            source = known[number]
        else:
            country = country_of(record)
            point = point_of(record)
            source = distances.countries.get(country)
            if source is None and point is not None:
                source = points.get((point, country))
                if source is None:
                    why = f"country {country or 'unknown'} via {database.stem}"
                    source = points[point, country] = Source(by_distance(point, sites), why, point)
            known[number] = source
        if source is not None:
            yield version, first, bits, source


def _systems(database: Path, distances: Distances, sites: Sequence[SteeredSite]) -> Iterator[Span]:
    """The networks of those autonomous systems that the operator gave distances for."""
    known: dict[int, Source | None] = {}
    for version, first, bits, number, record in networks_of(database):
        if number in known:
            source = known[number]
        else:
            system = system_of(record)
            source = known[number] = distances.systems.get(system) if system is not None else None
        if source is not None:
            yield version, first, bits, source
