"""Worse at once, better slowly: what is wanted in, what is told to the routers out.

Law: pure, and it only ever shows less than is wanted, never more. After a route got worse (degraded, withdrawn) it does
not get better for the rule's `hold_down_seconds`. Each time it gets worse also spends from a flap budget that refills
with a half-life, a withdrawal twice as much as a change of attributes: beyond the budget every further one doubles the
time, up to a limit, so that a restless site does not get the prefix damped by routers far away (RFC 2439, RFC 7196).
What an operator drained does not count as a flap.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from anycastle.bgp.route import RouteState, Wanted, badness
from anycastle.bgp.settings import Prefix

HALF_LIFE_SECONDS = 900.0
"""The usual half-life of route flap damping in routers (RFC 2439 figures, 15 minutes)."""
FLAP_BUDGET = 2.0
"""Withdrawals that cost the plain hold-down only; twice as many times degraded."""
HOLD_DOWN_MAX_SECONDS = 300.0
"""Doubling ends here: longer would turn damping into an outage of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DampMemory:
    """One prefix: what was told last, and what its withdrawals have cost."""

    state: RouteState = RouteState.WITHDRAWN
    held_until: float = -math.inf
    flaps: float = 0.0
    """Withdrawals, and degradations as halves, each halved every HALF_LIFE_SECONDS, as of `flaps_at`."""
    flaps_at: float = 0.0


_NEW = DampMemory()
Memory = Mapping[Prefix, DampMemory]
NO_MEMORY: Memory = MappingProxyType({})


def damp(
    wanted: Iterable[Wanted], memory: Memory, hold_down_seconds: Mapping[Prefix, float], *, now: float
) -> tuple[tuple[Wanted, ...], Memory]:
    """`wanted`, of which the routes still held down show as they were told last, and the memory for the next call."""
    shown: list[Wanted] = []
    remembered: dict[Prefix, DampMemory] = {}
    for decision in wanted:
        before = memory.get(decision.prefix, _NEW)
        told = _held(decision, before, now=now)
        shown.append(told)
        remembered[decision.prefix] = _after(told, before, hold_down_seconds.get(decision.prefix, 0.0), now=now)
    return tuple(shown), MappingProxyType(remembered)


def flaps_now(memory: DampMemory, *, now: float) -> float:
    """The cost of the past after decay."""
    return memory.flaps * math.exp2(-max(0.0, now - memory.flaps_at) / HALF_LIFE_SECONDS)


def _held(decision: Wanted, before: DampMemory, *, now: float) -> Wanted:
    better = badness(decision.state) < badness(before.state) and before.state is not RouteState.DRAINED
    if not better or now >= before.held_until:
        return decision
    reason = (
        f"held down after {before.flaps:.1f} recent withdrawals; would be {decision.state.value}: {decision.reason}"
    )
    return replace(decision, state=before.state, reason=reason)


def _after(told: Wanted, before: DampMemory, hold_down_seconds: float, *, now: float) -> DampMemory:
    if told.state is before.state:
        return before
    operators = RouteState.DRAINED in (told.state, before.state)
    worse = badness(told.state) - badness(before.state)
    if worse <= 0 or told.state is RouteState.DRAINED:
        return replace(before, state=told.state)
    flaps = flaps_now(before, now=now) + (0.0 if operators else worse / 2)
    doublings = min(16, max(0, math.ceil(flaps - FLAP_BUDGET)))
    held_seconds = max(hold_down_seconds, min(hold_down_seconds * 2**doublings, HOLD_DOWN_MAX_SECONDS))
    return DampMemory(state=told.state, held_until=now + held_seconds, flaps=flaps, flaps_at=now)
