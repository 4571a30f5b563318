"""Names matched, and sites chosen with scope, time to live and every reason."""

import dataclasses
import ipaddress
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anycastle.dns.settings import NoneEligible, Policy, SteeredName
from anycastle.dns.steer import SERVFAIL, Match, Reason, Steering, choose, decide
from anycastle.health.view import ALL_GROUPS, Health, View, withheld
from tests.dns.worlds import AMS, BLOGS, NOW, NYC, SGP, SITES, ask, state, steering, view

WWW = SteeredName(name="www.blogs.example.com", group="blogs", content="www/")
TEAM = SteeredName(name="*.team.blogs.example.com", group="blogs", content="team/{1}/")
ALL_DOWN = {name: state(Health.DOWN) for name in ("ams", "nyc", "sgp")}
TABLE = steering(BLOGS, WWW, TEAM)


def matched(name: str, table: Steering = TABLE) -> Match | None:
    return table.match(tuple(name.encode("latin-1").split(b".")))


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("alice.blogs.example.com", Match(BLOGS, ("alice",), b"alice/")),
        ("a.b.blogs.example.com", Match(BLOGS, ("a.b",), b"a.b/")),
        ("www.blogs.example.com", Match(WWW, (), b"www/")),
        ("x.www.blogs.example.com", Match(BLOGS, ("x.www",), b"x.www/")),
        ("x.team.blogs.example.com", Match(TEAM, ("x",), b"team/x/")),
        ("team.blogs.example.com", Match(BLOGS, ("team",), b"team/")),
        ("blogs.example.com", None),
        ("example.com", None),
        ("alice.blogs.example.org", None),
    ],
)
def test_exact_beats_wildcard_and_the_longest_wildcard_wins(name: str, expected: Match | None) -> None:
    assert matched(name) == expected


@pytest.mark.parametrize("label", [b"..", b".", b"a/b", b"a\0", b"..\\", b"a b", b"\xc3\xa9", b"A", b"a.b", b"{1}"])
def test_a_star_matches_only_plain_labels(label: bytes) -> None:
    behind = (b"blogs", b"example", b"com")
    assert TABLE.match((label, *behind)) is None
    assert TABLE.match((b"x", label, *behind)) is None
    assert TABLE.match((label, b"x", *behind)) is None


@given(st.lists(st.binary(min_size=1, max_size=6), max_size=4))
def test_no_name_reaches_outside_its_folder(labels: list[bytes]) -> None:
    match = TABLE.match((*labels, b"blogs", b"example", b"com"))
    if match is not None and match.rule is BLOGS:
        folder, slash, rest = match.prefix.partition(b"/")
        assert (slash, rest) == (b"/", b"")
        assert folder not in (b"", b".", b"..")
        assert b"\0" not in folder


def test_a_name_without_content_stands_for_the_whole_group() -> None:
    whole = SteeredName(name="shop.example.com", group="blogs")
    assert matched("shop.example.com", steering(whole)) == Match(whole, (), b"")


def test_it_may_be_pickled() -> None:
    assert pickle.loads(pickle.dumps(TABLE)) == TABLE


# --- choice -----------------------------------------------------------------------------------------------------------


def test_the_closest_eligible_site_and_both_its_families() -> None:
    decision = ask(BLOGS, view())
    assert decision.sites == ("sgp",)
    assert decision.addresses == SGP.addresses
    assert (decision.scope_bits, decision.ttl, decision.rcode, decision.none_used) == (16, 60, 0, None)
    assert decision.reasons == (
        Reason("sgp", True, 1, "by closeness (networks.csv:1 10.3.0.0/16)"),
        Reason("nyc", True, 2, "by closeness (networks.csv:1 10.3.0.0/16)"),
        Reason("ams", True, 3, "by closeness (networks.csv:1 10.3.0.0/16)"),
    )


def test_a_site_where_the_content_has_not_landed_is_passed_over_for_that_name_only() -> None:
    world = view(sgp=state(pending={b"alice/": NOW - 1}))
    decision = ask(BLOGS, world)
    assert decision.sites == ("nyc",)
    assert decision.reasons[-1] == Reason(
        "sgp", False, None, "blogs:alice/ has a change that has not landed there for 1.0 s"
    )
    assert ask(BLOGS, world, name="bob.blogs.example.com").sites == ("sgp",)


def test_a_change_to_the_whole_group_withholds_every_name() -> None:
    assert ask(BLOGS, view(sgp=state(pending={b"": NOW - 1}))).sites == ("nyc",)


def test_the_last_eligible_site_is_everybodys() -> None:
    decision = ask(BLOGS, view(sgp=state(Health.DOWN), nyc=state(Health.DOWN)))
    assert (decision.sites, decision.scope_bits) == (("ams",), 0)


def test_a_name_may_be_kept_to_some_sites() -> None:
    rule = dataclasses.replace(BLOGS, sites=("nyc", "ams"), policy=Policy.FAILOVER)
    decision = ask(rule, view())
    assert (decision.sites, decision.scope_bits) == (("nyc",), 0)
    assert [reason.site for reason in decision.reasons] == ["nyc", "ams"]
    assert ask(rule, view(nyc=state(Health.DOWN))).sites == ("ams",)


def test_of_a_client_that_is_not_known_nothing_is_told() -> None:
    for policy in Policy:
        decision = ask(dataclasses.replace(BLOGS, policy=policy), view(), client="0.0.0.0", source_bits=0)
        assert decision.scope_bits == 0
    assert ask(BLOGS, view(), source_bits=0).sites == ("ams",)


def test_fastest_says_that_nothing_is_measured() -> None:
    decision = ask(dataclasses.replace(BLOGS, policy=Policy.FASTEST), view())
    assert decision.sites == ("sgp",)
    assert "nothing is measured" in decision.reasons[0].text


def test_cheapest_says_the_cost() -> None:
    sites = (dataclasses.replace(AMS, cost=0.5), NYC, SGP)
    decision = ask(dataclasses.replace(BLOGS, policy=Policy.CHEAPEST), view(), sites=sites)
    assert (decision.sites, decision.scope_bits) == (("ams",), 0)
    assert decision.reasons[0].text.startswith("by cost 0.5, then closeness")


def test_weighted_hashes_the_network_so_neighbours_go_together() -> None:
    rule = dataclasses.replace(BLOGS, policy=Policy.WEIGHTED)
    decisions = [ask(rule, view(), client=f"198.51.100.{n}") for n in (1, 77, 255)]
    assert len({decision.sites for decision in decisions}) == 1
    assert {decision.scope_bits for decision in decisions} == {24}
    assert decisions[0].reasons[0].text == "by weight 1 of 3 and a hash of the client's network"
    assert {ask(rule, view(), client=f"198.51.{n}.1").sites for n in range(40)} == {("ams",), ("nyc",), ("sgp",)}
    assert ask(rule, view(), client="2001:db8::1").scope_bits == 48


def test_a_loaded_site_sheds_and_says_so() -> None:
    sites = (AMS, NYC, dataclasses.replace(SGP, soft_load=800, hard_load=1000))
    full = ask(BLOGS, view(sgp=state(load=1200)), sites=sites)
    assert (full.sites, full.scope_bits, full.ttl) == (("nyc",), 16, 5)
    assert full.reasons[-1].rank == 3
    assert full.reasons[-1].text.endswith("load 1200/s is at or above the hard mark of 1000/s: behind all others")
    half = [ask(BLOGS, view(sgp=state(load=900)), client=f"10.3.{n}.1", sites=sites) for n in range(100)]
    assert {decision.scope_bits for decision in half} == {24}
    assert 30 <= sum(decision.sites == ("sgp",) for decision in half) <= 70
    # Clients of another site are as before.
    assert ask(BLOGS, view(sgp=state(load=900)), client="10.2.0.1", sites=sites).scope_bits == 16


# --- none eligible ----------------------------------------------------------------------------------------------------


def none_eligible(policy: NoneEligible, world: View, **facts: object) -> tuple[SteeredName, View]:
    return dataclasses.replace(BLOGS, none=policy, **facts), world  # type: ignore[arg-type]


def test_none_closest_gives_the_best_of_the_bad() -> None:
    decision = ask(*none_eligible(NoneEligible.CLOSEST, view(**ALL_DOWN)))
    assert (decision.sites, decision.scope_bits, decision.none_used) == (("sgp",), 16, NoneEligible.CLOSEST)
    assert decision.reasons[0] == Reason(
        "sgp",
        False,
        1,
        'down: probes for 9000 s; given all the same, as no site is eligible and the name says none = "closest"',
    )
    pending = ALL_DOWN | {"ams": state(pending={b"alice/": NOW - 9})}
    better = ask(*none_eligible(NoneEligible.CLOSEST, view(**pending)))
    assert (better.sites, better.scope_bits) == (("ams",), 0)


def test_none_all_gives_every_address() -> None:
    decision = ask(*none_eligible(NoneEligible.ALL, view(**ALL_DOWN)))
    assert decision.sites == ("ams", "nyc", "sgp")
    assert decision.addresses == AMS.addresses + NYC.addresses + SGP.addresses
    assert (decision.scope_bits, decision.none_used) == (0, NoneEligible.ALL)


@pytest.mark.parametrize(("policy", "rcode"), [(NoneEligible.NODATA, 0), (NoneEligible.SERVFAIL, SERVFAIL)])
def test_none_nodata_and_servfail_give_nothing(policy: NoneEligible, rcode: int) -> None:
    decision = ask(*none_eligible(policy, view(**ALL_DOWN)))
    assert (decision.sites, decision.addresses, decision.rcode) == ((), (), rcode)
    assert (decision.scope_bits, decision.none_used, decision.ttl) == (0, policy, 5)
    assert [(reason.eligible, reason.rank) for reason in decision.reasons] == [(False, None)] * 3


def test_none_fallback_gives_the_address_of_last_resort() -> None:
    sorry = (ipaddress.ip_address("203.0.113.9"),)
    decision = ask(*none_eligible(NoneEligible.FALLBACK, view(**ALL_DOWN), fallback=sorry))
    assert (decision.sites, decision.addresses, decision.scope_bits) == ((), sorry, 0)


def test_one_eligible_site_is_enough_for_the_policy_to_stay_out() -> None:
    for policy in NoneEligible:
        decision = ask(*none_eligible(policy, view(**(ALL_DOWN | {"nyc": state()}))))
        assert (decision.sites, decision.none_used) == (("nyc",), None)


# --- isolation --------------------------------------------------------------------------------------------------------


def test_an_isolated_member_sends_users_to_whom_it_last_knew_well() -> None:
    decision = ask(BLOGS, view(isolated=True, ams=state(current=False)), client="192.0.2.77")
    assert decision.sites == ("nyc",)
    assert decision.reasons[0].text.endswith("as last known before all members were lost")
    assert decision.reasons[-1] == Reason("ams", False, None, "not current for blogs: 1 of 3 leases")
    assert decision.ttl == 5


# --- properties -------------------------------------------------------------------------------------------------------

STATES = st.builds(
    state,
    st.sampled_from(Health),
    since=st.sampled_from([NOW - 5, NOW - 5000]),
    current=st.booleans(),
    pending=st.dictionaries(
        st.sampled_from([b"", b"alice/", b"bob/"]), st.sampled_from([NOW - 9, NOW - 1]), max_size=2
    ),
    drained=st.sampled_from([frozenset(), frozenset({ALL_GROUPS}), frozenset({"blogs"})]),
    load=st.sampled_from([0.0, 90.0, 120.0]),
)
WORLDS = st.builds(
    lambda sites, isolated: view(isolated, **sites),
    st.fixed_dictionaries({}, optional={"ams": STATES, "nyc": STATES, "sgp": STATES}),
    st.booleans(),
)
RULES = st.builds(
    lambda **facts: dataclasses.replace(BLOGS, fallback=AMS.addresses, **facts),
    policy=st.sampled_from(Policy),
    none=st.sampled_from(NoneEligible),
    grace_seconds=st.sampled_from([0.0, 5.0]),
    sites=st.sampled_from([(), ("nyc", "sgp"), ("sgp",)]),
)
CLIENTS = st.one_of(
    st.sampled_from([f"10.{second}.{third}.1" for second in (1, 2, 3, 4) for third in (0, 128)]).map(
        lambda text: ipaddress.ip_address(text).packed
    ),
    st.binary(min_size=4, max_size=4),
    st.binary(min_size=16, max_size=16),
)
LOADED = tuple(dataclasses.replace(site, soft_load=80, hard_load=100, weight=n) for n, site in enumerate(SITES))


@given(RULES, WORLDS, CLIENTS)
def test_only_eligible_sites_are_chosen_and_every_candidate_has_a_reason(
    rule: SteeredName, world: View, client: bytes
) -> None:
    table = steering(rule, sites=LOADED)
    match = table.match((b"alice", b"blogs", b"example", b"com"))
    assert match is not None
    decision = decide(table, match, client, len(client) * 8, world, now=NOW)
    candidates = rule.sites or ("ams", "nyc", "sgp")
    assert sorted(reason.site for reason in decision.reasons) == sorted(candidates)
    assert all(reason.text for reason in decision.reasons)
    eligible = {reason.site for reason in decision.reasons if reason.eligible}
    bad = {
        site
        for site in candidates
        if withheld(world, site, "blogs", b"alice/", grace_seconds=rule.grace_seconds, now=NOW)
    }
    assert eligible == set(candidates) - bad
    assert (decision.none_used is None) == bool(eligible)
    assert set(decision.sites) <= (eligible or set(candidates))
    assert len(decision.sites) == 1 or not eligible
    assert decision.ttl in (rule.ttl_min_seconds, rule.ttl_max_seconds)


@given(RULES, WORLDS, CLIENTS, st.binary(min_size=16, max_size=16))
def test_whoever_shares_the_scope_gets_the_same_answer(
    rule: SteeredName, world: View, client: bytes, noise: bytes
) -> None:
    table = steering(rule, sites=LOADED)
    match = table.match((b"alice", b"blogs", b"example", b"com"))
    assert match is not None
    width = len(client) * 8
    one = decide(table, match, client, width, world, now=NOW)
    free = width - one.scope_bits
    inside = int.from_bytes(client) >> free << free | int.from_bytes(noise) & ((1 << free) - 1)
    other = decide(table, match, inside.to_bytes(len(client)), width, world, now=NOW)
    assert (other.sites, other.addresses, other.scope_bits, other.ttl) == (
        one.sites,
        one.addresses,
        one.scope_bits,
        one.ttl,
    )


def test_choose_needs_no_view_of_its_own() -> None:
    """`decide` is `stand` and `choose`, so that a caller may keep what stands for several clients."""
    from anycastle.dns.standing import stand

    match = matched("alice.blogs.example.com")
    assert match is not None
    standing = stand(match.rule, match.prefix, TABLE.candidates(match.rule), view(), now=NOW)
    client = ipaddress.ip_address("10.3.0.1").packed
    assert choose(TABLE, match, standing, client, 32) == decide(TABLE, match, client, 32, view(), now=NOW)
