"""What was known below a folder prefix when somebody asked: that is waited for, and not what comes meanwhile.

Laws: what was touched on the disk by then counts, journaled or not; a prefix that never comes to rest keeps nobody
waiting for longer than the fences and landings that were under way when he came.
"""

from anycastle.replicator.controller import Controller
from anycastle.replicator.flight import Flight
from anycastle.replicator.settle import Settle


class AsOf:
    """One group's changes below `prefix`, as of the making of this."""

    def __init__(self, prefix: bytes, *, member: str, flight: Flight, settle: Settle) -> None:
        self._prefix = prefix
        self._member = member
        self._flight = flight
        self._settle = settle
        self._heads = flight.heads_below(prefix)
        self._epoch: int | None = settle.begin_epoch()
        """Until what was touched by then has been journaled."""

    def unsettled(self) -> bool:
        """Something that had been touched has not been compared with the ledger yet."""
        if self._epoch is None:
            return False
        if self._settle.unsettled(self._prefix, upto=self._epoch):
            return True
        self._epoch = None  # Now its entries have numbers; those of later changes among them do no harm.
        own = self._flight.heads_below(self._prefix).get(self._member, 0)
        self._heads[self._member] = max(own, self._heads.get(self._member, 0))
        return False

    def unfenced(self, group: str, controller: Controller) -> bool:
        return any(controller.fenced(group, origin) < seq for origin, seq in self._heads.items())

    def lacking(self, site: str) -> bool:
        """The site has not landed all of it, or may not have."""
        return self._flight.lacks_up_to(site, self._prefix, self._heads)
