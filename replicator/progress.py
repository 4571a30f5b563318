"""How far each journal is known, fenced and landed here: the ledger's totals, in memory, cheap to ask for.

Laws: it says only what is durable already (the ledger tells it after each commit); it is asked and told from different
threads. Per (group, origin): `fenced` and `detailed` ≤ `recorded`; gaps are seqs ≤ `detailed`.
"""

import threading
from collections.abc import Iterable

from pyroaring import BitMap

from anycastle.replicator.message import LandedUpto, Mark, Vectors


class _Journal:
    __slots__ = ("detailed", "fenced", "gaps", "marks", "said")

    def __init__(self) -> None:
        self.detailed = 0
        self.fenced = 0
        self.gaps = BitMap()
        self.marks: tuple[Mark, ...] = ()
        self.said: LandedUpto | None = None

    def recorded(self) -> int:
        """Contiguous: details, extended by coarse marks that touch them."""
        upto = self.detailed
        for mark in self.marks:  # ascending by `after`
            if mark.after <= upto:
                upto = max(upto, mark.upto)
        return upto


class Progress:
    """Totals of all journals of one member."""

    def __init__(self, groups: Iterable[str]) -> None:
        self._lock = threading.Lock()
        self._groups: dict[str, dict[str, _Journal]] = {group: {} for group in groups}

    def _journal(self, group: str, origin: str) -> _Journal:
        return self._groups[group].setdefault(origin, _Journal())

    def detailed(self, group: str, origin: str) -> int:
        """Entries 1 to this are here."""
        with self._lock:
            journal = self._groups[group].get(origin)
            return journal.detailed if journal else 0

    def recorded(self, group: str, origin: str) -> int:
        """As `detailed`, or covered by coarse marks."""
        with self._lock:
            journal = self._groups[group].get(origin)
            return journal.recorded() if journal else 0

    def advance(
        self, group: str, origin: str, *, detailed: int = 0, opened: Iterable[int] = (), closed: Iterable[int] = ()
    ) -> None:
        """Details up to `detailed` are durable; `opened` wait to land, `closed` no longer do."""
        with self._lock:
            journal = self._journal(group, origin)
            journal.detailed = max(journal.detailed, detailed)
            journal.marks = tuple(mark for mark in journal.marks if mark.upto > journal.detailed)
            journal.gaps.update(opened)
            journal.gaps.difference_update(BitMap(closed))
            journal.said = None

    def add_mark(self, mark: Mark) -> None:
        with self._lock:
            journal = self._journal(mark.group, mark.origin)
            if mark.upto > journal.detailed and mark not in journal.marks:
                journal.marks = tuple(sorted((*journal.marks, mark), key=lambda m: (m.after, m.upto, m.prefix)))

    def fence(self, group: str, origin: str, upto: int) -> bool:
        """Moves the fence forward; False when it was there already."""
        with self._lock:
            journal = self._journal(group, origin)
            if upto <= journal.fenced:
                return False
            journal.fenced = upto
            return True

    def marks(self, group: str) -> tuple[Mark, ...]:
        with self._lock:
            return tuple(mark for journal in self._groups[group].values() for mark in journal.marks)

    def recorded_vectors(self) -> Vectors:
        with self._lock:
            return {g: {o: j.recorded() for o, j in journals.items()} for g, journals in self._groups.items()}

    def detailed_vectors(self) -> Vectors:
        with self._lock:
            return {g: {o: j.detailed for o, j in journals.items()} for g, journals in self._groups.items()}

    def fenced_vectors(self) -> Vectors:
        with self._lock:
            return {g: {o: j.fenced for o, j in journals.items()} for g, journals in self._groups.items()}

    def landed_upto(self, group: str) -> dict[str, LandedUpto]:
        """What of each journal has landed here; serialised anew only where something moved."""
        with self._lock:
            return {origin: _said(journal) for origin, journal in self._groups[group].items()}


def _said(journal: _Journal) -> LandedUpto:
    if journal.said is None:
        gaps = journal.gaps.serialize() if journal.gaps else b""
        journal.said = LandedUpto(watermark=journal.detailed, gaps=gaps)
    return journal.said
