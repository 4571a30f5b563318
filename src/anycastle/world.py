"""Builds the next View from what the parts know, and says whether it is worse than the last.

Laws: pure, so one set of facts gives one view; a member that lost everybody keeps its last picture of the others and
speaks anew only of itself (design section 7: it freezes what it knew, and leaves itself out by not being current).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from anycastle.health.judge import Judgement
from anycastle.health.view import GroupView, Health, SiteView, View
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
