"""The snapshot: arranged, bounded, plain."""

import msgspec
import pytest

from anycastle.health.event import Event, Kind
from anycastle.health.report import CONFLICTS_MAX, DECISIONS_MAX, FLIGHTS_MAX, PENDING_MAX, PROBES_MAX, report
from anycastle.health.view import Health
from tests.health.picture import NOW, WALL, conflict, facts, flight, site, view


def test_a_site_says_why_and_since_when() -> None:
    down = site(Health.DOWN, "2 of 3 observers: silence", since=990.0, load=12.5)
    shown = report(view(nyc=down), facts(), now=NOW)
    nyc = next(each for each in shown.sites if each.name == "nyc")
    assert (nyc.health, nyc.reason, nyc.since_seconds) == ("down", "2 of 3 observers: silence", 10.0)
    assert nyc.withheld == "down: 2 of 3 observers: silence for 10 s"
    assert nyc.coordinates == (40.71, -74.0)
    assert nyc.load == 12.5
    assert shown.uptime_seconds == 100.0


@pytest.mark.parametrize(
    ("state", "current", "withheld", "pending", "lag"),
    [
        (site(), True, "", (), 0.0),
        (site(pending={b"alice/": 998.0, b"bob/": 990.0}), True, "", ("bob/", "alice/"), 10.0),
        (site(pending={b"": 999.0, b"\xff/": 998.5}), True, "", ("\\xff/", "(whole group)"), 1.5),
        (site(current=False), False, "not current for blogs: 1 of 2 leases needed: nyc, sgp silent", (), 0.0),
        (site(drained=frozenset({"blogs"})), True, "drained by an operator", (), 0.0),
        (site(gated="requires database: it lags"), True, "blogs requires database: it lags", (), 0.0),
    ],
)
def test_a_group_at_a_site(state: object, current: bool, withheld: str, pending: tuple[str, ...], lag: float) -> None:
    shown = report(view(ams=state), facts(), now=NOW)  # type: ignore[arg-type]
    group = shown.sites[0].groups["blogs"]
    assert (group.current, group.withheld, group.pending, group.lag_seconds) == (current, withheld, pending, lag)
    assert group.pending_total == len(pending)


def test_every_list_is_bounded_and_says_how_many_there_were() -> None:
    pending = {b"u%d/" % number: float(number) for number in range(PENDING_MAX + 5)}
    flights = [flight(float(number), seq=number) for number in range(FLIGHTS_MAX + 5)]
    conflicts = [conflict(WALL + number) for number in range(CONFLICTS_MAX + 5)]
    decisions = [Event(wall=WALL + number, kind=Kind.HEALTH, text=str(number)) for number in range(DECISIONS_MAX + 5)]
    probes = facts().probes[:1] * (PROBES_MAX + 5)
    found = facts(flights=flights, conflicts=conflicts, decisions=decisions, probes=probes)
    shown = report(view(ams=site(pending=pending)), found, now=NOW)
    group = shown.sites[0].groups["blogs"]
    assert (len(group.pending), group.pending_total, group.pending[0]) == (PENDING_MAX, PENDING_MAX + 5, "u0/")
    assert (len(shown.flights), shown.flights_total) == (FLIGHTS_MAX, FLIGHTS_MAX + 5)
    assert shown.flights[0].age_seconds == FLIGHTS_MAX + 4
    assert (len(shown.conflicts), shown.conflicts_total) == (CONFLICTS_MAX, CONFLICTS_MAX + 5)
    assert shown.conflicts[0].wall == WALL + CONFLICTS_MAX + 4
    assert (len(shown.probes), shown.probes_total) == (PROBES_MAX, PROBES_MAX + 5)
    assert (len(shown.decisions), shown.decisions[0].text) == (DECISIONS_MAX, str(DECISIONS_MAX + 4))


def test_a_total_may_be_known_without_the_list() -> None:
    assert report(view(), facts(flights_total=1_000_000), now=NOW).flights_total == 1_000_000


def test_it_survives_json() -> None:
    shown = report(view(ams=site(pending={b"\xff": 1.0})), facts(), now=NOW)
    assert msgspec.json.decode(msgspec.json.encode(shown), type=type(shown)) == shown
