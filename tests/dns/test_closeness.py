"""Distances and the orders of sites that follow from them."""

import pytest

from anycastle.dns.closeness import by_distance, completed, kilometres
from anycastle.dns.countries import CENTRES
from anycastle.dns.settings import SteeredSite

AMS, NYC, SGP = (52.37, 4.90), (40.71, -74.01), (1.35, 103.82)
SITES = tuple(
    SteeredSite(name=name, addresses=(), coordinates=where)
    for name, where in (("nyc", NYC), ("lab", None), ("sgp", SGP), ("ams", AMS))
)


@pytest.mark.parametrize(
    ("here", "there", "expected"),
    [(AMS, NYC, 5863), (AMS, SGP, 10502), (NYC, SGP, 15342), ((0.0, 179.5), (0.0, -179.5), 111), (AMS, AMS, 0)],
)
def test_great_circle_distances(here: tuple[float, float], there: tuple[float, float], expected: int) -> None:
    assert kilometres(here, there) == pytest.approx(expected, rel=0.005, abs=1)


def test_a_site_without_coordinates_stands_behind() -> None:
    assert by_distance((52.0, 5.0), SITES) == ("ams", "nyc", "sgp", "lab")


def test_unlisted_sites_follow_by_distance_from_the_first_listed() -> None:
    assert completed(("sgp",), SITES) == ("sgp", "ams", "nyc", "lab")
    assert completed(("nyc", "sgp"), SITES) == ("nyc", "sgp", "ams", "lab")
    assert completed(("lab",), SITES) == ("lab", "nyc", "sgp", "ams")


def test_the_table_of_countries_lies_on_the_earth_and_near_the_people() -> None:
    assert len(CENTRES) > 240
    assert all(-90 <= latitude <= 90 and -180 <= longitude <= 180 for latitude, longitude in CENTRES.values())
    for code, capital in {"NL": AMS, "SG": SGP, "DE": (52.5, 13.4), "JP": (35.7, 139.7), "AR": (-34.6, -58.4)}.items():
        assert kilometres(CENTRES[code], capital) < 500
