"""What one record of a MaxMind-format database says: MaxMind's own layout, and the flat one of other publishers.

Law: a record may hold anything; what is not as expected says nothing.
"""

from typing import Any

from anycastle.dns.closeness import Point
from anycastle.dns.countries import CENTRES


def country_of(record: Any) -> str:
    """The country's code in ISO 3166-1, two letters; empty when it does not say."""
    if not isinstance(record, dict):
        return ""
    for key in ("country", "registered_country"):
        country = record.get(key)
        code = country.get("iso_code") if isinstance(country, dict) else country
        if isinstance(code, str) and len(code) == 2:
            return code
    code = record.get("country_code")
    return code if isinstance(code, str) and len(code) == 2 else ""


def point_of(record: Any) -> Point | None:
    """Coordinates if the record has them, else the centre of its country; None when it says neither."""
    if not isinstance(record, dict):
        return None
    location = record.get("location")
    for where in (location, record):
        if isinstance(where, dict):
            latitude, longitude = where.get("latitude"), where.get("longitude")
            if isinstance(latitude, float | int) and isinstance(longitude, float | int):
                return float(latitude), float(longitude)
    return CENTRES.get(country_of(record))


def system_of(record: Any) -> int | None:
    """The autonomous system's number."""
    if not isinstance(record, dict):
        return None
    number = record.get("autonomous_system_number", record.get("asn"))
    if isinstance(number, str) and number.removeprefix("AS").isdecimal():
        return int(number.removeprefix("AS"))
    return number if isinstance(number, int) else None
