"""What a view says of a name's candidates: who is withheld, how bad it is, and how long it holds."""

import dataclasses
import math

import pytest

from anycastle.dns.standing import RECENT_SECONDS, Standing, stand
from anycastle.health.view import ALL_GROUPS, GroupView, Health, SiteView, View
from tests.dns.worlds import BLOGS, LONG_AGO, NOW, SITES, state, view, without

PREFIX = b"alice/"
PLAIN = dataclasses.replace(BLOGS, group=None, content="")


def standing(world: View, *, now: float = NOW, **facts: object) -> Standing:
    return stand(dataclasses.replace(BLOGS, **facts), PREFIX, SITES, world, now=now)  # type: ignore[arg-type]


def test_when_all_is_well_the_time_to_live_is_the_longest() -> None:
    found = standing(view())
    assert [site.name for site in found.eligible] == ["ams", "nyc", "sgp"]
    assert (found.ttl, found.ttl_reason) == (60, "longest: no candidate is about to change")
    assert found.until == math.inf


def test_withheld_is_said_in_the_words_of_the_view() -> None:
    found = standing(view(nyc=state(Health.DOWN), sgp=state(drained=frozenset({ALL_GROUPS}))))
    assert found.barred == {"nyc": "down: probes for 9000 s", "sgp": "drained by an operator"}
    assert found.ttl == 60


def test_what_is_pending_withholds_and_shortens() -> None:
    found = standing(view(nyc=state(pending={b"alice/": NOW - 2})))
    assert found.barred == {"nyc": "blogs:alice/ has a change that has not landed there for 2.0 s"}
    assert (found.ttl, found.ttl_reason) == (5, "shortest: a change under this content is on its way to nyc")


def test_what_is_pending_elsewhere_touches_nothing() -> None:
    found = standing(view(nyc=state(pending={b"bob/": NOW - 2})))
    assert not found.barred
    assert found.ttl == 60


def test_grace_keeps_a_site_until_its_end_but_not_the_long_time_to_live() -> None:
    world = view(nyc=state(pending={b"alice/": NOW - 2}))
    found = standing(world, grace_seconds=5.0)
    assert not found.barred
    assert (found.ttl, found.until) == (5, NOW + 3)
    assert "nyc" in standing(world, grace_seconds=5.0, now=found.until).barred


def test_what_a_dead_site_lacks_does_not_shorten_for_ever() -> None:
    found = standing(view(nyc=state(Health.DOWN, pending={b"alice/": LONG_AGO})))
    assert found.ttl == 60


@pytest.mark.parametrize("health", list(Health))
def test_a_recent_change_of_health_shortens_for_a_while(health: Health) -> None:
    world = view(nyc=state(health, since=NOW - 12))
    found = standing(world)
    assert (found.ttl, found.ttl_reason) == (5, f"shortest: nyc has been {health.value} for only 12 s")
    assert found.until == NOW - 12 + RECENT_SECONDS
    assert standing(world, now=found.until).ttl == 60


def test_shedding_shortens_but_not_of_a_site_that_is_withheld_anyway() -> None:
    sites = tuple(dataclasses.replace(site, soft_load=10, hard_load=20) for site in SITES)
    loaded = stand(BLOGS, PREFIX, sites, view(nyc=state(load=15)), now=NOW)
    assert (loaded.ttl, loaded.ttl_reason) == (5, "shortest: nyc sheds load")
    dead = stand(BLOGS, PREFIX, sites, view(nyc=state(Health.DOWN, load=15)), now=NOW)
    assert dead.ttl == 60


def test_no_eligible_site_shortens() -> None:
    found = standing(view(**{site.name: state(current=False) for site in SITES}))
    assert not found.eligible
    assert found.ttl_reason == "shortest: no site is eligible"


def test_a_site_nobody_heard_of_is_withheld() -> None:
    assert standing(without(view(), "sgp")).barred == {"sgp": "never heard of"}


def test_a_site_that_lacks_what_the_group_requires_is_withheld_for_that_group_only() -> None:
    world = view(nyc=state(gated="requires database: refused"))
    assert standing(world).barred == {"nyc": "blogs requires database: refused"}
    assert not stand(PLAIN, b"", SITES, world, now=NOW).barred


def test_an_isolated_member_leaves_itself_out_and_trusts_its_memory() -> None:
    world = view(isolated=True, ams=state(current=False))
    found = standing(world)
    assert list(found.barred) == ["ams"]
    assert found.frozen_for == "ams"
    assert found.ttl_reason == "shortest: ams has lost every other member and answers from memory"


def test_an_isolated_member_leaves_itself_out_for_names_without_content_too() -> None:
    stale = stand(PLAIN, b"", SITES, view(isolated=True, ams=state(current=False)), now=NOW)
    assert stale.barred == {"ams": "has lost every other member, and is not current for blogs"}
    current = stand(PLAIN, b"", SITES, view(isolated=True), now=NOW)
    assert not current.barred
    together = stand(PLAIN, b"", SITES, view(ams=state(current=False)), now=NOW)
    assert not together.barred


@pytest.mark.parametrize(
    ("worse", "better"),
    [
        (state(current=False), state(pending={b"alice/": NOW})),
        (state(drained=frozenset({"blogs"})), state(current=False)),
        (state(gated="requires database: refused"), state(pending={b"alice/": NOW})),
        (state(drained=frozenset({"blogs"})), state(gated="requires database: refused")),
        (state(Health.UNKNOWN), state(drained=frozenset({ALL_GROUPS}))),
        (state(Health.DOWN), state(Health.UNKNOWN)),
        (state(Health.DOWN, drained=frozenset({ALL_GROUPS})), state(Health.UNKNOWN)),
    ],
)
def test_how_bad_a_withheld_site_is(worse: SiteView, better: SiteView) -> None:
    badness = standing(view(ams=worse, nyc=better)).badness
    assert badness["ams"] > badness["nyc"]


def test_a_site_without_the_group_cannot_be_the_best_of_the_bad() -> None:
    bare = SiteView(health=Health.UP, reason="", since=LONG_AGO, groups={})
    other = GroupView(current=True, current_reason="", pending={b"": LONG_AGO})
    full = SiteView(health=Health.UP, reason="", since=LONG_AGO, groups={"blogs": other})
    badness = standing(view(ams=bare, nyc=full)).badness
    assert badness["ams"] > badness["nyc"]
