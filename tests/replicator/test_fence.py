"""Leases and fences: the rules one by one, and against plain counting."""

import math

from hypothesis import given
from hypothesis import strategies as st

from anycastle.replicator.fence import (
    ACKS_MAX,
    EVERYBODY,
    HELD_MAX,
    Acks,
    Grants,
    Leases,
    covers,
    fence_reach,
    lease_ends,
    majority,
    obstacle,
    rosters_compatible,
    stretched,
)
from anycastle.replicator.settings import Lease

ABC = frozenset("abc")
LEASE = Lease(term_seconds=3.0, drift=0.02)


def leases(rosters: tuple[frozenset[str], ...] = (ABC,)) -> Leases:
    return Leases(member="a", rosters=rosters, lease=LEASE, incarnation=7)


def grant(to: Leases, grantor: str, **changes: object) -> str:
    said = {"sent": 10.0, "incarnation": 7, "term_seconds": 3.0, "recorded": {"g": {}}, "now": 10.1}
    return to.accept(grantor, **{**said, **changes})  # type: ignore[arg-type]


def test_a_lease_counts_from_sending_and_ends_early_by_the_drift() -> None:
    held = leases()
    assert grant(held, "b") == ""
    assert held.until("g", {}, now=10.1) == 10.0 + 3.0 * 0.98
    assert held.reason("g", {}, now=12.9) == ""
    assert held.reason("g", {}, now=12.94) == "1 of 2 votes needed: b gave no lease; c gave no lease"


def test_the_shorter_term_counts() -> None:
    held = leases()
    grant(held, "b", term_seconds=1.0)
    assert held.until("g", {}, now=10.1) == 10.98
    grant(held, "b", term_seconds=100.0)
    assert held.until("g", {}, now=10.1) == 12.94


def test_a_lease_is_for_this_incarnation_and_was_asked_for() -> None:
    held = leases()
    assert grant(held, "b", incarnation=6) == "lease of another incarnation"
    assert grant(held, "b", sent=10.2) == "lease that was not asked for"
    assert grant(held, "b", sent=math.nan) == "lease that was not asked for"
    assert grant(held, "b", sent=5.0) == "lease that is over"
    assert grant(held, "b", term_seconds=0.0) == "lease that is over"
    assert held.until("g", {}, now=10.1) == -math.inf


def test_a_lease_binds_to_what_the_grantor_had_recorded_group_by_group() -> None:
    held = leases()
    grant(held, "b", recorded={"g": {"c": 5}, "h": {}})
    assert held.reason("g", {"c": 4}, now=10.2) == "1 of 2 votes needed: b knows more: c 4 of 5; c gave no lease"
    assert held.reason("g", {"c": 5}, now=10.2) == ""
    assert held.reason("h", {}, now=10.2) == ""
    assert "b does not know the group" in held.reason("i", {}, now=10.2)
    assert "lost or rolled back" in (grant(held, "c", recorded={"g": {"a": 9}}) or held.reason("g", {}, now=10.2))


def test_any_of_several_leases_counts() -> None:
    held = leases()
    grant(held, "b", sent=9.0)
    grant(held, "b", sent=10.0, recorded={"g": {"c": 5}})
    assert held.until("g", {}, now=10.1) == 11.94
    assert held.until("g", {"c": 5}, now=10.1) == 12.94


def test_a_clock_that_jumped_takes_all_leases_and_those_under_way() -> None:
    held = leases()
    grant(held, "b")
    held.drop(now=10.2)
    assert held.until("g", {}, now=10.2) == -math.inf
    assert grant(held, "b", sent=10.19, now=10.3) == "lease that was not asked for"
    assert grant(held, "b", sent=10.2, now=10.3) == ""


def test_currency_needs_both_rosters() -> None:
    held = leases((ABC, frozenset("ade")))
    grant(held, "b")
    assert held.reason("g", {}, now=10.1).startswith("1 of 2 votes needed: c gave no lease; d gave no lease")
    grant(held, "d", sent=9.0)
    assert held.until("g", {}, now=10.1) == 11.94


def test_a_roster_of_one_is_always_current() -> None:
    assert Leases(member="a", rosters=(frozenset("a"),), lease=LEASE, incarnation=1).until("g", {}, now=0) == math.inf


def test_grants_from_before_recording_are_told_and_later_ones_not() -> None:
    given = Grants(term_seconds=3.0, now=0.0)
    given.give("b", {"g": {"a": 4}}, now=10.0)
    given.give("c", {"g": {"a": 5}}, now=10.0)
    assert given.outstanding("g", "a", 5, now=11.0) == {"b": 2.0}
    assert given.outstanding("g", "a", 4, now=11.0) == {}
    assert given.outstanding("h", "a", 1, now=11.0) == {"b": 2.0, "c": 2.0}
    assert given.outstanding("g", "a", 5, now=13.0) == {}


def test_after_a_restart_everybody_may_hold_a_lease_for_a_term() -> None:
    given = Grants(term_seconds=3.0, now=100.0)
    assert given.outstanding("g", "a", 1, now=101.0) == {EVERYBODY: 2.0}
    given.give("b", {"g": {}}, now=101.0)
    assert given.outstanding("g", "a", 1, now=102.0) == {EVERYBODY: 1.0, "b": 2.0}
    assert given.outstanding("g", "a", 1, now=104.0) == {}
    given.forget(now=110.0)
    assert given.outstanding("g", "a", 1, now=111.0) == {EVERYBODY: 2.0}


def test_many_grants_are_merged_to_the_side_of_waiting() -> None:
    given = Grants(term_seconds=1000.0, now=-1000.0)
    for number in range(10 * HELD_MAX):
        given.give("b", {"g": {"a": number}}, now=float(number))
    assert given.outstanding("g", "a", 1, now=100.0)["b"] > 900.0
    assert given.outstanding("g", "a", 10 * HELD_MAX, now=100.0) == {"b": 1000.0 + 10 * HELD_MAX - 1 - 100.0}


def test_the_same_records_only_prolong_a_grant() -> None:
    given, same = Grants(term_seconds=3.0, now=-3.0), {"g": {"a": 1}}
    for number in range(1000):
        given.give("b", same, now=number / 1000)
    assert given.outstanding("g", "a", 2, now=1.0) == {"b": 2.999}


def test_an_ack_counts_for_all_before_it_and_the_best_for_each_holder() -> None:
    acks = Acks()
    acks.add("b", 5, {"c": 20.0, "d": 10.0})
    acks.add("b", 7, {"c": 15.0, "d": 12.0})
    assert acks.for_seq(5) == {"b": {"c": 15.0, "d": 10.0, EVERYBODY: -math.inf}}
    assert acks.for_seq(6) == {"b": {"c": 15.0, "d": 12.0}}
    assert acks.for_seq(8) == {}
    assert acks.upto("b") == 7
    acks.prune(5)
    assert acks.for_seq(5) == {"b": {"c": 15.0, "d": 12.0}}


def test_a_steady_stream_of_acks_keeps_the_oldest_and_the_newest() -> None:
    acks = Acks()
    for upto in range(1, 1000):
        acks.add("b", upto, {"c": float(upto)})
    assert len(list(acks.steps())) == ACKS_MAX
    assert acks.for_seq(1)["b"]["c"] == 1.0
    assert acks.for_seq(999)["b"]["c"] == 999.0


def test_waiting_is_stretched() -> None:
    assert stretched(10.0, 2.0, drift=0.25) == 13.0
    assert lease_ends(10.0, term_seconds=2.0, drift=0.25) == 11.5


def test_what_a_fence_waits_for_is_said() -> None:
    assert obstacle((ABC,), {"a": {}}, now=0.0) == "recorded by 1 of 2 needed, not by b, c"
    assert obstacle((ABC,), {"a": {}, "b": {"c": 2.5}}, now=1.0) == "waiting 1.5 s for older leases of c to end"
    assert obstacle((ABC,), {"a": {}, "b": {"c": 2.5}}, now=2.5) == ""
    assert obstacle((ABC,), {"a": {}, "b": {EVERYBODY: 9.0}, "c": {}}, now=1.0) == ""
    assert "unknown since a restart" in obstacle((ABC,), {"a": {EVERYBODY: 9.0}, "b": {EVERYBODY: 9.0}, "c": {}}, now=1)


def test_a_stranger_of_a_roster_to_come_is_waited_for() -> None:
    """c has not recorded, and a lease of b to d is out: d might be current together with c in a greater roster."""
    acknowledged: dict[str, dict[str, float]] = {"a": {}, "b": {"d": 5.0}}
    assert obstacle((ABC,), acknowledged, now=1.0) == "waiting 4.0 s for older leases of d to end"
    assert obstacle((ABC,), acknowledged, now=5.0) == ""


def test_one_dead_member_costs_a_term_and_all_together_nothing() -> None:
    quiet = Grants(term_seconds=3.0, now=-3.0)
    acks = Acks()
    acks.add("b", 3, {})
    acks.add("c", 1, {})
    how = {"member": "a", "own": quiet, "group": "g", "origin": "a", "fenced": 0, "recorded": 3}
    assert fence_reach((ABC,), acks, **how, now=1.0) == 3  # type: ignore[arg-type]
    quiet.give("c", {"g": {"a": 2}}, now=1.0)
    assert fence_reach((ABC,), acks, **how, now=2.0) == 1  # type: ignore[arg-type]
    assert fence_reach((ABC,), acks, **how, now=4.0) == 3  # type: ignore[arg-type]


MEMBERS = "abcde"
outs = st.dictionaries(st.sampled_from(MEMBERS), st.floats(0, 10), max_size=5)
rosters_of = st.lists(
    st.frozensets(st.sampled_from(MEMBERS), min_size=1).map(lambda r: r | {"a"}), min_size=1, max_size=2
)


@given(rosters_of, st.dictionaries(st.sampled_from("bcde"), outs), outs, st.floats(0, 10))
def test_a_complete_fence_leaves_no_majority_to_anybody_behind(
    rosters: list[frozenset[str]], others: dict[str, dict[str, float]], own: dict[str, float], now: float
) -> None:
    """By the definition: whoever has not recorded cannot find votes in every roster, whoever may still vote."""
    acknowledged = {"a": own, **others}
    if obstacle(tuple(rosters), acknowledged, now=now):
        return
    for behind in set(MEMBERS) - acknowledged.keys():
        able = {m for m in MEMBERS if m == behind or m not in acknowledged or acknowledged[m].get(behind, -1.0) > now}
        assert all(len(able & roster) < majority(roster) for roster in rosters)


@given(
    st.lists(st.tuples(st.sampled_from("bc"), st.integers(1, 20), outs), max_size=12),
    st.integers(1, 20),
    st.floats(0, 10),
)
def test_halving_finds_what_trying_all_finds(
    said: list[tuple[str, int, dict[str, float]]], recorded: int, now: float
) -> None:
    acks, own = Acks(), Grants(term_seconds=3.0, now=-100.0)
    for member, upto, out in said:
        acks.add(member, min(upto, recorded), out)
    plain = [n for n in range(1, recorded + 1) if not obstacle((ABC,), {**acks.for_seq(n), "a": {}}, now=now)]
    found = fence_reach((ABC,), acks, member="a", own=own, group="g", origin="a", fenced=0, recorded=recorded, now=now)
    assert found == max(plain, default=0)


def test_covering() -> None:
    assert covers({"a": 2, "b": 1}, {"a": 2})
    assert not covers({"a": 2}, {"a": 2, "b": 1})
    assert majority(frozenset("ab")) == 2
    assert majority(ABC) == 2
    assert majority(frozenset("abcd")) == 3


def test_rosters_must_have_one_in_common() -> None:
    old, new, other = ("a", "b", "c"), ("c", "b", "d"), ("x", "y")
    assert rosters_compatible(old, (), ("c", "a", "b"), ()) == ""
    assert rosters_compatible(old, (), new, old) == ""
    assert rosters_compatible(new, old, new, ()) == ""
    assert rosters_compatible(new, old, other, new) == ""
    assert rosters_compatible(old, (), new, ()) == (
        "rosters have nothing in common: here {a, b, c}, there {b, c, d}; expected one with members_previous "
        "during a change"
    )
    assert "nothing in common" in rosters_compatible((), (), (), ())
