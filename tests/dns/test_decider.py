"""The decider that serves queries gives what `decide` gives, and remembers no more than it may."""

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from anycastle.dns.decider import REMEMBERED_MAX, Decider
from anycastle.dns.settings import SteeredName
from anycastle.dns.steer import Match, Steering, decide
from anycastle.health.view import View
from tests.dns.test_steer import CLIENTS, LOADED, RULES, WORLDS
from tests.dns.worlds import BLOGS, NOW, state, steering, view

CLIENT = ipaddress.ip_address("10.3.0.1").packed


def matched(table: Steering, label: bytes) -> Match:
    match = table.match((label, b"blogs", b"example", b"com"))
    assert match is not None
    return match


@given(
    RULES,
    WORLDS,
    st.lists(st.tuples(st.sampled_from([b"alice", b"bob"]), CLIENTS, st.booleans(), st.integers(1, 200)), max_size=12),
)
def test_it_gives_what_decide_gives(
    rule: SteeredName, world: View, queries: list[tuple[bytes, bytes, bool, int]]
) -> None:
    table = steering(rule, sites=LOADED)
    decider = Decider(table, world)
    now = NOW
    for label, client, known, later in queries:
        match = matched(table, label)
        bits = len(client) * 8 if known else 0
        # Again within the second, when much of it is remembered.
        for moment in (now, now):
            assert decider.decide(match, client, bits, now=moment) == decide(
                table, match, client, bits, world, now=moment
            )
        now += later


def test_grace_ends_to_the_moment_though_it_remembers() -> None:
    world = view(sgp=state(pending={b"alice/": NOW - 4.9}))
    table = steering(SteeredName(name=BLOGS.name, group="blogs", content="{1}/", grace_seconds=5.0))
    decider, match = Decider(table, world), matched(table, b"alice")
    assert decider.decide(match, CLIENT, 32, now=NOW).sites == ("sgp",)
    assert decider.decide(match, CLIENT, 32, now=NOW + 0.2).sites == ("nyc",)


def test_it_remembers_what_was_asked() -> None:
    table = steering(BLOGS)
    decider, match = Decider(table, view()), matched(table, b"alice")
    first = decider.decide(match, CLIENT, 32, now=NOW)
    assert decider.decide(match, CLIENT, 32, now=NOW + 0.5) is first
    assert decider.decide(match, CLIENT, 32, now=NOW + 5) is not first


def test_random_names_do_not_fill_the_memory() -> None:
    table = steering(BLOGS)
    decider = Decider(table, view())
    most = 0
    for number in range(REMEMBERED_MAX):
        decider.decide(matched(table, b"x%d" % number), CLIENT, 32, now=NOW)
        most = max(most, decider.remembered)
    assert most == REMEMBERED_MAX
