"""Metrics follow the naming rule, and Prometheus' own parser reads them."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from anycastle.health.metrics import NAME, PARTS, Exporter, samples
from anycastle.health.report import Snapshot, report
from anycastle.health.view import Health
from tests.health.picture import NOW, facts, site, view


def snapshot(**counters: dict[str, int]) -> Snapshot:
    given = facts(counters=counters) if counters else facts()
    return report(view(sgp=site(Health.DOWN, pending={b"alice/": 990.0})), given, now=NOW)


def read(text: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(text.decode())
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def test_every_name_follows_the_rule() -> None:
    names = [sample.name for family in samples(snapshot()) for sample in family.samples]
    assert len(set(names)) > 15
    assert [name for name in names if not NAME.fullmatch(name)] == []


def test_every_family_says_what_it_is() -> None:
    assert all(family.documentation.endswith(".") for family in samples(snapshot()))


@pytest.mark.parametrize(
    ("name", "labels", "value"),
    [
        ("anycastle_health_site_state_bool", {"site": "sgp", "state": "down"}, 1.0),
        ("anycastle_health_site_state_bool", {"site": "sgp", "state": "up"}, 0.0),
        ("anycastle_replicator_lag_seconds", {"site": "sgp", "group": "blogs"}, 10.0),
        ("anycastle_replicator_landed_entries", {"group": "blogs", "origin": "ams", "site": "nyc"}, 119.0),
        ("anycastle_replicator_gap_entries", {"group": "blogs", "origin": "ams", "site": "nyc"}, 4.0),
        ("anycastle_replicator_link_up_bool", {"peer": "sgp"}, 0.0),
        ("anycastle_replicator_in_flight_entries", {}, 1.0),
        ("anycastle_bgp_announced_routes", {"peer": "192.0.2.254"}, 1.0),
        ("anycastle_dns_queries_total", {}, 12.0),
        ("anycastle_dns_zone_serial", {"zone": "example.com"}, 2024010101.0),
        ("anycastle_dns_zone_records", {"zone": "example.com"}, 7.0),
        ("anycastle_edge_requests_total", {}, 3.0),
    ],
)
def test_values(name: str, labels: dict[str, str], value: float) -> None:
    found = read(Exporter(snapshot).text())
    assert found[name, tuple(sorted(labels.items()))] == value


def test_a_scrape_reads_the_state_of_that_moment() -> None:
    counted = {"queries": 1}
    exporter = Exporter(lambda: snapshot(dns=counted))
    assert read(exporter.text())["anycastle_dns_queries_total", ()] == 1.0
    counted["queries"] = 5
    assert read(exporter.text())["anycastle_dns_queries_total", ()] == 5.0


def test_a_word_that_fits_no_name_costs_only_itself() -> None:
    found = read(Exporter(lambda: snapshot(dns={"bad-word": 1, "good": 2}, kitchen={"eggs": 3})).text())
    assert found["anycastle_dns_good_total", ()] == 2.0
    assert not any("bad" in name or "eggs" in name for name, _ in found)
    assert "kitchen" not in PARTS
