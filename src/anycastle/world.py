"""Builds the next View from what the parts know, and says whether it is worse news than the last.

Laws: pure, so one set of facts gives one view; a member that lost everybody keeps its last picture of the others and
speaks anew only of itself (design section 7: it freezes what it knew, and leaves itself out by not being current).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from anycastle.health.judge import Judgement
from anycastle.health.view import GroupView, Health, SiteView, View, show_path
from anycastle.talk import Talk


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a view is made of, gathered at one moment."""

    member: str
    sites: tuple[str, ...]
    judgements: Mapping[str, Judgement]
    isolated: bool
    drained: Mapping[str, frozenset[str]]
    standing: Mapping[str, Mapping[str, str]]
    """Site -> group -> why steering must not count on it; the empty string when it may."""
    pending: Mapping[str, Mapping[str, dict[bytes, float]]]
    """Site -> group -> content prefix -> since when."""
    own: Talk
    heard: Mapping[str, Talk]
    remembered: Mapping[str, SiteView]
    """Site -> how it was shown when it was last heard."""


def build_view(facts: Facts, previous: View | None, *, now: float) -> View:
    """The next snapshot."""
    sites = {}
    for site in facts.sites:
        kept = facts.remembered.get(site) if facts.isolated and site != facts.member else None
        sites[site] = _frozen(kept, facts, site) if kept else _site(site, facts)
    return View(
        member=facts.member,
        generation=previous.generation + 1 if previous else 1,
        at=now,
        sites=sites,
        isolated=facts.isolated,
    )


def _frozen(kept: SiteView, facts: Facts, site: str) -> SiteView:
    """What was known of a site, but for its health (probes may still reach what links do not) and operators' words."""
    judged = facts.judgements[site]
    return msgspec.structs.replace(
        kept, health=judged.health, reason=judged.reason, since=judged.since, drained=facts.drained[site]
    )


def _site(site: str, facts: Facts) -> SiteView:
    judged = facts.judgements[site]
    talk = facts.own if site == facts.member else facts.heard.get(site)
    return SiteView(
        health=judged.health,
        reason=judged.reason,
        since=judged.since,
        groups={
            group: GroupView(
                current=not reason,
                current_reason=reason or "holds leases from a majority",
                pending=facts.pending[site].get(group, {}),  # a witness has no content to count
                gated=talk.gated.get(group, "") if talk else "",
            )
            for group, reason in facts.standing[site].items()
        },
        drained=facts.drained[site],
        load=talk.load if talk else 0.0,
        announced=frozenset(talk.announced) if talk else frozenset(),
    )


def differs(old: View | None, new: View) -> bool:
    """Anything but the number and the time has changed."""
    return old is None or old.sites != new.sites or old.isolated != new.isolated


def is_worse(old: View | None, new: View) -> bool:
    """Some site may take fewer users than before: to be published at once. Better news may wait a moment."""
    if old is None or (new.isolated and not old.isolated):
        return True
    if old.sites.keys() - new.sites.keys():
        return True
    return any(_site_is_worse(old.sites.get(name), site) for name, site in new.sites.items())


def _site_is_worse(old: SiteView | None, new: SiteView) -> bool:
    if old is None or new.drained - old.drained or (old.health is Health.UP and new.health is not Health.UP):
        return True
    if old.announced - new.announced or old.groups.keys() - new.groups.keys():
        return True
    return any(_group_is_worse(old.groups.get(name), group) for name, group in new.groups.items())


def _group_is_worse(old: GroupView | None, new: GroupView) -> bool:
    if old is None or (old.current and not new.current) or (new.gated and not old.gated):
        return True
    return any(prefix not in old.pending or since < old.pending[prefix] for prefix, since in new.pending.items())


def news(old: View | None, new: View) -> tuple[str, ...]:
    """What steering thinks differently of each site, in sentences for the live tail."""
    lines = []
    for name, site in new.sites.items():
        before = old.sites.get(name) if old else None
        lines += _sentences(name, before, site)
    if old and old.isolated != new.isolated:
        lines.append(
            "this member lost all others: what it knew of them is frozen" if new.isolated else "no longer alone"
        )
    return tuple(lines)


def _sentences(name: str, old: SiteView | None, new: SiteView) -> list[str]:
    lines = []
    if old is None or old.health is not new.health:
        lines.append(f"{name} is {new.health.value}: {new.reason}")
    was_drained, was_announced = (old.drained, old.announced) if old else (frozenset(), frozenset())
    lines += [f"{name} is drained for {group}" for group in sorted(new.drained - was_drained)]
    lines += [f"{name} is no longer drained for {group}" for group in sorted(was_drained - new.drained)]
    lines += [f"{name} announces {prefix}" for prefix in sorted(new.announced - was_announced)]
    lines += [f"{name} no longer announces {prefix}" for prefix in sorted(was_announced - new.announced)]
    for group, state in new.groups.items():
        before = old.groups.get(group) if old else None
        if before is None or before.current != state.current:
            lines.append(
                f"{name} is {'current' if state.current else 'not current'} for {group}: {state.current_reason}"
            )
        was = before.gated if before else ""
        if bool(was) != bool(state.gated):
            lines.append(
                f"{name} gets no users for {group}: it {state.gated}"
                if state.gated
                else f"{name} has again all that {group} requires"
            )
        lines += _pending_sentences(name, group, before, state)
    return lines


PREFIXES_TOLD_MAX = 5
"""Of one site and moment; a bulk import must not push everything else out of the tail."""


def _pending_sentences(name: str, group: str, old: GroupView | None, new: GroupView) -> list[str]:
    before = old.pending.keys() if old else set()
    late = sorted(new.pending.keys() - before)[:PREFIXES_TOLD_MAX]
    done = sorted(before - new.pending.keys())[:PREFIXES_TOLD_MAX]
    return [
        *(f"{group}:{show_path(prefix)} has a change that has not landed at {name}" for prefix in late),
        *(f"{group}:{show_path(prefix)} has landed at {name}" for prefix in done),
    ]
