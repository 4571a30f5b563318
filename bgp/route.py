"""Which routes this site should announce, and why: rules and one `View` in, one `Wanted` for each rule out.

Law: pure. `now` is an argument, what must be remembered is a value that goes in and comes out. Nothing here knows
ExaBGP, peers or sessions; `anycastle.bgp.damp` slows the result down, `anycastle.bgp.speaker` puts it on the wire.

Design section 7, as a table. "Enough others" means: at least `minimum_sites` other sites report the prefix as
announced, and nothing speaks against them as far as we see; knowing nothing of the others is not enough.

    nameserver rule   local DNS unwell                     -> withdrawn (never anything but the local DNS)
    service rule      lost currency, isolated = "refuse"   -> withdrawn, even as the last site
                      lost currency, isolated = "serve"    -> kept as degraded when announced
                      down, unknown, lagging               -> never announced anew;
                                                              announced already and enough others -> withdrawn
                                                              announced already, else             -> degraded
                      nothing of these                     -> normal
    any rule          drained, when it would be announced  -> drained for drain_seconds, then withdrawn
"""

import enum
import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from anycastle.bgp.settings import Prefix, RouteRule
from anycastle.errors import AnycastleError
from anycastle.health.view import ALL_GROUPS, Health, SiteView, View


class BgpError(AnycastleError):
    """The announcer cannot do what it was asked to; the message names what was expected."""


class RouteState(enum.Enum):
    """What the routers are told of a prefix; `anycastle.bgp.exabgp` maps it to attributes."""

    NORMAL = "normal"
    DEGRADED = "degraded"
    DRAINED = "drained"
    WITHDRAWN = "withdrawn"


def badness(state: RouteState) -> int:
    """How much users lose, from 0 (normal) to 2 (withdrawn). A drained route counts as degraded: it is still there."""
    if state is RouteState.NORMAL:
        return 0
    return 2 if state is RouteState.WITHDRAWN else 1


class Cause(enum.Enum):
    """Who decided; `anycastle.bgp.restrain` goes by it."""

    MEASURED = "measured"
    """Health and lag, which may be wrong."""
    REQUIRED = "required"
    """The site could not serve, or the local nameserver speaks: no limit holds it up."""
    OPERATOR = "operator"
    """A drain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The decision for one rule; withdrawn ones are listed too, so that every absence has its reason."""

    prefix: Prefix
    state: RouteState
    reason: str
    cause: Cause = Cause.MEASURED

    @property
    def announced(self) -> bool:
        return self.state is not RouteState.WITHDRAWN


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteMemory:
    """What the next decision about one prefix needs to know of the last one."""

    announced: bool = False
    lagging: bool = False
    """Withheld for lag until the lag is below half of the limit."""
    drained_since: float | None = None
    """Since when (seconds, BOOTTIME) the drain of an announced route runs; None when it is not drained."""


_UNKNOWN = RouteMemory()
Memory = Mapping[Prefix, RouteMemory]
NO_MEMORY: Memory = MappingProxyType({})


def wanted(
    view: View, rules: Iterable[RouteRule], site: str, nameserver_reason: str, memory: Memory, *, now: float
) -> tuple[tuple[Wanted, ...], Memory]:
    """One decision for each rule, sorted by prefix, and the memory for the next call.

    `nameserver_reason` is why the local DNS server is unwell, the empty string when it is well.
    """
    decisions: list[Wanted] = []
    remembered: dict[Prefix, RouteMemory] = {}
    for rule in rules:
        before = memory.get(rule.prefix, _UNKNOWN)
        lagging = _lagging(view.sites.get(site), rule, before.lagging, now=now)
        if lagging is not before.lagging:
            before = replace(before, lagging=lagging)
        if rule.nameserver:
            decision = _nameserver(rule, nameserver_reason)
        else:
            decision = _service(view, rule, site, before, now=now)
        decision, after = _drain(decision, rule, view.sites.get(site), before, now=now)
        decisions.append(decision)
        remembered[rule.prefix] = after
    return tuple(sorted(decisions, key=_order)), MappingProxyType(remembered)


def remember_announced(memory: Memory, shown: Iterable[Wanted]) -> Memory:
    """`memory` corrected by what is really told to the routers, which may be less than was wanted (hold-down)."""
    announced = {decision.prefix: decision.announced for decision in shown}
    return MappingProxyType({p: _announced(m, announced.get(p, m.announced)) for p, m in memory.items()})


def _announced(memory: RouteMemory, announced: bool) -> RouteMemory:
    return memory if memory.announced is announced else replace(memory, announced=announced)


def _nameserver(rule: RouteRule, reason: str) -> Wanted:
    if reason:
        state, why = RouteState.WITHDRAWN, f"local DNS: {reason}"
    else:
        state, why = RouteState.NORMAL, "local DNS is well"
    return Wanted(prefix=rule.prefix, state=state, reason=why, cause=Cause.REQUIRED)


def _service(view: View, rule: RouteRule, site: str, before: RouteMemory, *, now: float) -> Wanted:
    own = view.sites.get(site)
    lost = _currency_lost(own, rule)
    if lost and rule.isolated_refuse:
        return Wanted(prefix=rule.prefix, state=RouteState.WITHDRAWN, reason=lost, cause=Cause.REQUIRED)
    objection = _objection(own, rule, before.lagging, now=now)
    if not objection and not lost:
        return Wanted(prefix=rule.prefix, state=RouteState.NORMAL, reason="up, current and settled")
    if not before.announced:
        return Wanted(prefix=rule.prefix, state=RouteState.WITHDRAWN, reason=objection or lost)
    if not objection:
        return Wanted(prefix=rule.prefix, state=RouteState.DEGRADED, reason=f'{lost}; kept by isolated = "serve"')
    others = sum(str(rule.prefix) in announced for announced in _well_others(view, rule, site, now=now))
    if others >= rule.minimum_sites:
        return Wanted(
            prefix=rule.prefix, state=RouteState.WITHDRAWN, reason=f"{objection}; {others} other sites announce"
        )
    kept = f"kept: {others} other sites announce, minimum_sites is {rule.minimum_sites}"
    return Wanted(prefix=rule.prefix, state=RouteState.DEGRADED, reason=f"{objection}; {kept}")


def _drain(
    decision: Wanted, rule: RouteRule, own: SiteView | None, before: RouteMemory, *, now: float
) -> tuple[Wanted, RouteMemory]:
    """An operator's drain on top of the measured decision: first told to the routers, then carried out."""
    if not _is_drained(own, rule.group):
        if before.drained_since is not None:
            before = replace(before, drained_since=None)
        return decision, _announced(before, decision.announced)
    since = before.drained_since if before.drained_since is not None else now
    if decision.announced and before.announced and now - since < rule.drain_seconds:
        reason = f"drained by an operator, withdrawn {rule.drain_seconds:g} s after that"
        state = RouteState.DRAINED
    else:
        state, reason = RouteState.WITHDRAWN, "drained by an operator"
    shown = Wanted(prefix=rule.prefix, state=state, reason=reason, cause=Cause.OPERATOR)
    return shown, replace(before, announced=shown.announced, drained_since=since)


def _is_drained(own: SiteView | None, group: str | None) -> bool:
    return own is not None and (ALL_GROUPS in own.drained or (group is not None and group in own.drained))


def _currency_lost(own: SiteView | None, rule: RouteRule) -> str:
    """Why the site is not current for the rule's group; empty when it is, or when no group gates the rule."""
    if own is None or rule.group is None:
        return ""
    content = own.groups.get(rule.group)
    if content is None:
        return f"holds no group {rule.group}"
    return "" if content.current else f"not current for {rule.group}: {content.current_reason}"


def _objection(own: SiteView | None, rule: RouteRule, lagging: bool, *, now: float) -> str:
    """What speaks against announcing, besides drain and currency; empty when nothing does."""
    if own is None:
        return "unknown: never heard of"
    if own.health is not Health.UP:
        return f"{own.health.value}: {own.reason}"
    content = own.groups.get(rule.group) if rule.group is not None else None
    if content is not None and content.gated:
        return f"{rule.group} {content.gated}"
    if lagging:
        limit = rule.lag_max_seconds
        return f"{rule.group} lags: by more than {limit:g} s, and not below {limit / 2:g} s since"
    return ""


def _lag(own: SiteView | None, rule: RouteRule, *, now: float) -> float:
    content = own.groups.get(rule.group) if own is not None and rule.group is not None else None
    return content.lag_seconds(now) if content is not None else 0.0


def _lagging(own: SiteView | None, rule: RouteRule, before: bool, *, now: float) -> bool:
    """Hysteresis: over the limit begins it, only below half of the limit (or settled) ends it."""
    lag = _lag(own, rule, now=now)
    if before:
        return lag > 0.0 and lag >= rule.lag_max_seconds / 2
    return lag > rule.lag_max_seconds


def _well_others(view: View, rule: RouteRule, site: str, *, now: float) -> tuple[frozenset[str], ...]:
    """What others announce of whom nothing says that they will not go on doing so.

    A site that is itself unwell does not count: else two sites that fail together would each trust the other and
    both leave. A member that lost everybody knows nothing of the others.
    """
    if view.isolated:
        return ()
    return tuple(
        other.announced
        for name, other in view.sites.items()
        if name != site
        and not _is_drained(other, rule.group)
        and not _currency_lost(other, rule)
        and not _objection(other, rule, _lagging(other, rule, False, now=now), now=now)
    )


@dataclass(frozen=True, slots=True)
class Situation:
    """All of a view that a decision depends on, for rules that differ in their prefix only.

    While it stays equal, a rule is decided as before unless its own memory says otherwise. Times are not in it: lag
    counts by whether it is over its limit.
    """

    lagging: bool
    reasons: tuple[str, ...]
    drained: bool
    others: tuple[frozenset[str], ...] = ()
    """Looked at only where the route may have to leave."""


def situation(
    view: View, rule: RouteRule, site: str, nameserver_reason: str, before: Situation | None, *, now: float
) -> Situation:
    """`before` is what this returned the last time, None at the first."""
    own = view.sites.get(site)
    drained = _is_drained(own, rule.group)
    lagging = _lagging(own, rule, before is not None and before.lagging, now=now)
    if rule.nameserver:
        return Situation(lagging, (nameserver_reason,), drained)
    lost, objection = _currency_lost(own, rule), _objection(own, rule, lagging, now=now)
    others = _well_others(view, rule, site, now=now) if objection else ()
    return Situation(lagging, (lost, objection), drained, others)


class ChangeKind(enum.Enum):
    ANNOUNCE = "announce"
    CHANGE = "change"
    WITHDRAW = "withdraw"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One step from what was told to what is wanted; `str()` is a line of the dry run."""

    kind: ChangeKind
    prefix: Prefix
    state: RouteState
    reason: str

    def __str__(self) -> str:
        return f"{self.kind.value} {self.prefix} ({self.state.value}): {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What would be told next, and what was decided and is not told, with the reason why not."""

    changes: tuple[Change, ...]
    held: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """The plan would be unsafe and nothing of it is done; the message says by how much, and what would allow it."""

    message: str


def plan(previous: Iterable[Wanted], wanted: Iterable[Wanted], *, routes_max: int) -> tuple[Change, ...] | Refusal:
    """The changes that lead from `previous` to `wanted`, sorted by prefix, or why they are refused."""
    wanted = tuple(wanted)
    refusal = _refusal(wanted, routes_max)
    if refusal is not None:
        return refusal
    before = {decision.prefix: decision.state for decision in previous if decision.announced}
    changes = [change for decision in wanted if (change := _change(before.pop(decision.prefix, None), decision))]
    changes += [
        Change(kind=ChangeKind.WITHDRAW, prefix=p, state=RouteState.WITHDRAWN, reason="no rule names it any more")
        for p in before
    ]
    return tuple(sorted(changes, key=_order))


def _change(before: RouteState | None, after: Wanted) -> Change | None:
    if not after.announced:
        kind = ChangeKind.WITHDRAW if before is not None else None
    elif before is None:
        kind = ChangeKind.ANNOUNCE
    else:
        kind = ChangeKind.CHANGE if before is not after.state else None
    if kind is None:
        return None
    return Change(kind=kind, prefix=after.prefix, state=after.state, reason=after.reason)


def _refusal(wanted: tuple[Wanted, ...], routes_max: int) -> Refusal | None:
    announced = sum(decision.announced for decision in wanted)
    if announced > routes_max:
        return Refusal(f"{announced} routes wanted, at most {routes_max} allowed; raise routes_max to announce them")
    prefixes = [decision.prefix for decision in wanted]
    if len(set(prefixes)) != len(prefixes):
        twice = min(str(p) for p in prefixes if prefixes.count(p) > 1)
        return Refusal(f"{twice} is wanted {prefixes.count(ipaddress.ip_network(twice))} times, expected once")
    default = [decision.prefix for decision in wanted if decision.announced and decision.prefix.prefixlen == 0]
    if default:
        return Refusal(f"{default[0]} is a default route, expected a prefix of at least 1 bit; nothing allows it")
    return None


def parse_prefix(text: str) -> Prefix:
    """`text` as a prefix; raises `BgpError` for anything else, host bits included.

    >>> parse_prefix("198.51.100.0/24")
    IPv4Network('198.51.100.0/24')
    """
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise BgpError(f"{text!r} is no prefix, expected one like 198.51.100.0/24 without host bits: {error}") from None


def _order(item: Wanted | Change) -> tuple[int, int, int]:
    return prefix_order(item.prefix)


def prefix_order(prefix: Prefix) -> tuple[int, int, int]:
    """IPv4 before IPv6, then by number: networks of two families do not compare by themselves."""
    return prefix.version, int(prefix.network_address), prefix.prefixlen
