"""The decider that serves queries gives what `decide` gives, through all changes, and remembers no more than it may."""

import dataclasses
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anycastle.dns.decider import Decider
from anycastle.dns.settings import SteeredName
from anycastle.dns.steer import Decision, Match, Steering, decide
from anycastle.dns.touched import touched
from anycastle.dns.view_change import difference
from anycastle.health.view import View
from tests.dns.test_steer import CLIENTS, LOADED, RULES, WORLDS
from tests.dns.worlds import BLOGS, NOW, state, steering, view

CLIENT = ipaddress.ip_address("10.3.0.1").packed


def matched(table: Steering, label: bytes) -> Match:
    match = table.match((label, b"blogs", b"example", b"com"))
    assert match is not None
    return match


def without_texts(decision: Decision) -> Decision:
    return dataclasses.replace(decision, reasons=(), ttl_reason="")


def go_on(decider: Decider, old: View, new: View) -> None:
    decider.change(new, touched(old, difference(old, new), decider.steering.sites))


@given(
    RULES,
    WORLDS,
    st.lists(
        st.tuples(st.sampled_from([b"alice", b"bob"]), CLIENTS, st.booleans(), st.integers(0, 200), st.none() | WORLDS),
        max_size=12,
    ),
)
def test_it_gives_what_decide_gives(
    rule: SteeredName, world: View, queries: list[tuple[bytes, bytes, bool, int, View | None]]
) -> None:
    table = steering(rule, sites=LOADED)
    decider = Decider(table, world)
    now = NOW
    for label, client, known, later, change in queries:
        if change is not None:
            go_on(decider, world, change)
            world = change
        match = matched(table, label)
        bits = len(client) * 8 if known else 0
        for moment in (now, now):  # the second time much of it is remembered
            choice = decider.decide(match, client, bits, now=moment)
            found = dataclasses.replace(choice.decision, scope_bits=choice.scope_bits)
            assert without_texts(found) == without_texts(decide(table, match, client, bits, world, now=moment))
            assert choice.until > moment
        now += later


def test_grace_ends_to_the_moment_though_it_remembers() -> None:
    world = view(sgp=state(pending={b"alice/": NOW - 4.9}))
    table = steering(SteeredName(name=BLOGS.name, group="blogs", content="{1}/", grace_seconds=5.0))
    decider, match = Decider(table, world), matched(table, b"alice")
    assert decider.decide(match, CLIENT, 32, now=NOW).decision.sites == ("sgp",)
    assert decider.decide(match, CLIENT, 32, now=NOW + 0.2).decision.sites == ("nyc",)


def test_a_change_of_content_touches_its_own_names_only() -> None:
    old, new = view(), view(sgp=state(pending={b"alice/": NOW}))
    decider = Decider(steering(BLOGS), old)
    alice, bob = (decider.decide(matched(decider.steering, label), CLIENT, 32, now=NOW) for label in (b"alice", b"bob"))
    alice.name.questions.add(b"alice?")
    bob.name.questions.add(b"bob?")
    go_on(decider, old, new)
    assert decider.take_forgotten() == [b"alice?"]
    assert decider.take_forgotten() == []
    assert decider.decide(matched(decider.steering, b"bob"), CLIENT, 32, now=NOW).name is bob.name
    assert decider.decide(matched(decider.steering, b"alice"), CLIENT, 32, now=NOW).decision.sites == ("nyc",)


def test_names_of_one_kind_share_what_is_worked_out() -> None:
    decider = Decider(steering(BLOGS), view(nyc=state(pending={b"carol/": NOW})))
    alice, bob, carol = (
        decider.decide(matched(decider.steering, label), CLIENT, 32, now=NOW) for label in (b"alice", b"bob", b"carol")
    )
    assert alice.decision is bob.decision
    assert carol.decision is not bob.decision


def test_a_name_that_is_decided_anew_gives_up_its_questions() -> None:
    world = view(sgp=state(since=NOW - 119.0))
    decider, match = Decider(steering(BLOGS), world), matched(steering(BLOGS), b"alice")
    first = decider.decide(match, CLIENT, 32, now=NOW)
    first.name.questions.add(b"alice?")
    assert decider.decide(match, CLIENT, 32, now=NOW + 0.5).name is first.name
    assert decider.take_forgotten() == []
    assert decider.decide(match, CLIENT, 32, now=NOW + 1.5).name is not first.name
    assert decider.take_forgotten() == [b"alice?"]


@pytest.mark.parametrize("content", ["{1}/", ""], ids=["content of each", "content of all"])
def test_random_names_do_not_fill_the_memory(content: str) -> None:
    decider = Decider(steering(dataclasses.replace(BLOGS, content=content)), view(), names_max=8)
    for number in range(20):
        choice = decider.decide(matched(decider.steering, b"x%d" % number), CLIENT, 32, now=NOW)
        choice.name.questions.add(b"%d" % number)
        assert decider.remembered <= 8
    assert decider.take_forgotten() == [b"%d" % number for number in range(12)]
