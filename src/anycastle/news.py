"""What happened, told from the difference of two moments: of two views, or of what held then and what holds now.

Laws: pure, so the same two moments tell the same; a word never stands without its reason. What comes and goes with
each upload is told as `Kind.CONTENT` of a view, for whoever watches; what lasts is a `Condition`, told when it begins
to hold and when it ends, to be kept.
"""

import heapq
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass

from anycastle.health.event import Event, Kind
from anycastle.health.view import ALL_GROUPS, GroupView, SiteView, View, show_path

LATE_SECONDS = 1.0
"""A change that has not landed for so long is worth a line that is kept; uploads take less."""
LATE_MAX = 100
"""Prefixes told of at a time, the oldest first: beyond, what else is to be read is lost among them."""
PREFIXES_TOLD_MAX = 5
"""Of one site and moment; a bulk import must not push everything else out of the tail."""


def news(old: View | None, new: View, *, wall: float) -> tuple[Event, ...]:
    """What steering thinks differently of each site."""
    found: list[Event] = []
    for name, site in new.sites.items():
        before = old.sites.get(name) if old else None
        found += _of_site(name, before, site, wall)
        for group, state in site.groups.items():
            found += _of_group(name, group, before.groups.get(group) if before else None, state, wall)
    if old and old.isolated != new.isolated:
        lost = "this member lost all others: what it knew of them is frozen"
        text = lost if new.isolated else "no longer alone"
        found.append(Event(wall=wall, kind=Kind.LINK, site=new.member, text=text))
    return tuple(found)


def _of_site(name: str, old: SiteView | None, new: SiteView, wall: float) -> Iterator[Event]:
    if old is None or old.health is not new.health:
        yield Event(wall=wall, kind=Kind.HEALTH, site=name, text=f"{name} is {new.health.value}: {new.reason}")
    was_drained, was_announced = (old.drained, old.announced) if old else (frozenset(), frozenset())
    for group in sorted(new.drained ^ was_drained):
        words = "is drained" if group in new.drained else "is no longer drained"
        whole = group == ALL_GROUPS
        text = f"{name} {words} for {'all groups' if whole else group}"
        yield Event(wall=wall, kind=Kind.DRAIN, site=name, place="" if whole else f"{group}:", text=text)
    for prefix in sorted(new.announced ^ was_announced):
        words = "announces" if prefix in new.announced else "no longer announces"
        yield Event(wall=wall, kind=Kind.ROUTE, site=name, text=f"{name} {words} {prefix}")


def _of_group(name: str, group: str, old: GroupView | None, new: GroupView, wall: float) -> Iterator[Event]:
    whole = f"{group}:"
    if old is None or old.current != new.current:
        text = f"{name} is {'current' if new.current else 'not current'} for {group}: {new.current_reason}"
        yield Event(wall=wall, kind=Kind.CURRENT, site=name, place=whole, text=text)
    if bool(new.gated) != bool(old.gated if old else ""):
        no = f"{name} gets no users for {group}: it {new.gated}"
        text = no if new.gated else f"{name} has again all that {group} requires"
        yield Event(wall=wall, kind=Kind.GATE, site=name, place=whole, text=text)
    before = old.pending.keys() if old else set()
    for prefix in sorted(new.pending.keys() - before)[:PREFIXES_TOLD_MAX]:
        place = f"{group}:{show_path(prefix)}"
        text = f"{place} has a change that has not landed at {name}"
        yield Event(wall=wall, kind=Kind.CONTENT, site=name, place=place, text=text)
    for prefix in sorted(before - new.pending.keys())[:PREFIXES_TOLD_MAX]:
        place = f"{group}:{show_path(prefix)}"
        yield Event(wall=wall, kind=Kind.CONTENT, site=name, place=place, text=f"{place} has landed at {name}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """Something that holds for a while."""

    kind: Kind
    site: str = ""
    place: str = ""
    text: str
    over: str = ""
    """Said when it holds no more, with for how long it did; empty: nothing is said then."""


Conditions = Mapping[Hashable, Condition]


class Turns:
    """Remembers what holds, and tells what begins and what ends."""

    def __init__(self) -> None:
        self._held: dict[Hashable, tuple[Condition, float]] = {}

    def told(self, present: Conditions, *, now: float, wall: float) -> tuple[Event, ...]:
        """A condition whose words change while it holds is not told again; it ends with the words it has then."""
        begun = [condition for key, condition in present.items() if key not in self._held]
        ended = [held for key, held in self._held.items() if key not in present]
        self._held = {
            key: (condition, self._held[key][1] if key in self._held else now) for key, condition in present.items()
        }
        over = [(each, f"{each.over}, after {now - since:.0f} s") for each, since in ended if each.over]
        return tuple(
            Event(wall=wall, kind=each.kind, site=each.site, place=each.place, text=text)
            for each, text in (*over, *((each, each.text) for each in begun))
        )


_Place = tuple[str, str, bytes]
"""Site, group, content prefix."""


class Late:
    """Content that has been withheld for a while: told once, until nothing below its prefix is pending any more."""

    def __init__(self) -> None:
        self._told: set[_Place] = set()

    def conditions(self, view: View, *, now: float) -> dict[Hashable, Condition]:
        """O(all that is pending)."""
        fresh = (
            (since, (name, group, prefix))
            for name, site in view.sites.items()
            for group, state in site.groups.items()
            for prefix, since in state.pending.items()
            if now - since >= LATE_SECONDS and (name, group, prefix) not in self._told
        )
        self._told = {place for place in self._told if _since(view, place) is not None}
        self._told |= {place for _, place in heapq.nsmallest(LATE_MAX - len(self._told), fresh)}
        return {place: _late(*place, seconds=now - (_since(view, place) or now)) for place in sorted(self._told)}


def _since(view: View, place: _Place) -> float | None:
    name, group, prefix = place
    site = view.sites.get(name)
    state = site.groups.get(group) if site is not None else None
    return state.pending.get(prefix) if state is not None else None


def _late(site: str, group: str, prefix: bytes, *, seconds: float) -> Condition:
    place = f"{group}:{show_path(prefix)}"
    text = f"{place} is withheld at {site}: a change has not landed there for {seconds:.0f} s"
    return Condition(kind=Kind.CONTENT, site=site, place=place, text=text, over=f"{place} has landed at {site}")
