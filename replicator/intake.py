"""What arrives of foreign journals: what is worth recording, and whom to tell once it is durable.

Laws: entries are recorded without holes, whatever order they come in; nobody is acknowledged before durability. What
the shell was told to record and never reported durable is forgotten after a while, so a repetition is recorded again;
but it may become durable at any time all the same, for as long as this life lasts (`may_hold`).
"""

from dataclasses import dataclass, field

from anycastle.replicator.message import Mark
from anycastle.replicator.progress_vector import Journal, Progress


@dataclass(slots=True)
class _Owed:
    recorded: int = 0
    detailed: int = 0


@dataclass(slots=True)
class Intake:
    """For all foreign journals."""

    recorded: Progress
    detailed: Progress
    patience_seconds: float
    _underway: dict[Journal, tuple[int, float]] = field(default_factory=dict)
    """Up to where the shell was told to record, and when last."""
    _marks: dict[tuple[str, str, int], tuple[Mark, float]] = field(default_factory=dict)
    """Coarse marks that the shell was told to record, and when last."""
    _owed: dict[Journal, dict[str, _Owed]] = field(default_factory=dict)
    _asked: dict[Journal, tuple[int, int]] = field(default_factory=dict)
    """How far the shell was ever told to record entries, and marks."""

    def fresh(self, journal: Journal, after: int, upto: int, *, now: float) -> int | None:
        """From where on to record a stretch now, `upto` for nothing: it is known or under way.

        None when some before it are missing.
        """
        held = max(self.detailed.get(journal), self._underway.get(journal, (0, now))[0])
        if after > held:
            return None
        if upto <= held:
            return upto
        self._underway[journal] = (upto, now)
        entries, marks = self._asked.get(journal, (0, 0))
        self._asked[journal] = (max(entries, upto), marks)
        return held

    def fresh_mark(self, mark: Mark, *, now: float) -> bool:
        """Whether to record a mark now, or it is under way."""
        key = (mark.group, mark.origin, mark.upto)
        if key in self._marks:
            return False
        self._marks[key] = (mark, now)
        entries, marks = self._asked.get(key[:2], (0, 0))
        self._asked[key[:2]] = (entries, max(marks, mark.upto))
        return True

    def may_hold(self, journal: Journal) -> tuple[int, int]:
        """How far the journal's entries, and it with its coarse marks, are durable here or may become so by itself."""
        entries, marks = self._asked.get(journal, (0, 0))
        entries = max(entries, self.detailed.get(journal))
        return entries, max(entries, marks, self.recorded.get(journal))

    def marked(self, journal: Journal) -> int:
        """How far the journal is recorded once the shell has done what it was told, which it does in order."""
        underway = (mark.upto for mark, _ in self._marks.values() if (mark.group, mark.origin) == journal)
        return max(self.recorded.get(journal), max(underway, default=0))

    def durable_mark(self, group: str, origin: str, upto: int) -> Mark:
        """The mark that has become durable; of one that is not known, the whole group."""
        whole = Mark(group, origin, self.detailed.get((group, origin)), upto, b"")
        return self._marks.pop((group, origin, upto), (whole, 0.0))[0]

    def owe(self, journal: Journal, member: str, *, recorded: int = 0, detailed: int = 0) -> None:
        """The member waits for an ack that reaches as far."""
        owed = self._owed.setdefault(journal, {}).setdefault(member, _Owed())
        owed.recorded, owed.detailed = max(owed.recorded, recorded), max(owed.detailed, detailed)

    def durable(self, journal: Journal) -> tuple[str, ...]:
        """More is durable: whom to tell."""
        detailed, recorded = self.detailed.get(journal), self.recorded.get(journal)
        if journal in self._underway and self._underway[journal][0] <= detailed:
            del self._underway[journal]
        owed = self._owed.get(journal, {})
        tell = tuple(owed)
        for member in tell:
            if owed[member].recorded <= recorded and owed[member].detailed <= detailed:
                del owed[member]
        return tell

    def expire(self, *, now: float) -> None:
        """Give up on what was never reported durable."""
        stale = [journal for journal, (_, at) in self._underway.items() if now - at > self.patience_seconds]
        for journal in stale:
            del self._underway[journal]
        for key in [key for key, (_, at) in self._marks.items() if now - at > self.patience_seconds]:
            del self._marks[key]

    def forget(self, member: str) -> None:
        """Its link is gone; it asks again."""
        for owed in self._owed.values():
            owed.pop(member, None)
