"""One step of the announcer as a pure function: a view and what is remembered in, what routers are told next out.

Law: the dry run is this function and nothing else, so that what it prints is what would happen. The line:
`route.wanted` → `restrain.frozen` → `restrain.limited` → `damp.damp` → `route.plan`. A step walks it for those rules
only that could be decided differently than in the last step; what it costs beside grows with policies and sites, not
with routes. `tests/bgp/test_decide.py` compares it with walking it for all.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from anycastle.bgp import damp, restrain, route
from anycastle.bgp.restrain import Freeze, LimitMemory
from anycastle.bgp.route import Cause, Change, Plan, Refusal, RouteMemory, RouteState, Situation, Wanted
from anycastle.bgp.settings import BgpSettings, Prefix, RouteRule
from anycastle.health.view import View


@dataclass(frozen=True, slots=True)
class Basis:
    """What the decisions of the last step were made from."""

    rules: Mapping[Prefix, RouteRule]
    alike: tuple[tuple[RouteRule, ...], ...]
    """The rules in groups that differ in their prefix only, so that one look at the view does for all of a group."""
    situations: tuple[Situation, ...]
    """Of each group."""
    freeze: Freeze | None
    restless: frozenset[Prefix]
    """Decided differently than told, or on the way to it: these are looked at with every other that is."""
    wake: float
    """From when on (seconds, BOOTTIME) time alone may change a restless one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What the next step needs to know of all before."""

    told: Mapping[Prefix, Wanted] = field(default_factory=dict)
    """What routers are told now, for every rule, sorted by prefix; empty before the first step."""
    news: tuple[Wanted, ...] = ()
    """What the last step changed of `told`, reasons included."""
    freeze: Freeze | None = None
    memory: route.Memory = field(default_factory=lambda: route.NO_MEMORY)
    limit: LimitMemory = restrain.NOTHING_PASSED
    damping: damp.Memory = field(default_factory=lambda: damp.NO_MEMORY)
    basis: Basis | None = None
    """None before the first step: all rules are decided."""


def step(
    settings: BgpSettings, view: View, nameserver_reason: str, state: State, *, accept: bool = False, now: float
) -> tuple[State, Plan]:
    """The state after it, and what changed.

    `nameserver_reason` is why the local DNS server is unwell, empty when it is well; `accept` is explained at
    `restrain.limited`.
    """
    basis = _look(settings, view, nameserver_reason, state, now=now)
    due = _due(state, basis, accept=accept, now=now)
    if not due:
        return replace(state, basis=basis, news=()), _NOTHING
    wanted, memory = route.wanted(view, due, settings.member, nameserver_reason, state.memory, now=now)
    before = tuple(state.told[decision.prefix] for decision in wanted if decision.prefix in state.told)
    allowed, limit = restrain.limited(
        restrain.frozen(wanted, state.freeze),
        {decision.prefix: decision.state for decision in before},
        state.limit,
        routes=len(basis.rules),
        changes_max=settings.changes_max,
        accept=accept,
        now=now,
    )
    told, damping = damp.damp(allowed, state.damping, {rule.prefix: rule.hold_down_seconds for rule in due}, now=now)
    news = tuple(decision for decision in told if state.told.get(decision.prefix) != decision)
    after = replace(
        state,
        told={**state.told, **{decision.prefix: decision for decision in news}} if news else state.told,
        news=news,
        memory={**state.memory, **route.remember_announced(memory, told)},
        limit=limit,
        damping={**state.damping, **damping},
    )
    return replace(after, basis=_settle(basis, state, after, wanted, now=now)), _plan(settings, before, wanted, told)


def _look(settings: BgpSettings, view: View, nameserver_reason: str, state: State, *, now: float) -> Basis:
    """The basis of this step, so far as the view goes."""
    before = state.basis
    if before is None:
        rules = {rule.prefix: rule for rule in settings.rules}
        alike: dict[RouteRule, list[RouteRule]] = {}
        for rule in settings.rules:
            alike.setdefault(replace(rule, prefix=settings.rules[0].prefix, addresses=()), []).append(rule)
        before = Basis(rules, tuple(map(tuple, alike.values())), (), state.freeze, frozenset(rules), -math.inf)
    situations = tuple(
        route.situation(view, rules[0], settings.member, nameserver_reason, last, now=now)
        for rules, last in zip(before.alike, before.situations or (None,) * len(before.alike), strict=True)
    )
    return replace(before, situations=situations)


def _due(state: State, basis: Basis, *, accept: bool, now: float) -> tuple[RouteRule, ...]:
    """The rules that this step decides: all restless ones as soon as there is any."""
    before = state.basis
    if before is None or accept or before.freeze is not state.freeze:
        return tuple(basis.rules.values())
    looked = zip(basis.alike, before.situations, basis.situations, strict=True)
    moved = [rule for rules, old, new in looked if old != new for rule in rules]
    if not moved and now < basis.wake:
        return ()
    return tuple({rule.prefix: rule for rule in (*moved, *(basis.rules[p] for p in basis.restless))}.values())


def _settle(basis: Basis, before: State, after: State, wanted: Iterable[Wanted], *, now: float) -> Basis:
    """What was decided and is not told, what has just changed, what is on its way: and when it is to be asked again."""
    restless, wake = set(), math.inf
    for decision in wanted:
        prefix = decision.prefix
        memory, damping = after.memory[prefix], after.damping[prefix]
        if memory != before.memory.get(prefix) or damping != before.damping.get(prefix):
            wake = -math.inf  # once more with what is now remembered
        elif after.told[prefix].state is not decision.state and damping.held_until > now:
            wake = min(wake, damping.held_until)
        elif memory.drained_since is not None and decision.announced:
            wake = min(wake, memory.drained_since + basis.rules[prefix].drain_seconds)
        elif after.told[prefix].state is decision.state:
            continue
        restless.add(prefix)
    if after.limit.message and after.limit.passed:
        wake = min(wake, after.limit.passed[0] + restrain.WINDOW_SECONDS)
    return replace(basis, freeze=after.freeze, restless=frozenset(restless), wake=wake)


_NOTHING = Plan(changes=(), held=())


def as_seen(settings: BgpSettings, view: View) -> State:
    """For a dry run of a file: the state of a site that announces, as normal, what `view` says that it announces."""
    own = view.sites.get(settings.member)
    announced = own.announced if own is not None else frozenset()
    why, prefixes = "announced in the given view", [r.prefix for r in settings.rules if str(r.prefix) in announced]
    return State(
        told={p: Wanted(prefix=p, state=RouteState.NORMAL, reason=why, cause=Cause.MEASURED) for p in prefixes},
        memory={p: RouteMemory(announced=True) for p in prefixes},
        damping={p: damp.DampMemory(state=RouteState.NORMAL) for p in prefixes},
    )


def _plan(
    settings: BgpSettings, before: tuple[Wanted, ...], wanted: tuple[Wanted, ...], told: tuple[Wanted, ...]
) -> Plan:
    states = {decision.prefix: decision.state for decision in before}
    if all(decision.state is states.get(decision.prefix) for decision in (*wanted, *told)):
        return _NOTHING
    by_prefix = {decision.prefix: decision for decision in told}
    held = tuple(
        replace(change, reason=by_prefix[change.prefix].reason)
        for change in _changes(settings, before, wanted)
        if by_prefix[change.prefix].state is not change.state
    )
    return Plan(changes=_changes(settings, before, by_prefix.values()), held=held)


def _changes(settings: BgpSettings, before: Iterable[Wanted], after: Iterable[Wanted]) -> tuple[Change, ...]:
    changes = route.plan(before, after, routes_max=settings.routes_max)
    assert not isinstance(changes, Refusal), "all rules together were accepted at the start"
    return changes
