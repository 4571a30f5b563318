"""What one view says of a name's candidate sites, whoever asks: who is withheld, who is loaded, how long it holds.

Law: eligibility is `health.view.withheld`, and nothing here second-guesses it. The time to live is the name's longest
only while nothing about its candidates is about to change, and says what it was shortened for.
"""

import math
from dataclasses import dataclass

from anycastle.dns.rank import Load, load_of
from anycastle.dns.settings import SteeredName, SteeredSite
from anycastle.health.view import ALL_GROUPS, Health, SiteView, View, pending_since, withheld

RECENT_SECONDS = 120.0
"""A site whose health changed this lately may well change again: resolvers are asked to come back soon."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The candidates of one name and content prefix at one moment."""

    rule: SteeredName
    candidates: tuple[SteeredSite, ...]
    barred: dict[str, str]
    """Site -> why it is withheld."""
    badness: dict[str, int]
    """How bad each withheld site is; the least is the best of the bad."""
    loads: dict[str, Load]
    ttl: int
    """Seconds."""
    ttl_reason: str
    frozen_for: str
    """The member whose view this is, when it has lost everybody and only remembers the others; else empty."""
    until: float
    """When time alone may change any of this, in seconds of the view's clock."""

    @property
    def eligible(self) -> tuple[SteeredSite, ...]:
        """Those that are not withheld."""
        return tuple(site for site in self.candidates if site.name not in self.barred)


def stand(rule: SteeredName, prefix: bytes, candidates: tuple[SteeredSite, ...], view: View, *, now: float) -> Standing:
    """Judges each candidate once. O(candidates and what is pending at each)."""
    states = {site.name: view.sites[site.name] for site in candidates if site.name in view.sites}
    barred = {site.name: why for site in candidates if (why := _withheld(rule, prefix, site.name, view, now=now))}
    loads = {site.name: load_of(site, states[site.name].load) for site in candidates if site.name in states}
    pending = in_flight(rule, prefix, candidates, view)
    restless = _restless(barred, len(candidates), loads, states, pending, view, now)
    changes = [since + rule.grace_seconds for since in pending.values()]
    changes += [state.since + RECENT_SECONDS for state in states.values()]
    return Standing(
        rule=rule,
        candidates=candidates,
        barred=barred,
        badness={name: _badness(states.get(name), rule.group) for name in barred},
        loads=loads,
        ttl=rule.ttl_min_seconds if restless else rule.ttl_max_seconds,
        ttl_reason=f"shortest: {restless}" if restless else "longest: no candidate is about to change",
        frozen_for=view.member if view.isolated else "",
        until=min((change for change in changes if change > now), default=math.inf),
    )


def _withheld(rule: SteeredName, prefix: bytes, site: str, view: View, *, now: float) -> str:
    """`health.view.withheld`, and for names without content: a member that lost everybody leaves itself out."""
    why = withheld(view, site, rule.group, prefix, grace_seconds=rule.grace_seconds, now=now)
    if why or not view.isolated or site != view.member:
        return why
    stale = [name for name, content in view.sites[site].groups.items() if not content.current]
    return f"has lost every other member, and is not current for {', '.join(sorted(stale))}" if stale else ""


def in_flight(rule: SteeredName, prefix: bytes, candidates: tuple[SteeredSite, ...], view: View) -> dict[str, float]:
    """Site that is up -> since when something below the prefix has not landed there, grace or no grace."""
    found: dict[str, float] = {}
    if rule.group is None:
        return found
    for site in candidates:
        state = view.sites.get(site.name)
        content = state.groups.get(rule.group) if state is not None and state.health is Health.UP else None
        since = pending_since(content.pending, prefix) if content is not None else None
        if since is not None:
            found[site.name] = since
    return found


def _restless(
    barred: dict[str, str],
    candidates: int,
    loads: dict[str, Load],
    states: dict[str, SiteView],
    pending: dict[str, float],
    view: View,
    now: float,
) -> str:
    """What is about to change; empty when nothing is."""
    if len(barred) == candidates:
        return "no site is eligible"
    if view.isolated:
        return f"{view.member} has lost every other member and answers from memory"
    for site, load in loads.items():
        if load.text and site not in barred:
            return f"{site} sheds load"
    for site in pending:
        return f"a change under this content is on its way to {site}"
    for site, state in states.items():
        if now < state.since + RECENT_SECONDS:
            return f"{site} has been {state.health.value} for only {max(0.0, now - state.since):.0f} s"
    return ""


def _badness(state: SiteView | None, group: str | None) -> int:
    """The best of the bad can still get the right content to a user, by its edge forwarding or waiting.

    0 up and current, but something has not landed; 1 up, not current (its edge forwards if it can) or gated;
    2 up, but drained, so an operator is at work there; 3 health unknown; 4 down, or never heard of.
    """
    if state is None or state.health is Health.DOWN:
        return 4
    if state.health is Health.UNKNOWN:
        return 3
    if ALL_GROUPS in state.drained or (group is not None and group in state.drained):
        return 2
    content = state.groups.get(group) if group is not None else None
    return 0 if content is not None and content.current and not content.gated else 1
