"""A member that has forgotten what it recorded: when it may vote again (docs/protocol.md, "A lost ledger").

Laws: a fence may count on what this member acknowledged before it forgot. So it gives no lease and is not current until
it has recorded all that so many others had recorded that every majority without it holds one of them; asked only when
nobody counts its old acknowledgements any more. It adds to its own journal only when all others were heard: what it
once announced may be known to a single one.
"""

from collections.abc import Mapping

from anycastle.replicator.fence import Rosters, covers, majority, stretched
from anycastle.replicator.message import Vectors
from anycastle.replicator.settings import Lease

LINK_SECONDS_MAX = 5.0
"""From a handshake to the moment when the link counts as up (`LinkSettings.hello_timeout_seconds`)."""


class Memory:
    """Of one member, in one life."""

    def __init__(self, *, member: str, rosters: Rosters, lease: Lease, forgot: str, now: float) -> None:
        """`forgot`: "new" for a ledger that is new, "resync" for one that an operator brings back, else empty."""
        self._member = member
        self._rosters = tuple(roster for roster in rosters if member in roster)
        self._others = frozenset().union(*rosters) - {member}
        self._lease = lease
        self._heard: dict[str, Vectors] = {}
        self._strangers: set[str] = set()
        self._votes = self._whole = True
        if forgot:
            self.forget(now=now, new=forgot == "new")

    def forget(self, *, now: float, new: bool = False) -> None:
        """From now on nothing that was acknowledged before is held."""
        self._new = new
        self._votes = self._whole = not self._others
        self._heard.clear()
        wait = self._lease.term_seconds + LINK_SECONDS_MAX
        self._ask_from = stretched(now, wait, drift=self._lease.drift)

    def met(self, member: str, *, knew: bool) -> None:
        """A link is up. `knew`: the member remembers a ledger of ours that is not this one."""
        if not knew:
            self._strangers.add(member)

    def answered(self, member: str, sent: float, recorded: Vectors) -> None:
        """What a member had recorded, later than `sent` on our clock."""
        if not self._whole and sent >= self._ask_from:
            self._heard[member] = recorded

    def votes(self, mine: Mapping[str, Mapping[str, int]]) -> bool:
        """Whether this member may give leases and be current; once true, it stays."""
        if not self._votes:
            known = self._known(mine)
            self._votes = all(self._enough(known, roster) for roster in self._rosters)
        return self._votes

    def whole(self, mine: Mapping[str, Mapping[str, int]]) -> bool:
        """Whether it may add to its own journal."""
        if not self._whole:
            self._whole = self._others <= self._known(mine)
        return self._whole and self.votes(mine)

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
        others = roster - {self._member}
        return len(known & others) >= min(len(others), len(roster) - majority(roster) + 1)

    def reason(self, mine: Mapping[str, Mapping[str, int]]) -> str:
        """Why it does not vote, for people; the empty string when it does."""
        if self.votes(mine):
            return ""
        missing = ", ".join(sorted(self._others - self._known(mine)))
        return f"its ledger is new, or was put back: it does not vote before it knows what these do: {missing}"
