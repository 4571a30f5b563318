"""Which steered names a change of the view touches: theirs are the only decisions and answers made anew.

Law: a name that is not touched stands after the change as it stood before (`standing.stand`), but for texts that only
people read. Time is another matter: what it changes is in `Standing.until`.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from anycastle.dns.rank import load_of
from anycastle.dns.settings import SteeredSite
from anycastle.dns.view_change import GroupChange, SiteChange, ViewChange
from anycastle.health.view import GroupView, SiteView, View


@dataclass(frozen=True, slots=True)
class Touched:
    """What of the world is different."""

    everything: bool
    sites: frozenset[str]
    """Something but their content is different: every name that may use them is touched."""
    groups: frozenset[tuple[str, str]]
    """(site, group): currency or gate is different; every name of the group that may use the site is touched."""
    prefixes: dict[str, frozenset[bytes]]
    """Group -> content prefixes that became pending or landed somewhere."""

    def touches(self, group: str | None, prefix: bytes, candidates: Iterable[str]) -> bool:
        """Whether a name of this content, that may use these sites, is to be decided anew."""
        if self.everything:
            return True
        if self.sites and not self.sites.isdisjoint(candidates):
            return True
        if group is None:
            return False
        if self.groups and any((site, group) in self.groups for site in candidates):
            return True
        return any(key.startswith(prefix) or prefix.startswith(key) for key in self.prefixes.get(group, ()))


def touched(old: View, change: ViewChange, sites: dict[str, SteeredSite]) -> Touched:
    """What is different after `change`; `sites` are those of the steering, for the marks of their load."""
    known = {name: (old.sites.get(name), site) for name, site in change.sites.items() if name in sites}
    prefixes: dict[str, set[bytes]] = {}
    for site in change.sites.values():
        for group, content in site.groups.items():
            prefixes.setdefault(group, set()).update(content.pending, content.landed)
    return Touched(
        # Alone or not: then each standing is judged in another way, by the member's own groups too.
        everything=change.isolated or old.isolated,
        sites=frozenset(change.lost).union(
            name for name, (before, site) in known.items() if before is None or _moved(before, site, sites[name])
        ),
        groups=frozenset(
            (name, group)
            for name, (before, site) in known.items()
            if before is not None
            for group, content in site.groups.items()
            if group not in before.groups or _counts(before.groups[group]) != _counts(content)
        )
        | frozenset((name, group) for name, (_, site) in known.items() for group in site.lost),
        prefixes={group: frozenset(keys) for group, keys in prefixes.items()},
    )


def _counts(group: GroupView | GroupChange) -> tuple[bool, bool]:
    """Of a group at a site, what decides whatever the content."""
    return group.current, bool(group.gated)


def _moved(old: SiteView, change: SiteChange, marks: SteeredSite) -> bool:
    """Whether more than texts, content and what the site announces is different."""
    new = change.site
    return (old.health, old.since, old.drained) != (new.health, new.since, new.drained) or load_of(
        marks, old.load
    ) != load_of(marks, new.load)
