"""One step of the announcer as a pure function: a view and what is remembered in, what routers are told next out.

Law: the dry run is this function and nothing else, so that what it prints is what would happen. The line:
`route.wanted` → `restrain.frozen` → `restrain.limited` → `damp.damp` → `route.plan`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from anycastle.bgp import damp, restrain, route
from anycastle.bgp.restrain import Freeze, LimitMemory
from anycastle.bgp.route import Cause, Change, Plan, Refusal, RouteMemory, RouteState, Wanted
from anycastle.bgp.settings import BgpSettings
from anycastle.health.view import View


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What the next step needs to know of all before."""

    told: tuple[Wanted, ...] = ()
    """What routers are told now, for every rule; empty before the first step."""
    freeze: Freeze | None = None
    memory: route.Memory = field(default_factory=lambda: route.NO_MEMORY)
    limit: LimitMemory = restrain.NOTHING_PASSED
    damping: damp.Memory = field(default_factory=lambda: damp.NO_MEMORY)


def step(
    settings: BgpSettings, view: View, nameserver_reason: str, state: State, *, accept: bool = False, now: float
) -> tuple[State, Plan]:
    """The state after it, and what changed.

    `nameserver_reason` is why the local DNS server is unwell, empty when it is well; `accept` is explained at
    `restrain.limited`.
    """
    wanted, memory = route.wanted(view, settings.rules, settings.member, nameserver_reason, state.memory, now=now)
    allowed, limit = restrain.limited(
        restrain.frozen(wanted, state.freeze),
        {decision.prefix: decision.state for decision in state.told},
        state.limit,
        changes_max=settings.changes_max,
        accept=accept,
        now=now,
    )
    hold_down = {rule.prefix: rule.hold_down_seconds for rule in settings.rules}
    told, damping = damp.damp(allowed, state.damping, hold_down, now=now)
    after = replace(state, told=told, memory=route.remember_announced(memory, told), limit=limit, damping=damping)
    return after, _plan(settings, state.told, wanted, told)


_NOTHING = Plan(changes=(), held=())


def as_seen(settings: BgpSettings, view: View) -> State:
    """For a dry run of a file: the state of a site that announces, as normal, what `view` says that it announces."""
    own = view.sites.get(settings.member)
    announced = own.announced if own is not None else frozenset()
    told = tuple(
        Wanted(prefix=rule.prefix, state=RouteState.NORMAL, reason="announced in the given view", cause=Cause.MEASURED)
        for rule in settings.rules
        if str(rule.prefix) in announced
    )
    return State(
        told=told,
        memory={decision.prefix: RouteMemory(announced=True) for decision in told},
        damping={decision.prefix: damp.DampMemory(state=decision.state) for decision in told},
    )


def _plan(
    settings: BgpSettings, before: tuple[Wanted, ...], wanted: tuple[Wanted, ...], told: tuple[Wanted, ...]
) -> Plan:
    states = {decision.prefix: decision.state for decision in before}
    if all(decision.state is states.get(decision.prefix) for decision in (*wanted, *told)):
        return _NOTHING  # as nearly always, and this is asked twice a second
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
