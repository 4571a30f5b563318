"""Judges what users saw, knowing nothing of the protocol: only contents, versions and the order of requests.

Every write makes content that never was before. A request that begins after another ended must not see less of a path
than that one did (promise 1 for successful writes, monotonic reads for everybody), and a write that begins after
another ended must be the later version.
"""

from anycastle.errors import AnycastleError
from anycastle.replicator.entry import NO_VERSION, Entry, Kind, Version


class Violation(AnycastleError):
    """A user saw what must not be."""


class Checker:
    """Reads and writes of all users at all sites."""

    def __init__(self) -> None:
        self.reads = 0
        self.writes = 0
        self.gave_up = 0
        self._floors: dict[bytes, list[tuple[Version, str]]] = {}
        """Ascending; what was seen and is lost goes again."""
        self._versions: dict[bytes, Version] = {}
        self._deletes: set[Version] = set()
        self._deleted: dict[bytes, Version] = {}
        self._acknowledged: dict[bytes, Version] = {}
        self._lost: set[Version] = set()

    def floor(self, path: bytes) -> tuple[Version, str]:
        """What a request that begins now must at least see, and who saw it."""
        return self._floors[path][-1] if self._floors.get(path) else (NO_VERSION, "nobody")

    def journaled(self, entry: Entry, *, found: bool = False) -> None:
        """Content got its version. Old bytes that come back as a new version keep the old one: that is the fault.

        But not what was `found` by a member without a ledger, which takes it for new, as a person would.
        """
        if entry.kind is Kind.ABSENT:
            self._deletes.add(entry.version)
            self._deleted[entry.path] = max(entry.version, self._deleted.get(entry.path, NO_VERSION))
        elif found or self._versions.get(entry.digest) in self._lost:
            self._versions[entry.digest] = entry.version
        else:
            self._versions.setdefault(entry.digest, entry.version)

    def served(self, path: bytes, content: bytes | None, absent_since: Version, floor: tuple[Version, str], who: str):
        """A site answered with what is on its disk; `absent_since` is the tombstone it has landed, when nothing is."""
        self.reads += 1
        if content is None:
            # A delete that everybody has done is forgotten; then nothing there is as good as the delete.
            version = max(absent_since, floor[0] if floor[0] in self._deletes else NO_VERSION)
        elif content in self._versions:
            version = self._versions[content]
        else:
            raise Violation(f"{who} got {content!r} of {path!r}, which was never announced")
        self._saw(path, version, floor, who)

    def succeeded(self, path: bytes, version: Version, floor: tuple[Version, str], who: str) -> None:
        """A write was answered with success; `version` is what it, or a later one at the same site, became."""
        self.writes += 1
        if not version > floor[0] and floor[0] not in self._lost:
            raise Violation(f"{who} wrote {path!r} as {version}, though {floor[1]} saw {floor[0]} before it began")
        self._saw(path, version, floor, who)
        self._acknowledged[path] = max(version, self._acknowledged.get(path, NO_VERSION))

    def lost(self, versions: set[Version], *, copies: int) -> None:
        """Entries that were at one member only, which lost them: nobody can be held to have seen them any more.

        With more copies than one, no writer can have been told that one of them is safe.
        """
        self._lost |= versions
        for path, acknowledged in self._acknowledged.items():
            if copies > 1 and acknowledged in versions:
                raise Violation(f"{path!r} was written as {acknowledged}, with success, and is lost with a ledger")
        for path, floors in self._floors.items():
            self._floors[path] = [floor for floor in floors if floor[0] not in versions]

    def survived(self, contents: dict[bytes, set[bytes | None]]) -> None:
        """What the sites that are left hold of each path: one of them what was answered with success, or newer."""
        for path, acknowledged in self._acknowledged.items():
            absent = self._deleted.get(path, NO_VERSION)
            if acknowledged not in self._lost and not any(
                acknowledged <= (absent if c is None else self._versions[c]) for c in contents[path]
            ):
                raise Violation(f"{path!r} was written as {acknowledged}, with success, and is lost: {contents[path]}")

    def _saw(self, path: bytes, version: Version, floor: tuple[Version, str], who: str) -> None:
        if version < floor[0] and floor[0] not in self._lost:
            raise Violation(f"{who} got {path!r} as {version}, though {floor[1]} saw {floor[0]} before it began")
        if version > self.floor(path)[0]:
            self._floors.setdefault(path, []).append((version, who))
