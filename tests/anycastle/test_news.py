"""What happened is told from two moments, with its reason, once when it begins and once when it ends."""

import dataclasses
from collections.abc import Hashable

import msgspec

from anycastle.health.event import Event, Kind
from anycastle.health.view import ALL_GROUPS, GroupView, Health, SiteView, View
from anycastle.news import LATE_MAX, PREFIXES_TOLD_MAX, Condition, Late, Turns, news

GROUP = GroupView(current=True, current_reason="holds leases from a majority", pending={})
UP = SiteView(health=Health.UP, reason="all probes succeed", since=1.0, groups={"photos": GROUP})


def view(nyc: SiteView = UP, *, isolated: bool = False) -> View:
    return View(member="ams", generation=1, at=10.0, sites={"ams": UP, "nyc": nyc}, isolated=isolated)


def nyc(**changes: object) -> SiteView:
    return msgspec.structs.replace(UP, **changes)


def photos(**changes: object) -> dict[str, GroupView]:
    return {"photos": msgspec.structs.replace(GROUP, **changes)}


def told(old: View | None, new: View) -> list[str]:
    events = news(old, new, wall=7.0)
    assert all(event.wall == 7.0 for event in events)
    return [event.text for event in events]


# -- of two views -------------------------------------------------------------------------------------------------


def test_each_difference_is_a_sentence_with_its_reason_and_place() -> None:
    before = view(nyc(announced=frozenset({"p"})))
    after = view(
        nyc(
            health=Health.DOWN,
            reason="no answer",
            drained=frozenset({"photos", ALL_GROUPS}),
            groups=photos(current=False, current_reason="no link", pending={b"al\xff/": 1.0}),
        )
    )
    found = news(before, after, wall=7.0)
    assert [(event.kind, event.site, event.place, event.text) for event in found] == [
        (Kind.HEALTH, "nyc", "", "nyc is down: no answer"),
        (Kind.DRAIN, "nyc", "", "nyc is drained for all groups"),
        (Kind.DRAIN, "nyc", "photos:", "nyc is drained for photos"),
        (Kind.ROUTE, "nyc", "", "nyc no longer announces p"),
        (Kind.CURRENT, "nyc", "photos:", "nyc is not current for photos: no link"),
        (Kind.CONTENT, "nyc", "photos:al\\xff/", "photos:al\\xff/ has a change that has not landed at nyc"),
    ]
    assert told(after, before)[1:4] == [
        "nyc is no longer drained for all groups",
        "nyc is no longer drained for photos",
        "nyc announces p",
    ]
    assert told(after, before)[-1] == "photos:al\\xff/ has landed at nyc"
    assert told(before, before) == []
    assert told(None, view())[0] == "ams is up: all probes succeed"


def test_a_group_that_is_gated_is_told() -> None:
    gated = view(nyc(groups=photos(gated="requires database: refused")))
    assert told(view(), gated) == ["nyc gets no users for photos: it requires database: refused"]
    assert told(gated, view()) == ["nyc has again all that photos requires"]


def test_losing_everybody_is_told_once() -> None:
    lost = view(isolated=True)
    assert told(view(), lost) == ["this member lost all others: what it knew of them is frozen"]
    assert told(lost, lost) == []
    assert told(lost, view()) == ["no longer alone"]


def test_a_bulk_import_does_not_push_everything_else_out_of_the_tail() -> None:
    many = {b"%d/" % i: 1.0 for i in range(1000)}
    assert len(told(view(), view(nyc(groups=photos(pending=many))))) == PREFIXES_TOLD_MAX


# -- of what lasts ------------------------------------------------------------------------------------------------

FULL = Condition(kind=Kind.TROUBLE, site="ams", text="the disk is full", over="over: the disk is full")


def test_a_condition_is_told_when_it_begins_and_when_it_ends_whatever_its_words_are_meanwhile() -> None:
    turns, more = Turns(), dataclasses.replace(FULL, text="the disk is full; 7 paths", over="over: 7 paths")

    def at(now: float, **present: Condition) -> list[str]:
        keyed: dict[Hashable, Condition] = dict(present)
        events: tuple[Event, ...] = turns.told(keyed, now=now, wall=now)
        assert all((event.kind, event.site) == (Kind.TROUBLE, "ams") for event in events)
        return [event.text for event in events]

    silent = dataclasses.replace(FULL, text="silent", over="")
    assert at(1.0, disk=FULL) == ["the disk is full"]
    assert at(2.0, disk=more, other=silent) == ["silent"]
    assert at(2.5, disk=more) == []
    assert at(13.0) == ["over: 7 paths, after 12 s"]
    assert at(14.0, disk=FULL) == ["the disk is full"]


def test_content_is_late_after_a_second_the_oldest_first_and_not_without_end() -> None:
    pending = {b"alice/": 8.0, b"bob/": 9.5, b"": 9.0}
    found = Late().conditions(view(nyc(groups=photos(pending=pending))), now=10.0)
    assert [(each.site, each.place, each.text) for each in found.values()] == [
        ("nyc", "photos:", "photos: is withheld at nyc: a change has not landed there for 1 s"),
        ("nyc", "photos:alice/", "photos:alice/ is withheld at nyc: a change has not landed there for 2 s"),
    ]
    many = {b"%d/" % i: float(-i) for i in range(LATE_MAX + 5)}
    shown = Late().conditions(view(nyc(groups=photos(pending=many))), now=10.0)
    assert {each.place for each in shown.values()} == {f"photos:{i}/" for i in range(5, LATE_MAX + 5)}


def test_content_that_is_written_all_the_time_is_late_once_until_all_of_it_has_landed() -> None:
    turns, late = Turns(), Late()

    def at(now: float, pending: dict[bytes, float]) -> list[str]:
        present = late.conditions(view(nyc(groups=photos(pending=pending))), now=now)
        return [event.text.partition(":")[2] for event in turns.told(present, now=now, wall=now)]

    assert at(10.0, {b"a/": 8.0}) == ["a/ is withheld at nyc: a change has not landed there for 2 s"]
    assert at(11.0, {b"a/": 10.9}) == [], "the older change has landed, and another one is on its way"
    older = {b"%d/" % i: -1.0 for i in range(LATE_MAX + 5)}
    assert len(at(12.0, {b"a/": 11.9, **older})) == LATE_MAX - 1, "what was told keeps its place"
    assert "a/ has landed at nyc, after 3 s" in at(13.0, older)
