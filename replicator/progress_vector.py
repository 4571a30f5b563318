"""How far journals have come: `{group: {origin: seq}}`, where numbers only grow.

Law: a snapshot never changes after it was handed out, so it can wait in a queue or be remembered with a lease.
"""

from collections.abc import Iterator, Mapping

from anycastle.replicator.message import Vectors

Journal = tuple[str, str]
"""(group, origin)"""


class Progress:
    """One such vector of vectors, for a fixed set of groups."""

    def __init__(self, groups: tuple[str, ...], start: Vectors) -> None:
        self._seqs: Vectors = {group: dict(start.get(group, {})) for group in groups}
        self._snapshot: Vectors | None = None

    def __contains__(self, group: str) -> bool:
        return group in self._seqs

    def get(self, journal: Journal) -> int:
        group, origin = journal
        return self._seqs[group].get(origin, 0) if group in self._seqs else 0

    def group(self, group: str) -> Mapping[str, int]:
        return self._seqs[group]

    def raise_to(self, journal: Journal, upto: int) -> bool:
        """Whether this is news."""
        if upto <= self.get(journal):
            return False
        group, origin = journal
        self._seqs[group][origin] = upto
        self._snapshot = None
        return True

    def snapshot(self) -> Vectors:
        """The same object until something moves."""
        if self._snapshot is None:
            self._snapshot = {group: dict(origins) for group, origins in self._seqs.items()}
        return self._snapshot

    def journals(self) -> Iterator[Journal]:
        return ((group, origin) for group, origins in self._seqs.items() for origin in origins)
