"""Whether this member is current, group by group, and what changed about it (rule 2).

Law: what was found to hold until a moment still holds until then, since records only grow and leases only come in;
only a clock that failed takes it back (`reset`).
"""

import math
from collections.abc import Callable, Iterator

from anycastle.replicator.fence import Leases
from anycastle.replicator.progress_vector import Progress


class Currency:
    """For all groups of a member."""

    def __init__(
        self, groups: tuple[str, ...], leases: Leases, recorded: Progress, held_back: Callable[[], str] = str
    ) -> None:
        """`held_back`: why this member counts for nothing at all; the empty string when it does."""
        self._held_back = held_back
        self._leases = leases
        self._recorded = recorded
        self._until = dict.fromkeys(groups, -math.inf)
        self.told = dict.fromkeys(groups, "not asked for a lease yet")
        """What was last said about each group: the reason why not, or empty."""
        self._stale = False

    def reset(self) -> None:
        """Find everything out anew."""
        self._until = dict.fromkeys(self._until, -math.inf)
        self._stale = True

    def look(self) -> None:
        """Something may have changed: `news` looks again."""
        self._stale = True

    def until(self, group: str, *, now: float) -> float:
        """When it lapses unless renewed; not after `now` when it has."""
        if self._held_back():
            return -math.inf
        if self._until[group] <= now:
            self._until[group] = self._leases.until(group, self._recorded.group(group), now=now)
        return self._until[group]

    def reason(self, group: str, *, now: float) -> str:
        """Why this member cannot vouch for the group; the empty string when it is current."""
        if group not in self._until:
            return "does not know the group"
        if now < self.until(group, now=now):
            return ""
        if held_back := self._held_back():
            return held_back
        return self._leases.reason(group, self._recorded.group(group), now=now)

    def news(self, *, now: float) -> Iterator[tuple[str, str, bool]]:
        """(group, reason, whether it became or ceased to be current) of those whose reason is not what was told."""
        if not self._stale:
            return
        self._stale = False
        for group, before in self.told.items():
            reason = self.reason(group, now=now)
            if reason != before:
                self.told[group] = reason
                yield group, reason, not (reason and before)
