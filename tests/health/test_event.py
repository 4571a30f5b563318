"""Which events a question is about."""

import pytest

from anycastle.health.event import Event, Kind, Wanted


def event(site: str = "nyc", place: str = "", kind: Kind = Kind.CONTENT) -> Event:
    return Event(wall=1.0, kind=kind, site=site, place=place, text="something")


@pytest.mark.parametrize(
    ("place", "asked", "found"),
    [
        ("photos:alice/", "photos:alice/p.jpg", True),
        ("photos:alice/p.jpg", "photos:alice/", True),
        ("photos:alice/p.jpg", "photos:al", True),
        ("photos:", "photos:alice/p.jpg", True),
        ("photos:al", "photos:alice/p.jpg", False),
        ("photos:bob/", "photos:alice/", False),
        ("blogs:", "photos:alice/", False),
        ("", "photos:alice/", False),
        ("photos:alice/", "", True),
        ("", "", True),
    ],
)
def test_a_folder_stands_for_what_is_below_it_and_nothing_else(place: str, asked: str, found: bool) -> None:
    assert Wanted(place=asked).matches(event(place=place)) is found


def test_a_site_narrows() -> None:
    assert Wanted(site="nyc").matches(event())
    assert not Wanted(site="ams").matches(event())
    assert not Wanted(site="ams", place="photos:alice/").matches(event(place="photos:alice/"))


def test_of_a_name_what_moves_its_users_is_wanted_too() -> None:
    name = Wanted(place="photos:alice/", sites_too=True)
    assert name.matches(event(place="photos:"))
    assert name.matches(event(kind=Kind.HEALTH))
    assert name.matches(event(kind=Kind.DRAIN))
    assert not name.matches(event(kind=Kind.ROUTE))
    assert not name.matches(event(place="photos:bob/", kind=Kind.DRAIN))
