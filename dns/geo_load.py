"""Reads the operator's networks file and the country database into a `Geo`.

Law: all or nothing. Every fault of the networks file is found in one pass, with file, line and expectation; a database
is read whole, once, and is closed again, so that it may be replaced at any time.
"""

import ipaddress
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from anycastle.dns.closeness import Point, by_distance, completed
from anycastle.dns.countries import CENTRES
from anycastle.dns.country_database import DatabaseError, networks_of
from anycastle.dns.errors import DnsError
from anycastle.dns.geo import EMBEDDINGS, Geo, Mapped, build
from anycastle.dns.settings import GeoSettings, Network, SteeredSite

NETWORKS_BYTES_MAX = 64 << 20
"""About two million lines: far more than anybody writes, and still read in seconds."""
FAULTS_MAX = 1000
"""Reading stops there: such a file is not a networks file at all."""


class GeoError(DnsError):
    """A map that cannot be used; `faults` has one line for each thing wrong with it."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        more = len(faults) - 1
        super().__init__(faults[0] + (f" (and {more} more)" if more else ""))


def load_geo(settings: GeoSettings, sites: Sequence[SteeredSite]) -> Geo:
    """Reads both maps. Raises GeoError; blocks: a second or so for each 100,000 networks."""
    default = tuple(site.name for site in sites)
    explicit: list[Mapped] = []
    if settings.networks is not None:
        explicit = parse_networks(_read(settings.networks), settings.networks.name, sites)
    if settings.country is None:
        return build(default, explicit, ())
    try:
        return build(default, explicit, _located(settings.country, sites))
    except (OSError, DatabaseError) as error:
        fault = (
            f"{settings.country}: cannot be read as a MaxMind database: {error}; expected a country or city .mmdb file"
        )
        raise GeoError([fault]) from error


def parse_networks(text: str, file: str, sites: Sequence[SteeredSite]) -> list[Mapped]:
    """Lines `CIDR,site site site`; `#` begins a comment. Raises GeoError with all faults."""
    found: dict[Network, tuple[int, Mapped]] = {}
    faults: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        content = line.partition("#")[0].strip()
        if not content:
            continue
        try:
            network, listed = _parse_line(content, sites)
            if network in found:
                raise ValueError(f"{network} stands in line {found[network][0]} already; expected each network once")
        except ValueError as error:
            faults.append(f"{file}:{number}: {error}")
            if len(faults) == FAULTS_MAX:
                break
            continue
        found[network] = (number, Mapped(network, completed(listed, sites), f"{file}:{number} {network}"))
    if faults:
        raise GeoError(faults)
    return [mapped for _, mapped in found.values()]


def _parse_line(content: str, sites: Sequence[SteeredSite]) -> tuple[Network, tuple[str, ...]]:
    """Raises ValueError that says what is wrong and what was expected."""
    cidr, comma, order = content.partition(",")
    listed = tuple(order.split())
    if not comma or not listed:
        raise ValueError(f"found {content!r}; expected CIDR,site site …")
    names = [site.name for site in sites]
    for name in listed:
        if name not in names:
            raise ValueError(f"{name!r} is no site; expected some of: {' '.join(names)}")
    if len(set(listed)) < len(listed):
        raise ValueError(f"{order.strip()!r} names a site twice; expected each at most once")
    return _parse_network(cidr.strip()), listed


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


def _located(database: Path, sites: Sequence[SteeredSite]) -> Iterator[Mapped]:
    """The networks of a database that are somewhere. Each record and each point is worked out once."""
    orders: dict[Point, tuple[str, ...]] = {}
    known: dict[int, tuple[tuple[str, ...], str] | None] = {}
    for network, number, record in networks_of(database):
        if number not in known:
            where = _where(record)
            if where is None:
                known[number] = None
            else:
                point, country = where
                order = orders.setdefault(point, by_distance(point, sites))
                known[number] = order, f"country {country} via {database.stem}"
        found = known[number]
        if found is not None:
            yield Mapped(network, *found)


def _where(record: Any) -> tuple[Point, str] | None:
    """Coordinates if the record has them, else the centre of its country; None when it says neither."""
    if not isinstance(record, dict):
        return None
    country = record.get("country") or record.get("registered_country")
    code = country.get("iso_code") if isinstance(country, dict) else None
    location = record.get("location")
    if isinstance(location, dict):
        latitude, longitude = location.get("latitude"), location.get("longitude")
        if isinstance(latitude, float | int) and isinstance(longitude, float | int):
            return (float(latitude), float(longitude)), str(code or "unknown")
    if isinstance(code, str) and code in CENTRES:
        return CENTRES[code], code
    return None


def _read(file: Path) -> str:
    try:
        _check_size(file, NETWORKS_BYTES_MAX)
        return file.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise GeoError([f"{file}: cannot be read: {error}; expected a UTF-8 text of lines CIDR,site site …"]) from error


def _check_size(file: Path, bytes_max: int) -> None:
    size = file.stat().st_size
    if size > bytes_max:
        raise ValueError(f"it has {size} bytes, more than the limit of {bytes_max}")
