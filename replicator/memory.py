"""A member that has forgotten what it recorded: when it may vote again (docs/protocol.md, "A lost ledger").

Laws: a fence may count on what this member acknowledged before it forgot. So it gives no lease and is not current until
it has recorded all that so many voting others had recorded that every majority holds one of them, or all that all
others had; asked only when nobody counts its old acknowledgements any more. It adds to its own journal only when all
others were heard: what it once announced may be known to a single one. What others have recorded of it by coarse marks
alone, and none of them in detail, is lost for good: those numbers are passed over, and everybody is told (`lost`).
"""

from collections.abc import Mapping

from anycastle.replicator.fence import Rosters, covers, majority, stretched
from anycastle.replicator.message import Vectors
from anycastle.replicator.settings import Lease


class Memory:
    """Of one member, in one life."""

    def __init__(self, *, member: str, rosters: Rosters, lease: Lease, forgot: str, now: float) -> None:
        """`forgot`: "new" for a ledger that is new, otherwise why this one does not hold all; empty when it does."""
        self._member = member
        self._rosters = tuple(roster for roster in rosters if member in roster)
        self._others = frozenset().union(*rosters) - {member}
        self._lease = lease
        self._heard: dict[str, Vectors] = {}
        self._voters: set[str] = set()
        self._strangers: set[str] = set()
        self._votes = self._whole = True
        if forgot:
            self.forget(now=now, new=forgot == "new")

    def forget(self, *, now: float, new: bool = False) -> None:
        """From now on nothing that was acknowledged before is held."""
        self._new = new
        self._votes = self._whole = not self._others
        self._heard.clear()
        self._voters.clear()
        self._yours: dict[str, tuple[float, Mapping[str, tuple[int, int]]]] = {}
        self._ask_from = stretched(now, self._lease.term_seconds, drift=self._lease.drift)

    def met(self, member: str, *, knew: bool) -> None:
        """A link is up. `knew`: the member remembers a ledger of ours that is not this one."""
        if not knew:
            self._strangers.add(member)

    def answered(
        self,
        member: str,
        sent: float,
        recorded: Vectors,
        *,
        votes: bool,
        yours: Mapping[str, tuple[int, int]] | None = None,
    ) -> None:
        """What a member had recorded, later than `sent` on our clock. `votes`: it had not forgotten anything itself.

        The first answer is enough: later ones would be ahead of us for as long as others write. `yours`, as in
        LeaseGrant, is of our own journal, to which nobody adds: there the last answer counts.
        """
        if self._whole or sent < self._ask_from:
            return
        if yours is not None and sent >= self._yours.get(member, (sent,))[0]:
            self._yours[member] = (sent, yours)
        if member in self._heard and (member in self._voters or not votes):
            return
        self._heard[member] = recorded
        if votes:
            self._voters.add(member)

    def votes(self, mine: Mapping[str, Mapping[str, int]]) -> bool:
        """Whether this member may give leases and be current; once true, it stays."""
        if not self._votes:
            known = self._known(mine)
            self._votes = self._others <= known or all(self._enough(known, roster) for roster in self._rosters)
        return self._votes

    def whole(self, mine: Mapping[str, Mapping[str, int]]) -> bool:
        """Whether it may add to its own journal."""
        if not self._whole:
            behind = any(
                mine[group].get(self._member, 0) < recorded
                for _, yours in self._yours.values()
                for group, (_, recorded) in yours.items()
                if group in mine
            )
            self._whole = self._others <= self._known(mine) and not behind
        return self._whole and self.votes(mine)

    def lost(self, mine: Mapping[str, Mapping[str, int]]) -> dict[str, tuple[int, int]]:
        """Group -> (after, upto) of our own journal: marks tell of it, and no entry of it can turn up any more.

        Entries travel from who holds them only, and our former life sends none; so nobody can come to hold more of them
        than all others, asked in this life, said that they hold or may yet find on their disks.
        """
        if self._whole or not self._others <= self._yours.keys():
            return {}
        found = {}
        for group, seqs in mine.items():
            have, said = seqs.get(self._member, 0), [yours.get(group) for _, yours in self._yours.values()]
            if all(each is not None and each[0] <= have for each in said):
                upto = max((each[1] for each in said if each is not None), default=0)
                if have < upto:
                    found[group] = (have, upto)
        return found

    def _known(self, mine: Mapping[str, Mapping[str, int]]) -> set[str]:
        """Others of whom nothing is missing here."""
        if self._new and self._others <= self._strangers:  # a first life: nobody ever counted on us
            return set(self._others)
        return {
            member
            for member, recorded in self._heard.items()
            if all(covers(mine[group], seqs) for group, seqs in recorded.items() if group in mine)
        }

    def _enough(self, known: set[str], roster: frozenset[str]) -> bool:
        """A fence has a majority, so of so many one was in it; and who votes holds what it acknowledged."""
        return len(known & self._voters & roster) >= len(roster) - majority(roster) + 1

    def reason(self, mine: Mapping[str, Mapping[str, int]]) -> str:
        """Why it does not vote, for people; the empty string when it does."""
        if self.votes(mine):
            return ""
        missing = ", ".join(sorted(self._others - self._known(mine)))
        return f"its ledger is new, or was put back: it does not vote before it knows what these do: {missing}"
