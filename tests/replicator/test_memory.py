"""When a member that has forgotten votes again, by counting all fences that may have counted on it."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anycastle.replicator.fence import majority
from anycastle.replicator.memory import Memory
from anycastle.replicator.message import Vectors
from anycastle.replicator.settings import Lease

LEASE = Lease(term_seconds=3.0, drift=0.02)
LATER = 3.2
NAMES = "abcdefg"
NOTHING: Vectors = {"g": {}}
SOMETHING: Vectors = {"g": {"b": 1}}


def memory(members: int = 3, forgot: str = "resync") -> Memory:
    return Memory(member="a", rosters=(frozenset(NAMES[:members]),), lease=LEASE, forgot=forgot, now=0.0)


def test_who_forgot_nothing_waits_for_nobody() -> None:
    one = memory(7, "")
    assert one.votes(NOTHING)
    assert one.whole(NOTHING)


@given(st.integers(2, 7), st.data())
def test_who_votes_again_holds_every_fence_that_anybody_still_remembers(members: int, data: st.DataObject) -> None:
    """However many forgot: a fence had a majority, and who of it forgot nothing holds it."""
    names = NAMES[:members]
    fence = data.draw(st.sampled_from([f for f in combinations(names, majority(frozenset(names))) if "a" in f]))
    forgetful = data.draw(st.sets(st.sampled_from(names[1:])))
    heard = data.draw(st.sets(st.sampled_from(names[1:])))
    one = memory(members)
    for name in sorted(heard):
        knows = name in fence and name not in forgetful
        one.answered(name, LATER, SOMETHING if knows else NOTHING, votes=name not in forgetful)
    if set(fence) - forgetful - {"a"}:
        assert not one.votes(NOTHING)
    if heard == set(names[1:]):
        assert one.votes(SOMETHING), "nobody knows more"


@pytest.mark.parametrize(("members", "enough"), [(2, 1), (3, 2), (4, 2), (5, 3), (6, 3), (7, 4)])
def test_it_votes_after_so_many_others_and_numbers_after_all(members: int, enough: int) -> None:
    one = memory(members)
    for number, name in enumerate(NAMES[1:members], 1):
        one.answered(name, LATER, SOMETHING, votes=True)
        assert not one.votes(NOTHING) or number > enough, "what they have is not here"
        assert one.votes(SOMETHING) == (number >= enough)
        assert one.whole(SOMETHING) == (number == members - 1)


def test_two_of_three_that_forgot_go_on_with_what_the_third_knows() -> None:
    one = memory()
    one.answered("c", LATER, SOMETHING, votes=True)
    assert not one.votes(SOMETHING)
    one.answered("b", LATER, NOTHING, votes=False)
    assert one.votes(SOMETHING)


def test_what_was_asked_too_early_or_answered_again_says_nothing_new() -> None:
    one = memory(2)
    one.answered("b", 3.0, NOTHING, votes=True)
    assert not one.votes(NOTHING), "old acks may count still"
    one.answered("b", LATER, NOTHING, votes=True)
    one.answered("b", LATER + 1, SOMETHING, votes=True)
    assert one.votes(NOTHING), "others may write as fast as they like"


def test_a_first_life_waits_for_nothing_once_all_said_that_they_never_met_it() -> None:
    one = memory(3, "new")
    one.met("b", knew=False)
    assert not one.votes(NOTHING)
    assert (
        one.reason(NOTHING)
        == "its ledger is new, or was put back: it does not vote before it knows what these do: b, c"
    )
    one.met("c", knew=False)
    assert one.whole(NOTHING)


def test_both_rosters_are_asked() -> None:
    rosters = (frozenset("abc"), frozenset("ade"))
    one = Memory(member="a", rosters=rosters, lease=LEASE, forgot="resync", now=0.0)
    for name in "bc":
        one.answered(name, LATER, NOTHING, votes=True)
    assert not one.votes(NOTHING)
    for name in "de":
        one.answered(name, LATER, NOTHING, votes=True)
    assert one.votes(NOTHING)
