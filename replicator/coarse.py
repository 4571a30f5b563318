"""Coarse marks: "anything below this folder may have changed", whose entries are not all here yet (rule 4).

Law: a mark is known until every entry it stands for is recorded in detail; below it nothing here may be served.
"""

from collections.abc import Iterable, Iterator
from itertools import chain

from anycastle.replicator.message import Mark
from anycastle.replicator.progress_vector import Journal, Progress


class Marks:
    """The marks of all groups whose details are missing."""

    def __init__(self, marks: Iterable[Mark], *, recorded: Progress, detailed: Progress) -> None:
        self._detailed = detailed
        self._marks: dict[Journal, list[Mark]] = {}
        for mark in marks:
            self.add(mark)
        for journal in recorded.journals():
            self._cover_unknown(journal, recorded.get(journal))

    def _cover_unknown(self, journal: Journal, recorded: int) -> None:
        """What was recorded without details and without a mark that we know may be anywhere."""
        marked = max((mark.upto for mark in self._marks.get(journal, ())), default=0)
        detailed = self._detailed.get(journal)
        if recorded > max(marked, detailed):
            group, origin = journal
            self.add(Mark(group, origin, detailed, recorded, b""))

    def add(self, mark: Mark) -> None:
        journal = (mark.group, mark.origin)
        known = self._marks.setdefault(journal, [])
        if mark not in known and mark.upto > self._detailed.get(journal):
            known.append(mark)

    def detailed(self, journal: Journal) -> None:
        """More of the journal is held in detail."""
        if journal in self._marks:
            upto = self._detailed.get(journal)
            self._marks[journal] = [mark for mark in self._marks[journal] if mark.upto > upto]

    def of(self, journal: Journal, *, beyond: int) -> tuple[Mark, ...]:
        """Marks of a journal that reach further than `beyond`, in order."""
        marks = (mark for mark in self._marks.get(journal, ()) if mark.upto > beyond)
        return tuple(sorted(marks, key=lambda mark: (mark.after, mark.upto)))

    def above(self, group: str, path: bytes) -> tuple[str, int] | None:
        """(origin, upto) of a mark that may hide a change of `path`."""
        return _last(mark for mark in self._of_group(group) if (path + b"/").startswith(mark.prefix))

    def touching(self, group: str, prefix: bytes) -> tuple[str, int] | None:
        """(origin, upto) of a mark that may hide a change of something below the folder prefix, or of it."""
        return _last(
            mark for mark in self._of_group(group) if prefix.startswith(mark.prefix) or mark.prefix.startswith(prefix)
        )

    def _of_group(self, group: str) -> Iterator[Mark]:
        return chain.from_iterable(marks for journal, marks in self._marks.items() if journal[0] == group)


def _last(marks: Iterator[Mark]) -> tuple[str, int] | None:
    last = max(marks, key=lambda mark: mark.upto, default=None)
    return None if last is None else (last.origin, last.upto)
