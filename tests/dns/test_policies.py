"""Every policy with every choice for "no site is eligible", as one table; and how load moves clients, as a property."""

import dataclasses
import ipaddress

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from anycastle.dns.rank import load_of, rank
from anycastle.dns.settings import NoneEligible, Policy, SteeredName
from anycastle.dns.steer import NOERROR, SERVFAIL
from anycastle.health.view import Health
from tests.dns.worlds import AMS, GEO, NYC, SGP, ask, site, state, view

NAME = "www.example.com"
LAST_RESORT = (ipaddress.ip_address("198.51.100.99"),)
CLIENT = "10.2.0.1"  # nyc ams sgp, says the map
PRICED = (
    dataclasses.replace(AMS, cost=3.0, weight=0),
    dataclasses.replace(NYC, cost=2.0, weight=0),
    dataclasses.replace(SGP, cost=1.0, weight=1),
)
FIRST = {
    Policy.CLOSEST: "nyc",
    Policy.FASTEST: "nyc",
    Policy.CHEAPEST: "sgp",
    Policy.FAILOVER: "ams",
    Policy.WEIGHTED: "sgp",
}
# What each says when all are down: sites given, response code. Whatever the policy, the closest of the worst is nyc.
NOBODY = {
    NoneEligible.CLOSEST: (("nyc",), NOERROR),
    NoneEligible.ALL: (("ams", "nyc", "sgp"), NOERROR),
    NoneEligible.NODATA: ((), NOERROR),
    NoneEligible.SERVFAIL: ((), SERVFAIL),
    NoneEligible.FALLBACK: ((), NOERROR),
}


@pytest.mark.parametrize("policy", Policy)
@pytest.mark.parametrize("none", NoneEligible)
def test_the_table_of_policies(policy: Policy, none: NoneEligible) -> None:
    rule = SteeredName(name=NAME, policy=policy, none=none, fallback=LAST_RESORT)
    well = ask(rule, view(), CLIENT, name=NAME, sites=PRICED)
    assert (well.sites, well.none_used, well.rcode) == ((FIRST[policy],), None, NOERROR)
    down = {name: state(Health.DOWN) for name in ("ams", "nyc", "sgp")}
    bad = ask(rule, view(**down), CLIENT, name=NAME, sites=PRICED)
    assert (bad.sites, bad.rcode, bad.none_used) == (*NOBODY[none], none)
    by_name = {site.name: site.addresses for site in PRICED}
    given = tuple(address for name in bad.sites for address in by_name[name])
    assert bad.addresses == (LAST_RESORT if none is NoneEligible.FALLBACK else given)
    # One site that is back is everybody's: the policy for nobody stays out.
    back = ask(rule, view(**down | {"ams": state()}), CLIENT, name=NAME, sites=PRICED)
    assert (back.sites, back.none_used) == (("ams",), None)


def first_of(load: float, network: bytes, policy: Policy = Policy.FAILOVER) -> str:
    """Where a client goes when ams, the first of all, is at this load; its marks are 100 and 200 requests/s."""
    loaded = site("ams", 1, soft_load=100.0, hard_load=200.0)
    sites = (loaded, NYC, SGP)
    loads = {each.name: load_of(each, load if each is loaded else 0.0) for each in sites}
    rule = SteeredName(name=NAME, policy=policy)
    return rank(rule, sites, loads, GEO.places[0], name=NAME, network=network).sites[0]


CLIENTS = [bytes((24, 10, number >> 8, number & 0xFF, 0)) for number in range(2000)]


@pytest.mark.parametrize("policy", [Policy.FAILOVER, Policy.CLOSEST, Policy.CHEAPEST])
@hypothesis_settings(max_examples=25)
@given(load=st.floats(0, 300))
def test_between_the_marks_the_share_moved_on_is_proportional(policy: Policy, load: float) -> None:
    moved = sum(first_of(load, client, policy) != "ams" for client in CLIENTS) / len(CLIENTS)
    assert moved == pytest.approx(min(max((load - 100) / 100, 0), 1), abs=0.05)
    if load <= 100:
        assert moved == 0
    if load >= 200:
        assert moved == 1


@given(network=st.binary(min_size=1, max_size=8), loads=st.lists(st.floats(0, 300), min_size=2, max_size=6))
def test_each_client_moves_once_as_load_grows_and_stays_while_it_does_not(network: bytes, loads: list[float]) -> None:
    """Stable: the same load gives the same site, and a greater one brings nobody back who had gone on."""
    went = [first_of(load, network) for load in sorted(loads)]
    assert went == sorted(went, key=lambda chosen: chosen != "ams")
    assert went == [first_of(load, network) for load in sorted(loads)]
    assert set(went) <= {"ams", "nyc"}
