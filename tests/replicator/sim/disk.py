"""What a simulated member keeps over a crash: its ledger and its tree, as small as they can be and still be true."""

from dataclasses import dataclass, field

from pyroaring import BitMap

from anycastle.replicator.entry import NO_VERSION, Entry, Kind, Version
from anycastle.replicator.feed import common_folder
from anycastle.replicator.message import LandedUpto, Mark, Vectors

GROUP = "g"


@dataclass(slots=True)
class Disk:
    """Changed only at the moment when a change becomes durable."""

    member: str
    incarnation: int = 0
    lamport: int = 0
    journals: dict[str, list[Entry]] = field(default_factory=dict)
    marks: list[Mark] = field(default_factory=list)
    fenced: dict[str, int] = field(default_factory=dict)
    newest: dict[bytes, Entry] = field(default_factory=dict)
    local: dict[bytes, tuple[Version, bytes | None]] = field(default_factory=dict)
    pending: dict[bytes, Entry] = field(default_factory=dict)
    files: dict[bytes, bytes] = field(default_factory=dict)
    """The tree: path -> content."""

    def head(self, origin: str) -> int:
        return len(self.journals.get(origin, ()))

    def detailed(self) -> Vectors:
        return {GROUP: {origin: len(entries) for origin, entries in self.journals.items() if entries}}

    def recorded(self) -> Vectors:
        vectors = self.detailed()
        for mark in self.marks:
            vectors[GROUP][mark.origin] = max(mark.upto, vectors[GROUP].get(mark.origin, 0))
        return vectors

    def uncovered(self) -> list[Mark]:
        return [mark for mark in self.marks if mark.upto > self.head(mark.origin)]

    def local_version(self, path: bytes) -> Version:
        return self.local[path][0] if path in self.local else NO_VERSION

    def as_recorded(self, path: bytes) -> bool:
        """Whether the file is what the ledger says."""
        return self.files.get(path) == (self.local[path][1] if path in self.local else None)

    def _note(self, entry: Entry) -> None:
        self.journals.setdefault(entry.origin, []).append(entry)
        self.lamport = max(self.lamport, entry.lamport)
        known = self.newest.get(entry.path)
        if known is None or entry.version > known.version:
            self.newest[entry.path] = entry
            self.pending[entry.path] = entry

    def journal(self, paths: set[bytes]) -> list[Entry]:
        """Look at paths; what changed becomes an entry."""
        made = []
        for path in sorted(paths):
            if self.as_recorded(path):
                continue
            content = self.files.get(path)
            landed = self.landed_before(path, content)
            if landed is not None:  # We put it there, and crashed before the ledger said so.
                self.land_recorded(landed)
                continue
            kind = Kind.ABSENT if content is None else Kind.FILE
            seq, lamport = self.head(self.member) + 1, self.lamport + 1
            parent = self.local_version(path)
            entry = Entry(self.member, seq, GROUP, path, lamport, kind, parent, digest=content or b"")
            self._note(entry)
            self.land_recorded(entry)
            made.append(entry)
        return made

    def landed_before(self, path: bytes, content: bytes | None) -> Entry | None:
        """The foreign entry that made it so: contents are unique, and a file that is gone was not deleted twice."""
        found = [
            entry
            for origin, entries in self.journals.items()
            for entry in entries
            if origin != self.member
            and entry.path == path
            and entry.digest == (content or b"")
            and (content is not None or entry.version > self.local_version(path))
        ]
        return max(found, key=lambda entry: entry.version, default=None)

    def record(self, entries: tuple[Entry, ...]) -> None:
        for entry in entries:
            head = self.head(entry.origin)
            assert entry.seq <= head + 1, f"a hole in the ledger of {self.member}: {entry.seq} after {head}"
            if entry.seq == head + 1:
                self._note(entry)

    def land_recorded(self, entry: Entry) -> None:
        """The ledger learns that the tree holds this entry."""
        self.local[entry.path] = (entry.version, entry.digest or None)
        if self.pending.get(entry.path) == entry:
            del self.pending[entry.path]

    def landed_upto(self) -> dict[str, LandedUpto]:
        gaps: dict[str, BitMap] = {origin: BitMap() for origin in self.journals}
        for entry in self.pending.values():
            gaps[entry.origin].add(entry.seq)
        return {
            origin: LandedUpto(self.head(origin), found.serialize() if found else b"") for origin, found in gaps.items()
        }


def prefix_of(entries: list[Entry]) -> bytes:
    """The folder below which they all are."""
    prefix = entries[0].path
    for entry in entries:
        prefix = common_folder(prefix, entry.path)
    return prefix
