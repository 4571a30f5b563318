"""Leases and fences: who may vouch for content, and from when on nobody can vouch for anything older.

Laws (design section 5, docs/protocol.md): a member that is current has recorded everything that is fenced; a fence that
is complete stays complete. Both stand on bounded clock *rates* only. Everything here errs to the side of waiting: what
is not known counts as a lease that is out. No entry is kept, only vectors and times; groups never touch each other.
"""

import math
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from anycastle.replicator.message import Vectors
from anycastle.replicator.settings import Lease

Rosters = tuple[frozenset[str], ...]
"""One roster, or two while it changes: then every majority must hold in both (rule 8)."""

EVERYBODY = "*"
"""In `Ack.outstanding`: every member that is not named."""
HELD_MAX = 8
"""Grants remembered per member, held or given: a renewal each third of a term leaves three or four unexpired."""
ACKS_MAX = 8
"""Acks remembered per member and journal; enough that a steady stream of writes never starves the oldest fence."""


def majority(roster: frozenset[str]) -> int:
    return len(roster) // 2 + 1


def lease_ends(sent: float, *, term_seconds: float, drift: float) -> float:
    """Rule 1: a lease counts from *sending* the request, and ends early enough for the slowest clock."""
    return sent + term_seconds * (1.0 - drift)


def stretched(now: float, seconds: float, *, drift: float) -> float:
    """Rule 4: when `seconds` of somebody else's clock are certainly over, on ours."""
    return now + seconds * (1.0 + 2.0 * drift)


def covers(mine: Mapping[str, int], theirs: Mapping[str, int]) -> bool:
    """Rule 1: whether `mine` has recorded all that `theirs` has."""
    return all(mine.get(origin, 0) >= seq for origin, seq in theirs.items())


def rosters_compatible(
    mine: Iterable[str], mine_previous: Iterable[str], theirs: Iterable[str], theirs_previous: Iterable[str]
) -> str:
    """Rule 8: why two members must not talk, or the empty string.

    Each knows one roster, or two during a change. Majorities of rosters that have nothing to do with each other need
    not meet, so there must be one that both know.
    """
    ours = {frozenset(mine), frozenset(mine_previous)} - {frozenset()}
    others = {frozenset(theirs), frozenset(theirs_previous)} - {frozenset()}
    if ours & others:
        return ""
    return (
        f"rosters have nothing in common: here {_show(ours)}, there {_show(others)}; "
        "expected one with members_previous during a change"
    )


def _show(rosters: Iterable[frozenset[str]]) -> str:
    return " and ".join(sorted("{" + ", ".join(sorted(roster)) + "}" for roster in rosters))


@dataclass(frozen=True, slots=True)
class Held:
    """A lease that a member gave us."""

    ends: float
    recorded: Vectors


class Leases:
    """Leases held by this member in this incarnation (rules 1 and 2)."""

    def __init__(self, *, member: str, rosters: Rosters, lease: Lease, incarnation: int) -> None:
        self._member = member
        self._rosters = rosters
        self._lease = lease
        self._incarnation = incarnation
        self._not_before = -math.inf
        self._held: dict[str, list[Held]] = {}

    def accept(
        self, grantor: str, *, sent: float, incarnation: int, term_seconds: float, recorded: Vectors, now: float
    ) -> str:
        """Take a grant; returns why it was not taken, or the empty string."""
        if incarnation != self._incarnation:
            return "lease of another incarnation"
        if not self._not_before <= sent <= now:
            return "lease that was not asked for"
        ends = lease_ends(sent, term_seconds=min(term_seconds, self._lease.term_seconds), drift=self._lease.drift)
        if not ends > now:
            return "lease that is over"
        held = [lease for lease in self._held.get(grantor, ()) if lease.ends > now]
        self._held[grantor] = [*held, Held(ends, recorded)][-HELD_MAX:]
        return ""

    def drop(self, *, now: float) -> None:
        """The clock cannot be trusted for the past: forget all leases and those still under way."""
        self._held.clear()
        self._not_before = now

    def until(self, group: str, recorded: Mapping[str, int], *, now: float) -> float:
        """Rule 2: when currency ends unless renewed; not after `now` when there is none now."""
        ends = {grantor: self._ends(grantor, group, recorded, now=now) for grantor in self._held}
        ends[self._member] = math.inf
        return min((self._roster_until(roster, ends) for roster in self._rosters), default=-math.inf)

    def _roster_until(self, roster: frozenset[str], ends: Mapping[str, float]) -> float:
        votes = sorted((ends.get(member, -math.inf) for member in roster), reverse=True)
        return votes[majority(roster) - 1] if votes else -math.inf

    def _ends(self, grantor: str, group: str, recorded: Mapping[str, int], *, now: float) -> float:
        valid = (
            lease.ends
            for lease in self._held[grantor]
            if lease.ends > now and group in lease.recorded and covers(recorded, lease.recorded[group])
        )
        return max(valid, default=-math.inf)

    def reason(self, group: str, recorded: Mapping[str, int], *, now: float) -> str:
        """Why this member is not current for the group, for people; the empty string when it is."""
        if self.until(group, recorded, now=now) > now:
            return ""
        voters = frozenset().union(*self._rosters)
        good = {m for m in self._held if self._ends(m, group, recorded, now=now) > now} | {self._member}
        short = min(self._rosters, key=lambda roster: len(good & roster) - majority(roster))
        missing = [f"{member} {self._lacks(member, group, recorded, now=now)}" for member in sorted(voters - good)]
        return f"{len(good & short)} of {majority(short)} votes needed: " + "; ".join(missing)

    def _lacks(self, grantor: str, group: str, recorded: Mapping[str, int], *, now: float) -> str:
        valid = [lease for lease in self._held.get(grantor, ()) if lease.ends > now]
        if not valid:
            return "gave no lease"
        theirs = valid[-1].recorded.get(group)
        if theirs is None:
            return "does not know the group"
        if theirs.get(self._member, 0) > recorded.get(self._member, 0):
            return (
                f"holds more of our own journal ({theirs[self._member]}) than we: this ledger was lost or rolled back"
            )
        behind = (f"{o} {recorded.get(o, 0)} of {seq}" for o, seq in sorted(theirs.items()) if seq > recorded.get(o, 0))
        return "knows more: " + ", ".join(behind)


@dataclass(frozen=True, slots=True)
class Given:
    """A lease that we gave to a member."""

    ends: float
    recorded: Vectors


class Grants:
    """Leases given by this member (rules 1 and 3). Not kept over a restart: then all may be out, for one term."""

    def __init__(self, *, term_seconds: float, now: float) -> None:
        self._term_seconds = term_seconds
        self._given: dict[str, list[Given]] = {}
        self._unknown_until = now + term_seconds

    def give(self, member: str, recorded: Vectors, *, now: float) -> None:
        """Remember a grant. `recorded` must never change afterwards; the same object again only prolongs it."""
        given = [grant for grant in self._given.get(member, ()) if grant.ends > now]
        if given and given[-1].recorded is recorded:
            given.pop()
        given.append(Given(now + self._term_seconds, recorded))
        while len(given) > HELD_MAX:  # Two become one that is at least as much in the way.
            given[:2] = [Given(given[1].ends, given[0].recorded)]
        self._given[member] = given

    def forget(self, *, now: float) -> None:
        """Our clock or memory failed: whatever was given may be out for a full term from now."""
        self._unknown_until = now + self._term_seconds

    def out_until(self, group: str, origin: str, upto: int, *, now: float) -> dict[str, float]:
        """Rule 3: for each member until when it may hold a grant of ours from before `(origin, upto)` was recorded."""
        out: dict[str, float] = {}
        if self._unknown_until > now:
            out[EVERYBODY] = self._unknown_until
        for member, given in self._given.items():
            older = [grant.ends for grant in given if grant.recorded.get(group, {}).get(origin, 0) < upto]
            until = max(older, default=now)
            if until > now:
                out[member] = max(until, self._unknown_until)
        return out

    def outstanding(self, group: str, origin: str, upto: int, *, now: float) -> dict[str, float]:
        """The same as seconds from now: what an Ack says."""
        return {member: until - now for member, until in self.out_until(group, origin, upto, now=now).items()}


@dataclass(slots=True)
class Acks:
    """What other members acknowledged of one journal. An ack for `upto` counts for every n ≤ upto."""

    _acks: dict[str, list[tuple[int, dict[str, float]]]] = field(default_factory=dict)
    _best: dict[str, int] = field(default_factory=dict)

    def add(self, member: str, upto: int, out_until: dict[str, float]) -> None:
        """`out_until` is on our clock, already stretched."""
        kept = [ack for ack in self._acks.get(member, ()) if not _dominates((upto, out_until), ack)]
        at = bisect_left(kept, upto, key=_upto_of)
        kept.insert(at, (upto, out_until))
        if len(kept) > ACKS_MAX:  # The oldest serves the oldest fence, the newest all fences: thin out between.
            del kept[len(kept) // 2]
        self._acks[member] = kept
        self._best[member] = max(upto, self._best.get(member, 0))

    def upto(self, member: str) -> int:
        """How far the member said it has recorded the journal."""
        return self._best.get(member, 0)

    def prune(self, fenced: int) -> None:
        """Forget what only served fences that are complete."""
        for member, acks in self._acks.items():
            self._acks[member] = [ack for ack in acks if ack[0] > fenced]

    def drop(self, member: str) -> None:
        """What one member said counts no more."""
        self._acks.pop(member, None)
        self._best.pop(member, None)

    def forget(self) -> None:
        """Our clock cannot be trusted for the past: ask again."""
        self._acks.clear()
        self._best.clear()

    def steps(self) -> Iterator[int]:
        """Where a fence may come to stand."""
        for acks in self._acks.values():
            yield from map(_upto_of, acks)

    def for_seq(self, seq: int) -> dict[str, Mapping[str, float]]:
        """Members that acknowledged `seq`, each with the earliest known end of older grants, per holder."""
        found: dict[str, Mapping[str, float]] = {}
        for member, acks in self._acks.items():
            valid = [out for upto, out in acks if upto >= seq]
            if valid:
                found[member] = valid[0] if len(valid) == 1 else _earliest(valid)
        return found


def _upto_of(ack: tuple[int, dict[str, float]]) -> int:
    return ack[0]


def _out(out_until: Mapping[str, float], holder: str) -> float:
    return out_until.get(holder, out_until.get(EVERYBODY, -math.inf))


def _dominates(new: tuple[int, dict[str, float]], old: tuple[int, dict[str, float]]) -> bool:
    """Whether `new` says all that `old` says: as far, and no holder later."""
    holders = {EVERYBODY, *new[1], *old[1]}
    return new[0] >= old[0] and all(_out(new[1], holder) <= _out(old[1], holder) for holder in holders)


def _earliest(several: Sequence[Mapping[str, float]]) -> dict[str, float]:
    holders = {EVERYBODY}.union(*several)
    return {holder: min(_out(out, holder) for out in several) for holder in holders}


def obstacle(rosters: Rosters, acknowledged: Mapping[str, Mapping[str, float]], *, now: float) -> str:
    """Rule 4: why a fence is not complete, for people; the empty string when it is.

    `acknowledged[q][r]` is until when r may hold a grant that q gave before recording (EVERYBODY: the unnamed).
    A member r that has not recorded could be current by the votes of: itself, everybody who has not acknowledged, and
    those who did but whose older grant to r is out. Strangers count too: a roster to come may know more members.
    """
    for roster in rosters:
        missing = roster - acknowledged.keys()
        if len(roster) - len(missing) < majority(roster):
            return f"recorded by {len(roster) - len(missing)} of {majority(roster)} needed, not by {_names(missing)}"
    holders = {EVERYBODY}.union(*rosters, *acknowledged.values()) - acknowledged.keys()
    for holder in sorted(holders):
        for roster in rosters:
            if could_vote(roster, acknowledged, holder, now=now) >= majority(roster):
                ends = max((_out(out, holder) for out in acknowledged.values()), default=now)
                who = "members unknown since a restart" if holder == EVERYBODY else holder
                return f"waiting {max(0.0, ends - now):.1f} s for older leases of {who} to end"
    return ""


def could_vote(
    roster: frozenset[str], acknowledged: Mapping[str, Mapping[str, float]], holder: str, *, now: float
) -> int:
    """How many of the roster may still make `holder`, which has not recorded, current."""
    return sum(
        1 for voter in roster if voter == holder or voter not in acknowledged or _out(acknowledged[voter], holder) > now
    )


def _names(members: Iterable[str]) -> str:
    return ", ".join(sorted(members))


def fence_reach(
    rosters: Rosters,
    acks: Acks,
    *,
    member: str,
    own: Grants,
    group: str,
    origin: str,
    fenced: int,
    recorded: int,
    now: float,
    heard: Collection[str] | None = None,
) -> int:
    """Rule 4: the greatest seq of a journal that is fenced, as far as this member can tell; at least `fenced`.

    Complete for n means complete for all before it, so the steps are searched by halving. `heard`: the members whose
    acks count, all by default.
    """
    steps = sorted({min(upto, recorded) for upto in acks.steps() if upto > fenced} | {recorded})
    least, most = 0, len(steps)
    while least < most:
        middle = (least + most) // 2
        found = acks.for_seq(steps[middle])
        acknowledged = {who: out for who, out in found.items() if heard is None or who in heard}
        acknowledged[member] = own.out_until(group, origin, steps[middle], now=now)
        if obstacle(rosters, acknowledged, now=now):
            most = middle
        else:
            least = middle + 1
    return max(fenced, steps[least - 1]) if least else fenced
