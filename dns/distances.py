"""An operator's own distances: from a country or an autonomous system to sites, in kilometres or what stands for them.

Law: what an operator wrote goes before what is worked out from coordinates. Sites that a line leaves out stand behind
those it names, by their distance from the nearest of them.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from anycastle.dns.closeness import completed
from anycastle.dns.geo import Source
from anycastle.dns.map_file import check_sites, parse_lines
from anycastle.dns.settings import SteeredSite

_COUNTRY = re.compile(r"[A-Z]{2}")
_SYSTEM = re.compile(r"AS([1-9][0-9]{0,9}|0)")
_SYSTEM_MAX = (1 << 32) - 1
"""RFC 6793."""


@dataclass(frozen=True, slots=True)
class Distances:
    """The table, by what a database says of a network."""

    countries: Mapping[str, Source]
    systems: Mapping[int, Source]


def parse_distances(text: str, file: str, sites: Sequence[SteeredSite]) -> Distances:
    """Lines `NL,ams=50 nyc=5900` and `AS64500,sgp=1`; `#` begins a comment. Raises GeoError with all faults."""

    def parse(content: str, where: str) -> tuple[str, Source]:
        subject, comma, rest = content.partition(",")
        subject = subject.strip()
        pairs = [pair.partition("=") for pair in rest.split()]
        if not comma or not pairs:
            raise ValueError(f"found {content!r}; expected a country or AS number, then site=km site=km …")
        system = _SYSTEM.fullmatch(subject)
        if not _COUNTRY.fullmatch(subject) and not (system and int(system[1]) <= _SYSTEM_MAX):
            raise ValueError(f"{subject!r} is neither; expected a country such as NL or an AS number such as AS64500")
        check_sites([site for site, _, _ in pairs], [site.name for site in sites])
        given = tuple(sorted(((site, _kilometres(site, km)) for site, _, km in pairs), key=lambda pair: pair[1]))
        order = completed([site for site, _ in given], sites)
        return subject, Source(order, f"{where} {subject}", None, given, written=True)

    found = parse_lines(text, file, parse)
    return Distances(
        {subject: source for subject, source in found.items() if _COUNTRY.fullmatch(subject)},
        {int(system[1]): source for subject, source in found.items() if (system := _SYSTEM.fullmatch(subject))},
    )


def _kilometres(site: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise ValueError(f"'{site}={text}' has no distance; expected kilometres of 0 or more, as in {site}=50")
    return value
