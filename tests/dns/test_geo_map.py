"""The whole map, page by page: it covers every address once, and says of each network what a query from it is told."""

import ipaddress
import random
from typing import Any

import pytest

from anycastle.dns.errors import DnsError
from anycastle.dns.geo_map import map_page
from anycastle.dns.settings import Network, NoneEligible, Policy, SteeredName
from anycastle.dns.steer import Steering, decide
from anycastle.health.view import Health, View
from tests.dns.worlds import AMS, NOW, NYC, SGP, site, state, steering, view

NAME = "www.example.com"


def rows_of(steered: Steering, world: View, *, limit: int = 7) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    after: str | None = ""
    while after is not None:
        page = map_page(steered, world, NAME, after, limit, now=NOW)
        assert len(page["networks"]) <= limit
        rows += page["networks"]
        after = page["next"]
    return rows


def network_of(row: dict[str, Any]) -> Network:
    return ipaddress.ip_network(row["network"])


@pytest.mark.parametrize("limit", [1, 7, 5000])
def test_the_pages_cover_every_address_once(limit: int) -> None:
    networks = [network_of(row) for row in rows_of(steering(SteeredName(name=NAME)), view(), limit=limit)]
    for version in (4, 6):
        at = 0
        for network in networks:
            if network.version == version:
                assert int(network.network_address) == at
                at = int(network.broadcast_address) + 1
        assert at == 1 << (32 if version == 4 else 128)


def test_each_network_is_told_what_a_query_from_it_is_told() -> None:
    steered, world = steering(SteeredName(name=NAME)), view(sgp=state(Health.DOWN))
    match = steered.match(tuple(NAME.encode().split(b".")))
    assert match is not None
    draw, rows = random.Random(5), rows_of(steered, world)
    for row in rows:
        network = network_of(row)
        client = network[draw.randrange(network.num_addresses)].packed
        decision = decide(steered, match, client, len(client) * 8, world, now=NOW)
        if row["order"]:
            assert (row["chosen"], row["by_hash"]) == (list(decision.sites), False)
    by_network = {row["network"]: row for row in rows}
    assert by_network["10.3.0.0/16"] == {
        "network": "10.3.0.0/16",
        "order": ["sgp", "nyc", "ams"],
        "chosen": ["nyc"],
        "by_hash": False,
        "why": "networks.csv:1 10.3.0.0/16",
    }
    assert by_network["2002::/16"]["why"] == "by the IPv4 address that begins at bit 16"


def test_where_a_hash_decides_it_says_so() -> None:
    rows = rows_of(steering(SteeredName(name=NAME, policy=Policy.WEIGHTED)), view())
    assert {(row["by_hash"], tuple(row["chosen"])) for row in rows if row["order"]} == {(True, ())}
    loaded = site("ams", 1, soft_load=10.0, hard_load=20.0)
    rows = rows_of(steering(SteeredName(name=NAME), sites=(loaded, NYC, SGP)), view(ams=state(load=15.0)))
    hashed = {row["order"][0]: row["by_hash"] for row in rows if row["order"]}
    assert hashed == {"ams": True, "nyc": False, "sgp": False}


def test_when_no_site_is_eligible_the_names_policy_shows() -> None:
    down = {name: state(Health.DOWN) for name in ("ams", "nyc", "sgp")}
    rows = rows_of(steering(SteeredName(name=NAME, none=NoneEligible.NODATA)), view(**down))
    assert {tuple(row["chosen"]) for row in rows} == {()}


def test_only_the_names_own_sites_are_shown() -> None:
    rows = rows_of(steering(SteeredName(name=NAME, sites=("nyc", "ams")), sites=(AMS, NYC, SGP)), view())
    assert {tuple(sorted(row["order"])) for row in rows if row["order"]} == {("ams", "nyc")}


@pytest.mark.parametrize(
    ("name", "after", "said"),
    [
        ("other.example.com", "", r"other\.example\.com is not steered: expected one of \[\[names\]\], as in www"),
        (NAME, "here", "after is 'here': expected a network, as `next` of the page before says"),
    ],
)
def test_what_makes_no_sense_is_refused(name: str, after: str, said: str) -> None:
    with pytest.raises(DnsError, match=said):
        map_page(steering(SteeredName(name=NAME)), view(), name, after, 10, now=NOW)
