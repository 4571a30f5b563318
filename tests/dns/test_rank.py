"""Policies, hashing and load shedding, without a view."""

import dataclasses
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anycastle.dns.geo import Place
from anycastle.dns.rank import NO_LOAD, Depends, Load, Ranking, load_of, may_hash, rank
from anycastle.dns.settings import Policy, SteeredName, SteeredSite

PLACE = Place(("sgp", "nyc", "ams", "lab"), "test")
AMS, NYC, SGP = (SteeredSite(name=name, addresses=()) for name in ("ams", "nyc", "sgp"))


def ranked(
    policy: Policy,
    *sites: SteeredSite,
    loads: dict[str, Load] | None = None,
    network: bytes = b"net",
    name: str = "www.example.com",
) -> Ranking:
    rule = SteeredName(name=name, policy=policy)
    every = {site.name: NO_LOAD for site in sites} | (loads or {})
    return rank(rule, sites, every, PLACE, name=name, network=network)


@pytest.mark.parametrize("policy", [Policy.CLOSEST, Policy.FASTEST])
def test_closeness_is_the_order_of_the_place(policy: Policy) -> None:
    assert ranked(policy, AMS, NYC, SGP) == Ranking(("sgp", "nyc", "ams"), Depends.PLACE)
    assert ranked(policy, AMS) == Ranking(("ams",), Depends.NOTHING)


def test_failover_is_the_order_given() -> None:
    assert ranked(Policy.FAILOVER, NYC, SGP, AMS) == Ranking(("nyc", "sgp", "ams"), Depends.NOTHING)


def test_cheapest_asks_for_the_client_only_between_equals() -> None:
    cheap = dataclasses.replace(AMS, cost=0.5)
    assert ranked(Policy.CHEAPEST, cheap, NYC, SGP) == Ranking(("ams", "sgp", "nyc"), Depends.NOTHING)
    assert ranked(Policy.CHEAPEST, AMS, NYC, SGP) == Ranking(("sgp", "nyc", "ams"), Depends.PLACE)


def test_weights_are_shares() -> None:
    sites = [dataclasses.replace(site, weight=weight) for site, weight in ((AMS, 1), (NYC, 3), (SGP, 6))]
    draw = random.Random(7)
    first = Counter(ranked(Policy.WEIGHTED, *sites, network=draw.randbytes(4)).sites[0] for _ in range(6000))
    for site, share in (("ams", 0.1), ("nyc", 0.3), ("sgp", 0.6)):
        assert first[site] / 6000 == pytest.approx(share, abs=0.03)


def test_weight_0_gets_nobody_while_another_stands() -> None:
    idle = dataclasses.replace(AMS, weight=0)
    for network in (b"a", b"b", b"c", b"d"):
        assert ranked(Policy.WEIGHTED, idle, NYC, SGP, network=network).sites[-1] == "ams"
    assert ranked(Policy.WEIGHTED, idle, NYC) == Ranking(("nyc", "ams"), Depends.NOTHING)
    assert ranked(Policy.WEIGHTED, idle) == Ranking(("ams",), Depends.NOTHING)


def test_the_name_spreads_one_client_over_the_sites() -> None:
    firsts = {ranked(Policy.WEIGHTED, AMS, NYC, SGP, name=f"{n}.example.com").sites[0] for n in range(40)}
    assert firsts == {"ams", "nyc", "sgp"}


@given(st.binary(min_size=1, max_size=8), st.lists(st.integers(1, 9), min_size=5, max_size=5), st.integers(0, 4))
def test_a_site_that_vanishes_moves_only_its_own_clients(network: bytes, weights: list[int], gone: int) -> None:
    sites = [SteeredSite(name=f"s{n}", addresses=(), weight=weight) for n, weight in enumerate(weights)]
    before = ranked(Policy.WEIGHTED, *sites, network=network).sites
    after = ranked(Policy.WEIGHTED, *(site for n, site in enumerate(sites) if n != gone), network=network).sites
    assert after == tuple(site for site in before if site != f"s{gone}")


@pytest.mark.parametrize(
    ("soft", "hard", "load", "shed", "full"),
    [
        (800, 1000, 0, 0.0, False),
        (800, 1000, 800, 0.0, False),
        (800, 1000, 900, 0.5, False),
        (800, 1000, 1000, 0.0, True),
        (None, 1000, 999, 0.0, False),
        (None, 1000, 1000, 0.0, True),
        (800, None, 1600, 0.5, False),
        (None, None, 1e9, 0.0, False),
        (1000, 1000, 1000, 0.0, True),
    ],
)
def test_the_share_that_goes_on_grows_between_the_marks(
    soft: float | None, hard: float | None, load: float, shed: float, full: bool
) -> None:
    found = load_of(dataclasses.replace(AMS, soft_load=soft, hard_load=hard), load)
    assert (found.shed, found.full) == (pytest.approx(shed), full)
    assert bool(found.text) == bool(shed or full)


def test_a_full_site_stands_behind_all_others() -> None:
    full = Load(0.0, True, "full")
    assert ranked(Policy.CLOSEST, AMS, NYC, SGP, loads={"sgp": full}).sites == ("nyc", "ams", "sgp")
    # The one left decides for everybody; if all are full, the policy ranks them as if none were.
    assert ranked(Policy.CLOSEST, NYC, SGP, loads={"sgp": full}) == Ranking(("nyc", "sgp"), Depends.NOTHING)
    assert ranked(Policy.CLOSEST, NYC, SGP, loads={"sgp": full, "nyc": full}).sites == ("sgp", "nyc")


def test_a_share_of_the_clients_goes_on_to_the_next() -> None:
    loads = {"sgp": Load(0.3, False, "30 %")}
    draw = random.Random(3)
    rankings = [ranked(Policy.CLOSEST, AMS, NYC, SGP, loads=loads, network=draw.randbytes(4)) for _ in range(4000)]
    firsts = Counter(ranking.sites for ranking in rankings)
    assert firsts[("nyc", "ams", "sgp")] / 4000 == pytest.approx(0.3, abs=0.03)
    assert firsts[("sgp", "nyc", "ams")] / 4000 == pytest.approx(0.7, abs=0.03)
    assert {ranking.depends for ranking in rankings} == {Depends.NETWORK}


def test_who_was_sent_on_by_all_stays_with_the_first() -> None:
    loads = {name: Load(1.0, False, "all") for name in ("ams", "nyc", "sgp")}
    assert ranked(Policy.CLOSEST, AMS, NYC, SGP, loads=loads).sites == ("sgp", "nyc", "ams")


def test_clients_of_a_site_that_sheds_nothing_keep_their_wide_scope() -> None:
    loads = {"ams": Load(0.9, False, "90 %")}
    assert ranked(Policy.CLOSEST, AMS, NYC, SGP, loads=loads).depends is Depends.PLACE


@given(st.lists(st.floats(0, 1), min_size=3, max_size=3), st.binary(max_size=4), st.floats(0, 1))
def test_who_left_a_loaded_site_stays_away_while_its_load_grows(shed: list[float], network: bytes, more: float) -> None:
    loads = {name: Load(share, False, "") for name, share in zip(("sgp", "nyc", "ams"), shed, strict=True)}
    before = ranked(Policy.CLOSEST, AMS, NYC, SGP, loads=loads, network=network).sites
    raised = loads | {"sgp": Load(max(shed[0], more), False, "")}
    after = ranked(Policy.CLOSEST, AMS, NYC, SGP, loads=raised, network=network).sites
    if before[0] != "sgp":
        assert after == before


@given(st.sampled_from(list(Policy)), st.lists(st.floats(0, 0.9), min_size=3, max_size=3), st.binary(max_size=4))
def test_only_what_may_hash_depends_on_the_network(policy: Policy, shed: list[float], network: bytes) -> None:
    loads = {name: Load(share, False, "") for name, share in zip(("sgp", "nyc", "ams"), shed, strict=True)}
    one = ranked(policy, AMS, NYC, SGP, loads=loads, network=network)
    other = ranked(policy, AMS, NYC, SGP, loads=loads, network=b"another")
    assert sorted(one.sites) == ["ams", "nyc", "sgp"]
    if not may_hash(SteeredName(name="x", policy=policy), loads):
        assert one.depends is not Depends.NETWORK
    if one.depends is not Depends.NETWORK:
        assert one == other
