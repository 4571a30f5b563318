"""The view is built from facts alone, and nothing worse passes as better."""

import dataclasses
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anycastle.health.judge import Judgement
from anycastle.health.view import ALL_GROUPS, GroupView, Health, SiteView, View, withheld
from anycastle.talk import Talk
from anycastle.world import Facts, build_view, differs, is_worse

SITES = ("ams", "nyc")
QUIET = Talk(observations=(), overrides=(), load=0.0, announced=(), standing={})
UP = Judgement(Health.UP, "all probes succeed", 5.0)


def facts(**changes: Any) -> Facts:
    plain = Facts(
        member="ams",
        sites=SITES,
        judgements=dict.fromkeys(SITES, UP),
        isolated=False,
        drained=dict.fromkeys(SITES, frozenset()),
        standing={site: {"photos": ""} for site in SITES},
        pending={site: {"photos": {}} for site in SITES},
        own=QUIET,
        heard={"nyc": QUIET},
        remembered={},
    )
    return dataclasses.replace(plain, **changes)


def view(**changes: Any) -> View:
    return build_view(facts(**changes), None, now=10.0)


def site(**changes: Any) -> SiteView:
    return msgspec.structs.replace(view().sites["nyc"], **changes)


def with_nyc(nyc: SiteView) -> View:
    return msgspec.structs.replace(view(), sites={"ams": view().sites["ams"], "nyc": nyc})


def group(**changes: Any) -> dict[str, GroupView]:
    return {"photos": msgspec.structs.replace(view().sites["nyc"].groups["photos"], **changes)}


# -- building -----------------------------------------------------------------------------------------------------


def test_generations_grow_and_times_are_those_given() -> None:
    first = build_view(facts(), None, now=10.0)
    second = build_view(facts(), first, now=11.0)
    assert (first.generation, second.generation, second.at, second.member) == (1, 2, 11.0, "ams")


def test_a_reason_makes_a_group_not_current() -> None:
    found = view(standing={"ams": {"photos": ""}, "nyc": {"photos": "no link"}})
    assert found.sites["ams"].groups["photos"].current
    assert found.sites["nyc"].groups["photos"] == GroupView(current=False, current_reason="no link", pending={})


def test_each_site_says_which_of_its_groups_are_gated_and_that_is_worse() -> None:
    well = view()
    found = view(heard={"nyc": msgspec.structs.replace(QUIET, gated={"photos": "requires database: refused"})})
    assert [found.sites[name].groups["photos"].gated for name in SITES] == ["", "requires database: refused"]
    assert is_worse(well, found)
    assert not is_worse(found, well)


def test_each_site_says_its_own_load_and_routes() -> None:
    own = msgspec.structs.replace(QUIET, load=3.0, announced=("198.51.100.0/24",))
    other = msgspec.structs.replace(QUIET, load=7.0)
    found = view(own=own, heard={"nyc": other})
    assert (found.sites["ams"].load, found.sites["nyc"].load) == (3.0, 7.0)
    assert found.sites["ams"].announced == {"198.51.100.0/24"}


def test_who_is_not_heard_announces_nothing() -> None:
    found = view(heard={})
    assert (found.sites["nyc"].load, found.sites["nyc"].announced) == (0.0, frozenset())


def test_a_witness_knows_no_pending_content() -> None:
    found = view(member="wit", pending={site: {} for site in SITES})
    assert found.sites["ams"].groups["photos"].pending == {}


def test_who_lost_everybody_keeps_what_it_remembers_of_the_others_but_not_of_itself() -> None:
    remembered = {name: site(load=9.0, groups=group(pending={b"old/": 1.0})) for name in SITES}
    lost = {"ams": {"photos": "no lease"}, "nyc": {"photos": "no link"}}
    down = {"ams": UP, "nyc": Judgement(Health.DOWN, "no answer", 8.0)}
    found = view(isolated=True, remembered=remembered, standing=lost, judgements=down)
    assert not found.sites["ams"].groups["photos"].current, "it says of itself what is so"
    assert found.sites["nyc"].groups["photos"].current, "frozen"
    assert found.sites["nyc"].load == 9.0
    assert found.sites["nyc"].health is Health.DOWN, "probes may still reach what links do not"


def test_an_operator_is_heard_by_a_member_that_lost_everybody() -> None:
    drained = {"ams": frozenset[str](), "nyc": frozenset({ALL_GROUPS})}
    found = view(isolated=True, remembered={"nyc": site()}, drained=drained)
    assert found.sites["nyc"].drained == {ALL_GROUPS}


def test_who_lost_everybody_before_hearing_anybody_shows_what_it_knows() -> None:
    found = view(isolated=True, standing={"ams": {"photos": ""}, "nyc": {"photos": "no link"}})
    assert not found.sites["nyc"].groups["photos"].current


# -- comparing ----------------------------------------------------------------------------------------------------


def test_number_and_time_are_no_difference() -> None:
    first = build_view(facts(), None, now=10.0)
    assert not differs(first, build_view(facts(), first, now=99.0))
    assert differs(None, first)
    assert differs(first, build_view(facts(isolated=True), first, now=10.0))


WORSE = {
    "down": (site(), site(health=Health.DOWN)),
    "unknown": (site(), site(health=Health.UNKNOWN)),
    "drained": (site(), site(drained=frozenset({"photos"}))),
    "drained for more": (site(drained=frozenset({"photos"})), site(drained=frozenset({"photos", ALL_GROUPS}))),
    "not current": (site(), site(groups=group(current=False))),
    "something missing": (site(), site(groups=group(pending={b"a/": 9.0}))),
    "something more missing": (site(groups=group(pending={b"a/": 1.0})), site(groups=group(pending={b"b/": 9.0}))),
    "missing for longer": (site(groups=group(pending={b"a/": 9.0})), site(groups=group(pending={b"a/": 1.0}))),
    "a group gone": (site(), site(groups={})),
    "a route gone": (site(announced=frozenset({"198.51.100.0/24"})), site()),
}


@pytest.mark.parametrize("name", WORSE)
def test_worse_news(name: str) -> None:
    before, after = WORSE[name]
    assert is_worse(with_nyc(before), with_nyc(after))


@pytest.mark.parametrize(
    "name", sorted(WORSE.keys() - {"something more missing", "missing for longer", "a group gone"})
)
def test_the_way_back_is_better_news(name: str) -> None:
    after, before = WORSE[name]
    assert not is_worse(with_nyc(before), with_nyc(after))
    assert differs(with_nyc(before), with_nyc(after))


def test_a_site_that_is_new_or_gone_is_worse_news() -> None:
    alone = msgspec.structs.replace(view(), sites={"ams": view().sites["ams"]})
    assert is_worse(alone, view())
    assert is_worse(view(), alone)
    assert is_worse(None, view())


def test_losing_everybody_is_worse_news_and_finding_them_is_not() -> None:
    assert is_worse(view(), view(isolated=True))
    assert not is_worse(view(isolated=True), view())


prefixes = st.sampled_from((b"", b"a/", b"b/", b"a/c/"))
groups = st.sampled_from(("photos", "wiki"))
group_views = st.builds(
    GroupView,
    current=st.booleans(),
    current_reason=st.just("so"),
    pending=st.dictionaries(prefixes, st.sampled_from((1.0, 5.0, 9.0)), max_size=3),
    gated=st.sampled_from(("", "requires database: connection refused")),
)
site_views = st.builds(
    SiteView,
    health=st.sampled_from(Health),
    reason=st.just("so"),
    since=st.just(0.0),
    groups=st.dictionaries(groups, group_views),
    drained=st.frozensets(st.sampled_from((ALL_GROUPS, "photos", "wiki"))),
    load=st.floats(0, 10),
    announced=st.frozensets(st.sampled_from(("p", "q"))),
)
views = st.builds(
    View,
    member=st.just("ams"),
    generation=st.just(1),
    at=st.just(0.0),
    sites=st.dictionaries(st.sampled_from(SITES), site_views),
    isolated=st.booleans(),
)


@given(old=views, new=views, group=groups | st.none(), prefix=prefixes, grace=st.sampled_from((0.0, 3.0)))
def test_a_site_that_loses_eligibility_is_never_better_news(
    old: View, new: View, group: str | None, prefix: bytes, grace: float
) -> None:
    """Against the function by which DNS and BGP decide, at one moment: time alone is theirs to see."""
    lost = [
        name
        for name in SITES
        if not withheld(old, name, group, prefix, grace_seconds=grace, now=10.0)
        and withheld(new, name, group, prefix, grace_seconds=grace, now=10.0)
    ]
    if lost:
        assert is_worse(old, new)
        assert differs(old, new)
