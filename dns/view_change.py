"""What is different between two views, small enough to be told to the workers a thousand times a second.

Law: `applied(old, difference(old, new)) == new`, and what did not change stays the very same object.
"""

import msgspec

from anycastle.health.view import GroupView, Health, SiteView, View


class GroupChange(msgspec.Struct, frozen=True, array_like=True):
    """One group at one site."""

    current: bool
    current_reason: str
    pending: dict[bytes, float]
    """Content prefixes that are pending now and were not, or not since then."""
    landed: list[bytes]
    """Content prefixes that are pending no more."""
    gated: str = ""


class SiteChange(msgspec.Struct, frozen=True, array_like=True):
    """One site."""

    site: SiteView
    """Without its groups."""
    groups: dict[str, GroupChange]
    lost: list[str]
    """Groups that it holds no more."""


class ViewChange(msgspec.Struct, frozen=True, array_like=True):
    """From one view to a later one of the same member."""

    member: str
    generation: int
    at: float
    isolated: bool
    sites: dict[str, SiteChange]
    lost: list[str]
    """Sites that are in the view no more."""


def without_itself(view: View, *, now: float) -> View:
    """The view when the member that built it is not heard of any more: nothing is known of its own site."""
    own = view.sites.get(view.member)
    if own is None:
        return view
    unknown = msgspec.structs.replace(own, health=Health.UNKNOWN, reason="its member has fallen silent", since=now)
    return msgspec.structs.replace(view, sites=view.sites | {view.member: unknown})


def difference(old: View, new: View) -> ViewChange:
    """What makes `new` of `old`. O(what is pending at the sites that changed)."""
    return ViewChange(
        member=new.member,
        generation=new.generation,
        at=new.at,
        isolated=new.isolated,
        sites={
            name: _site_difference(old.sites.get(name), site)
            for name, site in new.sites.items()
            if old.sites.get(name) != site
        },
        lost=[name for name in old.sites if name not in new.sites],
    )


def _site_difference(old: SiteView | None, new: SiteView) -> SiteChange:
    before = old.groups if old is not None else {}
    return SiteChange(
        site=msgspec.structs.replace(new, groups={}),
        groups={
            name: _group_difference(before.get(name), group)
            for name, group in new.groups.items()
            if before.get(name) != group
        },
        lost=[name for name in before if name not in new.groups],
    )


def _group_difference(old: GroupView | None, new: GroupView) -> GroupChange:
    before = old.pending if old is not None else {}
    return GroupChange(
        current=new.current,
        current_reason=new.current_reason,
        pending={prefix: since for prefix, since in new.pending.items() if before.get(prefix) != since},
        landed=[prefix for prefix in before if prefix not in new.pending],
        gated=new.gated,
    )


def applied(old: View, change: ViewChange) -> View:
    """The view after the change."""
    sites = {name: site for name, site in old.sites.items() if name not in change.lost}
    sites.update((name, _site_applied(sites.get(name), site)) for name, site in change.sites.items())
    return View(member=change.member, generation=change.generation, at=change.at, sites=sites, isolated=change.isolated)


def _site_applied(old: SiteView | None, change: SiteChange) -> SiteView:
    before = old.groups if old is not None else {}
    groups = {name: group for name, group in before.items() if name not in change.lost}
    groups.update((name, _group_applied(before.get(name), group)) for name, group in change.groups.items())
    return msgspec.structs.replace(change.site, groups=groups)


def _group_applied(old: GroupView | None, change: GroupChange) -> GroupView:
    pending = dict(old.pending) if old is not None else {}
    for prefix in change.landed:
        pending.pop(prefix, None)
    pending.update(change.pending)
    return GroupView(current=change.current, current_reason=change.current_reason, pending=pending, gated=change.gated)
