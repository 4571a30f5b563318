"""A group that requires a probe, with real members: its files have landed, and its users stay away all the same."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.anycastle.members import Members, prepared, until

PROBE = '{ file = "{site}-database", label = "database", interval = "100ms", rise = 1, fall = 2 }'
NAME = "alice.photos.example.com"
WHY = "photos requires database: no such file or directory"


@pytest.fixture
def two() -> Iterator[Members]:
    with prepared("ams", "nyc") as made:
        made.change("probes = [", f"probes = [{PROBE}, ")
        made.change("[groups.photos]\n", '[groups.photos]\nrequires = ["database"]\n')
        made.start_applications()
        for name in made.sites:
            (made.folder / f"{name}-database").touch()
            made.start(name)
        made.ready()
        made.settled()
        yield made


def group(members: Members, site: str, *, told_by: str) -> dict[str, Any]:
    found = members.run("sites", "--json", site=told_by).json["sites"]
    shown: dict[str, Any] = next(each for each in found if each["name"] == site)["groups"]["photos"]
    return shown


def test_a_probe_that_a_group_requires_gates_it_where_it_fails(two: Members) -> None:
    assert two.lookup(NAME, "ams") == ["192.0.2.107"], "ams"
    (two.folder / "ams-database").unlink()
    until(lambda: two.lookup(NAME, "nyc") == ["192.0.2.20"], "the other member sends users to nyc")
    until(lambda: two.lookup(NAME, "ams") == ["192.0.2.20"], "and so does the site itself")
    for told_by in two.sites:
        shown = group(two, "ams", told_by=told_by)
        assert (shown["current"], shown["withheld"], shown["gated"]) == (True, WHY, WHY.removeprefix("photos "))
        assert group(two, "nyc", told_by=told_by)["withheld"] == ""
    ams = next(each for each in two.run("sites", "--json").json["sites"] if each["name"] == "ams")
    assert (ams["health"], ams["withheld"]) == ("up", ""), "other groups have their users"
    assert WHY in two.run("sites").out
    assert WHY in two.run("explain", NAME, site="nyc").out
    (two.folder / "ams-database").touch()
    until(lambda: two.lookup(NAME, "nyc") == ["192.0.2.107"], "ams again")


def test_a_group_that_is_gated_everywhere_still_has_an_answer(two: Members) -> None:
    for name in two.sites:
        (two.folder / f"{name}-database").unlink()
    until(lambda: all(group(two, name, told_by="ams")["gated"] for name in two.sites), "both are gated")
    assert two.lookup(NAME, "ams") == ["192.0.2.107"], "the best of the bad"
