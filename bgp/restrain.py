"""What may not change now, because an operator froze the routes or because too much would get worse at once.

Law: pure. What was decided goes in with what routers are told now, what may be told comes out, each difference with its
reason. An operator's drain goes through both. The limit holds up only what was measured: never a nameserver's route,
never the withdrawal of a site that could not serve (`Cause`).
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from anycastle.bgp.route import BgpError, Cause, RouteState, Wanted, badness, parse_prefix
from anycastle.bgp.settings import Prefix

WINDOW_SECONDS = 60.0
"""Changes within this count as "at once": probes and members do not all notice one fault in the same second."""
REASON_CHARACTERS_MAX = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Freeze:
    """An operator's word that nothing changes; kept over restarts."""

    reason: str
    wall: float
    """Since when, seconds of wall time: it outlives the boot."""
    states: Mapping[Prefix, RouteState]
    """What routers were told then; what is not here stays withdrawn."""

    def encode(self) -> bytes:
        states = {str(prefix): state.value for prefix, state in self.states.items()}
        return json.dumps({"reason": self.reason, "wall": self.wall, "states": states}).encode()


def decode_freeze(data: bytes) -> Freeze | None:
    """The reverse of `Freeze.encode`, None for nothing. Raises `BgpError`."""
    if not data:
        return None
    try:
        found = json.loads(data)
        states = {parse_prefix(prefix): RouteState(state) for prefix, state in found["states"].items()}
        return Freeze(reason=str(found["reason"]), wall=float(found["wall"]), states=states)
    except (ValueError, KeyError, TypeError, AttributeError, BgpError) as error:
        raise BgpError(
            f"the kept freeze of routes cannot be read ({error}): expected what `anycastle freeze` kept"
        ) from None


def frozen(wanted: Iterable[Wanted], freeze: Freeze | None) -> tuple[Wanted, ...]:
    """`wanted` as it was when the operator froze it; drains, which are an operator's word too, still count."""
    if freeze is None:
        return tuple(wanted)
    return tuple(_frozen(decision, freeze) for decision in wanted)


def _frozen(decision: Wanted, freeze: Freeze) -> Wanted:
    state = freeze.states.get(decision.prefix, RouteState.WITHDRAWN)
    if decision.cause is Cause.OPERATOR or state is decision.state:
        return decision
    why = f"frozen by an operator ({freeze.reason}); would be {decision.state.value}: {decision.reason}"
    return replace(decision, state=state, reason=why)


@dataclass(frozen=True, slots=True)
class LimitMemory:
    """What the limit has let through lately, and what it holds up."""

    passed: tuple[float, ...] = ()
    """When routes got worse within the last WINDOW_SECONDS, seconds of BOOTTIME."""
    refused_since: float | None = None
    """Since when something is refused; None while nothing is."""
    message: str = ""
    """What is refused, by how much, and what allows it; empty while nothing is."""


NOTHING_PASSED = LimitMemory()


def limited(
    wanted: Iterable[Wanted],
    told: Mapping[Prefix, RouteState],
    memory: LimitMemory,
    *,
    routes: int,
    changes_max: int | None,
    accept: bool,
    now: float,
) -> tuple[tuple[Wanted, ...], LimitMemory]:
    """`wanted`, of which nothing gets worse when more than `changes_max` routes would within WINDOW_SECONDS.

    `routes` is how many there are; those that stay as they are need not be among `wanted`.

    All of one moment or nothing of it: which of them are to blame, nobody knows. Getting better is never held up here.
    `accept` is the operator's word to let it happen now.
    """
    wanted = tuple(wanted)
    passed = tuple(at for at in memory.passed if now - at < WINDOW_SECONDS)
    worse = frozenset(decision.prefix for decision in wanted if _gets_worse(decision, told))
    total = len(passed) + len(worse)
    if changes_max is None or accept or not worse or total <= changes_max:
        return wanted, LimitMemory(() if accept else passed + (now,) * len(worse))
    message = (
        f"{total} of {routes} routes would get worse within {WINDOW_SECONDS:g} s, changes_max allows "
        f"{changes_max}; `anycastle routes --accept` lets it happen"
    )
    kept = tuple(_kept(d, told[d.prefix]) if d.prefix in worse else d for d in wanted)
    since = memory.refused_since if memory.refused_since is not None else now
    return kept, LimitMemory(passed, since, message)


def _gets_worse(decision: Wanted, told: Mapping[Prefix, RouteState]) -> bool:
    before = told.get(decision.prefix, RouteState.WITHDRAWN)
    return decision.cause is Cause.MEASURED and badness(decision.state) > badness(before)


def _kept(decision: Wanted, state: RouteState) -> Wanted:
    why = f"refused, too many changes at once; would be {decision.state.value}: {decision.reason}"
    return replace(decision, state=state, reason=why)
