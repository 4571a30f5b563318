"""Fences that are not complete yet: whose acks are missing, and when to ask for them (rule 4).

Laws: a member always runs the fences of its own journal; anybody runs a foreign one when a reader waits for it, or when
it stays open for longer than a term, since the origin may have died. Everything known is evaluated, whoever asked.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from anycastle.replicator.fence import Acks, Grants, Rosters, fence_reach, lease_ends, obstacle
from anycastle.replicator.message import Ack, FenceQuery
from anycastle.replicator.progress_vector import Journal, Progress
from anycastle.replicator.settings import Lease


@dataclass(slots=True)
class _Open:
    since: float
    asked_at: float = -math.inf
    wanted: int = 0


class Pursuit:
    """The open fences of all journals."""

    def __init__(
        self, *, member: str, rosters: Rosters, lease: Lease, grants: Grants, recorded: Progress, fenced: Progress
    ) -> None:
        self._member = member
        self._rosters = rosters
        self._grants = grants
        self._recorded = recorded
        self._fenced = fenced
        self._lease = lease
        self._answered: dict[str, float] = {}
        """Member -> when we asked what it answered last."""
        self._query_seconds = lease.renewal_seconds / 2
        voters = sorted(frozenset().union(*rosters))
        rank = voters.index(member) if member in voters else len(voters)
        self._patience_seconds = lease.term_seconds * (1 + rank / (len(voters) + 1))
        self._acks: dict[Journal, Acks] = {}
        self._open: dict[Journal, _Open] = {}

    def met(self, member: str) -> None:
        """A new link: what the member acknowledged in an earlier life counts no more, it is asked again."""
        for acks in self._acks.values():
            acks.drop(member)

    def answered(self, member: str, sent: float) -> None:
        """It answered a lease request of that moment, so it lived then and held what it had acknowledged."""
        self._answered[member] = max(sent, self._answered.get(member, sent))

    def _heard(self, *, now: float) -> frozenset[str]:
        """Members whose acks count: who was silent for a term may have lost its ledger meanwhile."""
        term, drift = self._lease.term_seconds, self._lease.drift
        return frozenset(m for m, at in self._answered.items() if now < lease_ends(at, term_seconds=term, drift=drift))

    def open(self, journal: Journal, *, now: float) -> None:
        """More of a journal was recorded."""
        if journal not in self._open and self._recorded.get(journal) > self._fenced.get(journal):
            self._open[journal] = _Open(since=now)

    def want(self, journal: Journal, seq: int) -> None:
        """Somebody here waits for it."""
        if journal in self._open:
            fence = self._open[journal]
            fence.wanted = max(fence.wanted, min(seq, self._recorded.get(journal)))

    def acknowledge(self, member: str, ack: Ack, out_until: dict[str, float]) -> None:
        """`out_until` is on our clock, stretched."""
        journal = (ack.group, ack.origin)
        upto = min(ack.upto, self._recorded.get(journal))
        if upto > self._fenced.get(journal):
            self._acks.setdefault(journal, Acks()).add(member, upto, out_until)

    def forget(self) -> None:
        """The clock failed us: what we computed with it is void."""
        self._acks.clear()
        self._answered.clear()
        for fence in self._open.values():
            fence.asked_at = -math.inf

    def reach(self, journal: Journal, *, now: float) -> int:
        """How far the journal is fenced by what we know now."""
        group, origin = journal
        return fence_reach(
            self._rosters,
            self._acks.get(journal, Acks()),
            member=self._member,
            own=self._grants,
            group=group,
            origin=origin,
            fenced=self._fenced.get(journal),
            recorded=self._recorded.get(journal),
            heard=self._heard(now=now),
            now=now,
        )

    def moved(self, journal: Journal, *, now: float) -> None:
        """The journal is fenced further; forget what only served that."""
        fenced = self._fenced.get(journal)
        if journal in self._acks:
            self._acks[journal].prune(fenced)
        if fenced >= self._recorded.get(journal):
            self._open.pop(journal, None)
            self._acks.pop(journal, None)
        elif journal in self._open:
            self._open[journal].since = now

    def opened(self) -> tuple[Journal, ...]:
        return tuple(self._open)

    def queries(self, members: Iterable[str], *, now: float) -> Iterator[tuple[str, FenceQuery]]:
        """Whom to ask now, and what."""
        members = tuple(members)
        for journal, fence in self._open.items():
            upto = self._due(journal, fence, now=now)
            if not upto:
                continue
            fence.asked_at = now
            acks = self._acks.get(journal, Acks())
            for member in members:
                if acks.upto(member) < upto:
                    yield member, FenceQuery(*journal, upto)

    def _due(self, journal: Journal, fence: _Open, *, now: float) -> int:
        """Up to where to ask, 0 for not now. The own journal's entries are their own first question."""
        if now - fence.asked_at < self._query_seconds:
            return 0
        own = journal[1] == self._member
        if now - fence.since >= (self._query_seconds if own else self._patience_seconds):
            return self._recorded.get(journal)
        return fence.wanted if not own and fence.wanted > self._fenced.get(journal) else 0

    def obstacle(self, journal: Journal, seq: int, *, now: float) -> str:
        """Why `seq` is not fenced, for people; the empty string when nothing is in the way."""
        if seq <= self._fenced.get(journal):
            return ""
        if seq > self._recorded.get(journal):
            return f"recorded here up to {self._recorded.get(journal)}, not {seq}"
        group, origin = journal
        found, heard = self._acks.get(journal, Acks()).for_seq(seq), self._heard(now=now)
        acknowledged = {member: out for member, out in found.items() if member in heard}
        acknowledged[self._member] = self._grants.out_until(group, origin, seq, now=now)
        return obstacle(self._rosters, acknowledged, now=now)
