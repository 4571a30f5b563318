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
from anycastle.replicator.acquaintance import Acquaintance
from anycastle.replicator.coarse import Marks
from anycastle.replicator.intake import Intake
from anycastle.replicator.memory import Memory
from anycastle.replicator.pursuit import Pursuit
from anycastle.replicator.reception import Reception
from anycastle.replicator.stable import Stable
from tests.replicator.sim import scenario, world
from tests.replicator.sim.disk import GROUP, Disk
from tests.replicator.sim.member import Member
from tests.replicator.sim.profile import Profile, draw, draw_destruction


@dataclass(frozen=True, slots=True)
class Mutant:
    """One rule less."""

    rule: str
    without: str
    patches: tuple[tuple[Any, str, Any], ...] = ()
    member: type[Member] = Member
    joint: bool = True
    roster_change: bool = False
    destruction: bool = False

    def draw(self, seed: int, members: int) -> Profile:
        """A world in which the rule matters."""
        if self.destruction:
            return draw_destruction(seed, members)
        return draw(seed, members, roster_change=self.roster_change, joint=self.joint)

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
            self.later(0.0, self.feed, e.Recorded(GROUP, command.origin, command.upto))


class _SucceedsUnfenced(Member):
    def fence_done(self, head: int) -> bool:
        return True


class _SucceedsUncopied(Member):
    def copied(self, head: int) -> bool:
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


class _NumbersAtOnce(Member):
    """Adds to its own journal as soon as it is current."""

    def may_journal(self) -> bool:
        return True


def _unheard(pursuit: Any, *, now: float) -> frozenset[str]:
    return frozenset().union(*pursuit._rosters)


def _any_answer(memory: Any, member: str, sent: float, recorded: Any, **said: Any) -> None:
    _answered(memory, member, sent, recorded, **{**said, "votes": True})


def _durable_only(intake: Any, journal: Any) -> tuple[int, int]:
    return intake.detailed.get(journal), intake.recorded.get(journal)


def _disowned_later(acquaintance: Any, *args: Any, **kwargs: Any) -> None:
    _init(acquaintance, *args, **{**kwargs, "forget": lambda: None})


def _propose_alone(stable: Any, group: str, own: Any, others: Any, *, now: float) -> None:
    _propose(stable, group, own, frozenset(), now=now)


def _seen_at_once(stable: Any, member: str, *_: Any) -> None:
    for proposal in filter(None, stable._proposals.values()):
        proposal.seen.add(member)


def _bury_all(disk: Any, recorded: Any, alive: Any) -> None:
    _bury(disk, dict.fromkeys(disk.heads, 2**32), alive)


def _superseded_landed(disk: Any) -> Any:
    with patch.object(disk, "overtaken", {}):
        return _landed_upto(disk)


_answered, _init, _bury, _propose = Memory.answered, Acquaintance.__init__, Disk.bury, Stable._propose
_landed_upto = Disk.landed_upto

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
    "success_uncopied": Mutant(
        "6", "success waits for as many copies as the group wants", member=_SucceedsUncopied, destruction=True
    ),
    "superseded_is_copied": Mutant(
        "6",
        "what was superseded before it landed is no copy",
        ((Disk, "landed_upto", _superseded_landed),),
        destruction=True,
    ),
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
    "lost_votes_at_once": Mutant(
        "lost", "a lost ledger does not vote", ((Memory, "votes", lambda *_: True), (Memory, "reason", lambda *_: ""))
    ),
    "forgotten_answers_count": Mutant(
        "lost", "only who forgot nothing itself makes another remember", ((Memory, "answered", _any_answer),)
    ),
    "acks_outlive_their_giver": Mutant(
        "lost", "an ack counts for a term after its giver was heard", ((Pursuit, "_heard", _unheard),)
    ),
    "lost_numbers_at_once": Mutant("lost", "no numbering before all others were heard", member=_NumbersAtOnce),
    "lost_is_no_stranger": Mutant(
        "lost",
        "who knew another ledger says so till nothing is missing",
        ((Acquaintance, "_missing", lambda *_: False),),
    ),
    "lost_is_waited_for": Mutant(
        "lost", "what nobody has of the own journal is passed over", ((Memory, "lost", lambda *_: {}),)
    ),
    "lost_may_turn_up": Mutant(
        "lost", "what is on its way to a disk is not lost", ((Intake, "may_hold", _durable_only),)
    ),
    "disowned_votes": Mutant(
        "put back", "who is disowned has forgotten at once", ((Acquaintance, "__init__", _disowned_later),)
    ),
    "told_is_not_compared": Mutant(
        "put back",
        "a ledger that holds less than was told is another",
        ((Acquaintance, "_holds_less", lambda *_: False),),
    ),
    "absent_takes_holes": Mutant(
        "compaction", "holes only for who compares", ((Reception, "_may_skip", lambda *_: True),)
    ),
    "listing_beyond_record": Mutant(
        "compaction", "a listing says nothing of what the other has not recorded", ((Disk, "bury", _bury_all),)
    ),
    "cut_before_landed": Mutant(
        "compaction",
        "a delete goes when all have done it",
        ((Stable, "_propose", _propose_alone),),
    ),
    "cut_not_asked_again": Mutant(
        "compaction", "nobody holds an older entry of what goes", ((Stable, "granted", _seen_at_once),)
    ),
    "clock_jump_ignored": Mutant("clocks", "a jump drops all leases", member=_IgnoresJumps),
}
