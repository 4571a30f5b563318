"""Journals as other members tell them: what makes sense is recorded, and acknowledged once that is durable.

Laws: nothing is acknowledged but what is durable here; a stretch with holes is taken only by who compares its content,
or holds none; what makes no sense is counted, by kind, and changes nothing.
"""

from collections import Counter

from anycastle.replicator import event as e
from anycastle.replicator import message as m
from anycastle.replicator.fence import Grants
from anycastle.replicator.intake import Intake
from anycastle.replicator.progress_vector import Journal, Progress

ORIGINS_MAX = 256
"""Journals per group: every member there ever was."""
NAME_CHARACTERS_MAX = 64
MARK_ENTRIES_MAX = 100_000_000
"""A coarse mark, or a stretch that was lost, that jumps further is garbled: it would never be filled."""

Commands = tuple[e.Command, ...]


class Reception:
    """Of one member, for all groups."""

    def __init__(
        self,
        *,
        member: str,
        holds: bool,
        recorded: Progress,
        detailed: Progress,
        intake: Intake,
        grants: Grants,
        ignored: Counter[str],
    ) -> None:
        """`holds`: the member holds content, and is no witness."""
        self.merging: dict[str, bool] = {}
        """Groups whose content is being merged -> whether it is compared just now."""
        self.outdated: dict[str, str] = {}
        """Group -> the member whose journals have holes that this one cannot pass without comparing."""
        self._member = member
        self._holds = holds
        self._recorded = recorded
        self._detailed = detailed
        self._intake = intake
        self._grants = grants
        self._ignored = ignored

    def merge(self, event: e.Merging) -> None:
        """A merge has begun, or is over."""
        self.outdated.pop(event.group, None)
        if event.on:
            self.merging[event.group] = event.comparing
        else:
            self.merging.pop(event.group, None)

    def acknowledgement(self, member: str, journal: Journal, *, now: float) -> e.Send:
        """How far a journal is durable here, and which leases that were given before are out."""
        upto = self._recorded.get(journal)
        outstanding = self._grants.outstanding(*journal, upto, now=now)
        return e.Send(member, m.Ack(*journal, upto, outstanding, self._detailed.get(journal)))

    def entries(self, member: str, message: m.Entries, *, now: float) -> Commands:
        """A stretch of a journal."""
        journal = (message.group, message.origin)
        after, upto = message.stretch()
        if not (self._recordable(journal) and 0 <= after < upto and (message.upto or message.whole())):
            return self._ignore("entries of no such journal")
        if message.lost and upto - after > MARK_ENTRIES_MAX:
            return self._ignore("too much said to be lost")
        whole = message.lost or message.whole(self._detailed.get(journal))
        if not whole and not self._may_skip(message.group):
            self.outdated[message.group] = member
            return self._ignore("entries with holes")
        held = self._intake.fresh(journal, after, upto, now=now)
        if held is None:
            return self._ignore("entries after a hole")
        if upto <= self._detailed.get(journal):
            return (self.acknowledgement(member, journal, now=now),)
        self._intake.owe(journal, member, recorded=upto, detailed=upto)
        if held >= upto:
            return ()
        fresh = tuple(entry for entry in message.entries if entry.seq > held)
        return (e.Record(*journal, fresh, message.bodies, held, upto, coming=message.coming, lost=message.lost),)

    def mark(self, member: str, mark: m.Mark, *, now: float) -> Commands:
        """A coarse mark."""
        journal = (mark.group, mark.origin)
        if mark.origin == self._member or not (
            self._recordable(journal) and 0 <= mark.after < mark.upto <= mark.after + MARK_ENTRIES_MAX
        ):
            return self._ignore("mark of no such journal")
        if mark.upto <= self._recorded.get(journal):
            return (self.acknowledgement(member, journal, now=now),)
        if mark.after > self._intake.marked(journal):
            return self._ignore("mark after a hole")
        self._intake.owe(journal, member, recorded=mark.upto)
        return (e.RecordMark(mark),) if self._intake.fresh_mark(mark, now=now) else ()

    def fence_query(self, member: str, query: m.FenceQuery, *, now: float) -> Commands:
        """It is answered now, or as soon as that much is durable."""
        journal = (query.group, query.origin)
        if journal[0] not in self._recorded:
            return self._ignore("query of no such group")
        if query.upto <= self._recorded.get(journal):
            return (self.acknowledgement(member, journal, now=now),)
        if self._recordable(journal):
            self._intake.owe(journal, member, recorded=query.upto)
        return ()

    def _recordable(self, journal: Journal) -> bool:
        """Whether it is a journal that we may record: also our own, which others give back after a ledger was lost."""
        group, origin = journal
        if group not in self._recorded:
            return False
        known = self._recorded.group(group)
        return origin in known or (len(known) < ORIGINS_MAX and 0 < len(origin) <= NAME_CHARACTERS_MAX)

    def _may_skip(self, group: str) -> bool:
        """What was compacted elsewhere cannot be missed by who compares, nor where no files are."""
        return group in self.merging or not self._holds

    def _ignore(self, kind: str) -> Commands:
        self._ignored[kind] += 1
        return ()
