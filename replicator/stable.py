"""How far every member is past the journals, so that what nobody can need any more may go (docs/protocol.md).

Laws: nobody is past what it has not said, so a cut is at most what each member of the roster said it landed (a witness:
recorded). A cut stands only after each of them, asked later than that was heard, was found to hold no entry that is
not here: so no older entry of a path can come after its tombstone is gone. Members that an operator's retention gave up
are not waited for: they have to compare before they count again.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pyroaring import BitMap

from anycastle.replicator.fence import covers
from anycastle.replicator.message import LandedUpto, LeaseGrant

PROPOSE_SECONDS = 5.0
"""Between two cuts of a group: one pass over the ledger for all that came meanwhile."""

Cut = dict[str, int]
"""Origin -> seq."""


def passed(landed: LandedUpto) -> int:
    """All up to here is in place, or something newer is."""
    if not landed.gaps:
        return landed.watermark
    return int(BitMap.deserialize(landed.gaps).min()) - 1


@dataclass(slots=True)
class _Proposal:
    cut: Cut
    at: float
    seen: set[str] = field(default_factory=set)


class Stable:
    """For all groups of a member."""

    def __init__(self, member: str, others: Iterable[str], sites: Iterable[str], groups: Iterable[str]) -> None:
        self._member = member
        self._others = frozenset(others)
        self._sites = frozenset(sites)
        self._passed: dict[tuple[str, str], Cut] = {}
        self._absent: dict[str, frozenset[str]] = {}
        self._proposals: dict[str, _Proposal | None] = dict.fromkeys(groups)
        self._done: dict[str, Cut] = {group: {} for group in groups}
        self._tried_at: dict[str, float] = {}

    def met(self, member: str) -> None:
        """A new link: its ledger may be another one, so it has to say anew how far it is, for every cut to come."""
        for group in self._proposals:
            self._passed.pop((member, group), None)
            self._proposals[group] = None

    def landed(self, member: str, group: str, landed: Mapping[str, LandedUpto]) -> None:
        """A site told what it has landed."""
        if member in self._sites:
            self._passed.setdefault((member, group), {}).update({o: passed(said) for o, said in landed.items()})

    def detailed(self, member: str, group: str, seqs: Mapping[str, int]) -> None:
        """A member told which entries it holds: all there is to tell of a witness."""
        if member not in self._sites:
            self._passed[member, group] = dict(seqs)

    def absent(self, group: str, members: frozenset[str]) -> None:
        """Members that are not waited for. One that came back has forgotten nothing, but may have missed something."""
        self._absent[group] = members
        if (proposal := self._proposals.get(group)) is not None:
            proposal.seen -= members

    def granted(self, member: str, grant: LeaseGrant, mine: Mapping[str, Mapping[str, int]]) -> None:
        """A lease: what the member had recorded, later than we asked. `mine`: the entries that are here."""
        for group, proposal in self._proposals.items():
            if proposal is None or grant.sent < proposal.at or group not in grant.recorded:
                continue
            if covers(mine.get(group, {}), grant.recorded[group]):
                proposal.seen.add(member)

    def cut(self, group: str, own: Mapping[str, int], *, now: float) -> Cut:
        """A new cut that stands, told once; else empty. `own`: how far this member itself is past each journal."""
        others = self._others - self._absent.get(group, frozenset())
        proposal = self._proposals[group]
        if proposal is None:
            if now - self._tried_at.get(group, -math.inf) >= PROPOSE_SECONDS:
                self._tried_at[group] = now
                self._propose(group, own, others, now=now)
            return {}
        if not others <= proposal.seen:
            return {}
        self._proposals[group] = None
        self._done[group].update(proposal.cut)
        return proposal.cut

    def _propose(self, group: str, own: Mapping[str, int], others: frozenset[str], *, now: float) -> None:
        said = [self._passed.get((member, group), {}) for member in others]
        least = {origin: min([seq, *(theirs.get(origin, 0) for theirs in said)]) for origin, seq in own.items()}
        done = self._done[group]
        cut = {origin: seq for origin, seq in least.items() if seq > done.get(origin, 0)}
        self._proposals[group] = _Proposal(cut, now) if cut else None
