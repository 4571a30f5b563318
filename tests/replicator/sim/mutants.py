"""The rules of design section 5, each taken away: what is left must be caught by the simulator.

Nothing in the product knows of this. A mutant replaces one small function of the cores, or overrides what a simulated
shell does with a command, for as long as it is applied.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar
from unittest.mock import patch

from anycastle.replicator import controller, fence, gate
from anycastle.replicator import event as e
from anycastle.replicator.coarse import Marks
from tests.replicator.sim import scenario, world
from tests.replicator.sim.disk import GROUP
from tests.replicator.sim.member import Member


@dataclass(frozen=True, slots=True)
class Mutant:
    """One rule less."""

    rule: str
    without: str
    patches: tuple[tuple[Any, str, Any], ...] = ()
    member: type[Member] = Member
    joint: bool = True
    roster_change: bool = False

    @contextmanager
    def applied(self) -> Iterator[None]:
        """As long as this lasts, every new world is without the rule."""
        patchers = [patch.object(where, name, new) for where, name, new in self.patches]
        for patcher in patchers:
            patcher.start()
        try:
            yield
        finally:
            for patcher in patchers:
                patcher.stop()


def _accept(change: Callable[[Any, dict[str, Any]], None]) -> Any:
    accept = fence.Leases.accept

    def changed(self: Any, grantor: str, **grant: Any) -> str:
        change(self, grant)
        return accept(self, grantor, **grant)

    return changed


def _from_receipt(_: Any, grant: dict[str, Any]) -> None:
    grant["sent"] = grant["now"]


def _any_incarnation(leases: Any, grant: dict[str, Any]) -> None:
    grant["incarnation"] = leases._incarnation


def _no_unknown(grants: Any, *, term_seconds: float, now: float) -> None:
    grants._term_seconds, grants._given, grants._unknown_until = term_seconds, {}, -math.inf


def _one_vote_less(_: Any, roster: frozenset[str], ends: dict[str, float]) -> float:
    votes = sorted((ends.get(member, -math.inf) for member in roster), reverse=True)
    return votes[max(0, len(roster) // 2 - 1)]


def _majority_only(rosters: fence.Rosters, acknowledged: Any, *, now: float) -> str:
    few = any(len(roster & acknowledged.keys()) < fence.majority(roster) for roster in rosters)
    return "no majority" if few else ""


class _JudgesWith(Member):
    facts: ClassVar[dict[str, Any]] = {}

    def judge(self, **facts: Any) -> gate.Verdict:
        return gate.verdict(**{**facts, **self.facts})


def _judging(**facts: Any) -> type[Member]:
    return type("Judging", (_JudgesWith,), {"facts": facts})


class _AcksEarly(Member):
    """Says that entries are durable as soon as they arrive."""

    def _carry_out(self, command: e.Command) -> None:
        super()._carry_out(command)
        if isinstance(command, e.Record):
            self.later(0.0, self.feed, e.Recorded(GROUP, command.origin, command.entries[-1].seq))


class _SucceedsUnfenced(Member):
    def fence_done(self, head: int) -> bool:
        return True


class _WritesAnywhere(Member):
    def may_write(self, **_: Any) -> None:
        return None


class _WritesBelowMarks(Member):
    def may_write(self, **facts: Any) -> Any:
        return gate.write_verdict(**{**facts, "uncovered": None})


class _IgnoresJumps(Member):
    def feed(self, event: e.Event) -> None:
        if not isinstance(event, e.ClockJumped):
            super().feed(event)


MUTANTS = {
    "lease_from_receipt": Mutant(
        "1", "a lease counts from sending the request", ((fence.Leases, "accept", _accept(_from_receipt)),)
    ),
    "lease_undrifted": Mutant(
        "1",
        "a lease ends early by the drift",
        ((fence, "lease_ends", lambda sent, *, term_seconds, drift: sent + term_seconds),),
    ),
    "lease_any_incarnation": Mutant(
        "1", "only for a request of this incarnation", ((fence.Leases, "accept", _accept(_any_incarnation)),)
    ),
    "lease_without_vector": Mutant(
        "1", "only while V covers the vector of the grant", ((fence, "covers", lambda mine, theirs: True),)
    ),
    "minority": Mutant("2", "a majority of leases", ((fence.Leases, "_roster_until", _one_vote_less),)),
    "ack_before_durable": Mutant("3", "durable before acknowledged", member=_AcksEarly),
    "ack_forgets_grants": Mutant(
        "3", "the ack tells of older grants", ((fence.Grants, "out_until", lambda *_, **__: {}),)
    ),
    "restart_forgets_grants": Mutant(
        "3", "after a restart one full term for everybody", ((fence.Grants, "__init__", _no_unknown),)
    ),
    "no_wait": Mutant("4", "older leases are waited out", ((fence, "obstacle", _majority_only),)),
    "unstretched": Mutant(
        "4",
        "waiting is stretched by the drift",
        ((controller, "stretched", lambda now, seconds, *, drift: now + seconds),),
    ),
    "reads_below_marks": Mutant("4", "nothing is served below a coarse mark", member=_judging(uncovered=None)),
    "marks_forgotten": Mutant(
        "4", "a coarse mark is kept until its details are here", ((Marks, "add", lambda self, mark: None),)
    ),
    "writes_below_marks": Mutant("6", "no write where details are missing", member=_WritesBelowMarks),
    "serve_not_current": Mutant("5", "only a current site serves", member=_judging(currency="")),
    "serve_unfenced": Mutant("5", "nothing is shown before it is fenced", member=_judging(fenced=True)),
    "serve_not_landed": Mutant("5", "only what has landed is served", member=_judging(landed_here=True)),
    "serve_unnoticed": Mutant("5", "one stat: the disk is as recorded", member=_judging(disk_as_recorded=True)),
    "success_unfenced": Mutant("6", "success waits for the fence", member=_SucceedsUnfenced),
    "write_not_current": Mutant("6", "only a current site takes writes", member=_WritesAnywhere),
    "roster_direct": Mutant(
        "8",
        "both majorities while the roster changes",
        (
            (world, "rosters_compatible", lambda *_: ""),
            (scenario, "during", lambda old, new, *, moved: (new,) if moved else (old,)),
        ),
        joint=False,
        roster_change=True,
    ),
    "clock_jump_ignored": Mutant("clocks", "a jump drops all leases", member=_IgnoresJumps),
}
