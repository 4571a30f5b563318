"""What a simulated member keeps over a crash: its ledger and its tree, as small as they can be and still be true."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain

import msgspec
from pyroaring import BitMap

from anycastle.replicator.entry import NO_VERSION, Entry, Kind, Version
from anycastle.replicator.feed import common_folder
from anycastle.replicator.message import Entries, LandedUpto, Mark, Vectors
from tests.replicator.sim.checker import Violation

GROUP = "g"


@dataclass(slots=True)
class Disk:
    """Changed only at the moment when a change becomes durable. Also what `Acquaintance` asks of a ledger."""

    member: str
    incarnation: int = 0
    lamport: int = 0
    journals: dict[str, dict[int, Entry]] = field(default_factory=dict)
    heads: dict[str, int] = field(default_factory=dict)
    """How far each journal was recorded: what was compacted is gone from `journals`, and counts."""
    marks: list[Mark] = field(default_factory=list)
    lost: dict[str, set[tuple[int, int]]] = field(default_factory=dict)
    """Stretches of which nobody ever got the entries."""
    fenced: dict[str, int] = field(default_factory=dict)
    newest: dict[bytes, Entry] = field(default_factory=dict)
    local: dict[bytes, tuple[Version, bytes | None]] = field(default_factory=dict)
    pending: dict[bytes, Entry] = field(default_factory=dict)
    overtaken: dict[bytes, list[Entry]] = field(default_factory=dict)
    """Superseded before they landed here."""
    files: dict[bytes, bytes] = field(default_factory=dict)
    """The tree: path -> content. All but this is the ledger."""
    merged: bool = False
    lives: tuple[int, ...] = ()
    facts: dict[str, bytes] = field(default_factory=dict)

    def get(self, key: str) -> bytes | None:
        return self.facts.get(key)

    def put(self, key: str, value: bytes) -> None:
        self.facts[key] = value

    def backup(self) -> "Disk":
        """The ledger as it is now."""
        return copy.deepcopy(self)

    def put_back(self, backup: "Disk | None") -> "Disk":
        """The disk with an older ledger, or none, and the tree as it is. No two lives have one number."""
        found = copy.deepcopy(backup) if backup is not None else Disk(self.member, facts={"forgot": b"new"})
        found.files, found.incarnation = self.files, self.incarnation
        return found

    def head(self, origin: str) -> int:
        return self.heads.get(origin, 0)

    def stretch(self, origin: str, after: int, upto: int) -> tuple[Entry, ...]:
        """All that is left of it."""
        return tuple(e for seq, e in sorted(self.journals.get(origin, {}).items()) if after < seq <= upto)

    def detailed(self) -> Vectors:
        return {GROUP: {origin: head for origin, head in self.heads.items() if head}}

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
        self.journals.setdefault(entry.origin, {})[entry.seq] = entry
        self.heads[entry.origin] = entry.seq
        self.lamport = max(self.lamport, entry.lamport)
        known = self.newest.get(entry.path)
        if entry.path in self.pending and entry.version > self.local_version(entry.path):
            self.overtaken.setdefault(entry.path, []).append(
                min(entry, self.pending[entry.path], key=lambda each: each.version)
            )
        if known is None or entry.version > known.version:
            self.newest[entry.path] = entry
            self.pending[entry.path] = entry

    def journal(self, paths: set[bytes], *, yielding: bool = False) -> list[Entry]:
        """Look at paths; what changed becomes an entry. `yielding`: what others announced goes over what is found."""
        made = []
        for path in sorted(paths):
            if self.as_recorded(path):
                continue
            content = self.files.get(path)
            landed = self.landed_before(path, content)
            if landed is not None:  # We put it there, and crashed before the ledger said so.
                self.land_recorded(landed)
                continue
            known = self.newest.get(path)
            if yielding and known is not None and known.kind is not Kind.ABSENT:
                self.local[path] = (NO_VERSION, content)
                self.pending[path] = known
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
            for entry in entries.values()
            if (origin != self.member or path not in self.local)
            and entry.path == path
            and entry.digest == (content or b"")
            and (content is not None or entry.version > self.local_version(path))
        ]
        return max(found, key=lambda entry: entry.version, default=None)

    def messages(self, origin: str, after: int, upto: int) -> Iterator[Entries]:
        """As `Courier`: what there is of a stretch; what was lost is said by itself."""
        for start, end in sorted(self.lost.get(origin, ())):
            if after < end and start < upto:
                if after < start:
                    yield Entries(GROUP, origin, self.stretch(origin, after, start), after=after, upto=start)
                yield Entries(GROUP, origin, (), after=max(after, start), upto=min(upto, end), lost=True)
                after = min(upto, end)
        if after < upto:
            yield Entries(GROUP, origin, self.stretch(origin, after, upto), after=after, upto=upto)

    def record(self, entries: tuple[Entry, ...], after: int, upto: int, origin: str, *, lost: bool = False) -> None:
        """All that is left of `after` < seq ≤ `upto`."""
        if lost:
            self.lost.setdefault(origin, set()).add((after, upto))
        for entry in entries:
            here = self.journals.get(origin, {}).get(entry.seq)
            if here is not None and here != entry:
                raise Violation(f"{self.member} has {here} and is sent {entry}: two entries of one number")
            head = self.head(entry.origin)
            assert after <= head, f"a hole in the ledger of {self.member}: {after} after {head}"
            if entry.seq > head:
                self._note(entry)
        if after <= self.head(origin) < upto:
            self.heads[origin] = upto

    def compact(self, upto: dict[str, int]) -> int:
        """As `replicator/spent.py`: superseded entries go, and deletes that are done here; returns how many."""
        gone = 0
        for origin, cut in upto.items():
            for seq, entry in list(self.journals.get(origin, {}).items()):
                path = entry.path
                if seq > cut or path in self.pending:
                    continue
                if self.newest.get(path) == entry:
                    if entry.kind is not Kind.ABSENT:
                        continue
                    del self.newest[path]
                    self.local.pop(path, None)
                del self.journals[origin][seq]
                gone += 1
        return gone

    def alive(self) -> tuple[dict[str, int], set[tuple[str, int]]]:
        """What `Listing` tells, in one page."""
        found = {(e.origin, e.seq) for e in self.newest.values() if e.kind is not Kind.ABSENT}
        return self.detailed()[GROUP], found

    def bury(self, recorded: dict[str, int], alive: set[tuple[str, int]]) -> None:
        """What another deleted, whose delete was compacted."""
        for path, entry in self.newest.items():
            known = entry.seq <= recorded.get(entry.origin, 0)
            if known and entry.kind is not Kind.ABSENT and (entry.origin, entry.seq) not in alive:
                self.newest[path] = msgspec.structs.replace(entry, kind=Kind.ABSENT, digest=b"")
                self.pending[path] = self.newest[path]
                if self.local_version(path) == entry.version:
                    self.local[path] = (entry.parent, self.local[path][1])

    def land_recorded(self, entry: Entry) -> None:
        """The ledger learns that the tree holds this entry."""
        self.local[entry.path] = (entry.version, entry.digest or None)
        if self.pending.get(entry.path) == entry:
            del self.pending[entry.path]
        waiting = self.overtaken.pop(entry.path, [])
        self.overtaken[entry.path] = [each for each in waiting if each.version > entry.version]

    def landed_upto(self) -> dict[str, LandedUpto]:
        gaps: dict[str, BitMap] = {origin: BitMap() for origin in self.heads}
        for entry in chain(self.pending.values(), *self.overtaken.values()):
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
