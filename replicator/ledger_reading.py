"""What a ledger says: the half of `Ledger` that only reads.

Laws: each thread reads by a connection of its own, sees the last commit, and never waits for a writer. Iterators read
in pages, so that one left lying about holds nothing.
"""

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from anycastle.replicator import place
from anycastle.replicator.entry import Entry, Kind, Version
from anycastle.replicator.known_paths import KnownPaths
from anycastle.replicator.message import LandedUpto, Mark, Vectors
from anycastle.replicator.observation import Conflict, Fingerprint, Key, Local, from_key
from anycastle.replicator.progress import Progress
from anycastle.replicator.schema import LedgerError
from anycastle.replicator.store import PAGE_ROWS, Row, Store

ANCESTORS_MAX = 10_000
"""Steps up a parent chain; beyond them an older version is held not to be an ancestor (a kept copy too many)."""
_lost_decoder = msgspec.msgpack.Decoder(list[tuple[int, int]])
_conflict_decoder = msgspec.msgpack.Decoder(Conflict)


class LedgerReading:
    """Of all groups of a member."""

    def __init__(self, store: Store, member: str, groups: tuple[str, ...]) -> None:
        self.path = store.path
        self.member = member
        self._store = store
        self._groups: dict[str, int] = {}
        """Group -> the number that stands for it."""
        self._progress = Progress(groups)
        self._known = KnownPaths()

    def _group(self, group: str) -> int:
        try:
            return self._groups[group]
        except KeyError:
            raise LedgerError(f"no group {group} in ledger {self.path}") from None

    def head(self, group: str) -> int:
        """The greatest seq of our own journal."""
        return self._progress.detailed(group, self.member)

    def recorded(self) -> Vectors:
        """Contiguous from 1: details, and what coarse marks cover."""
        return self._progress.recorded_vectors()

    def detailed(self) -> Vectors:
        """Contiguous from 1: the entries themselves are here."""
        return self._progress.detailed_vectors()

    def fenced(self) -> Vectors:
        return self._progress.fenced_vectors()

    def landed_upto(self, group: str) -> dict[str, LandedUpto]:
        """What of each journal is in place here, or something newer of its path is."""
        return self._progress.landed_upto(group)

    def marks(self, group: str) -> tuple[Mark, ...]:
        """Coarse marks whose entries are not all here."""
        return self._progress.marks(group)

    def entries(self, group: str, origin: str, after: int, limit: int) -> tuple[Entry, ...]:
        """Entries of one journal above `after`, ascending, at most `limit`."""
        rows = self._store.rows(
            "SELECT body FROM entry WHERE grp = ? AND origin = ? AND seq > ? ORDER BY seq LIMIT ?",
            (self._group(group), self._store.known_word(origin), after, limit),
        )
        return tuple(place.decode(body) for (body,) in rows)

    def lost_beyond(self, group: str, origin: str, seq: int) -> tuple[int, int] | None:
        """The first stretch (after, upto) of a journal, reaching beyond `seq`, whose entries nobody ever got."""
        return min((lost for lost in self._lost(group, origin) if lost[1] > seq), default=None)

    def _lost(self, group: str, origin: str) -> list[tuple[int, int]]:
        rows = self._store.rows("SELECT value FROM fact WHERE key = ?", (f"ledger.lost.{group}.{origin}",))
        return _lost_decoder.decode(rows[0][0]) if rows else []

    def paths(self, group: str, origin: str, seqs: Iterable[int]) -> Iterator[tuple[int, bytes]]:
        """The paths of these entries, where they are here."""
        grp, word = self._group(group), self._store.known_word(origin)
        for seq in seqs:
            for (path,) in self._store.rows(
                "SELECT path FROM entry WHERE grp = ? AND origin = ? AND seq = ?", (grp, word, seq)
            ):
                yield seq, path

    def pending(self, group: str, after: Mapping[str, int]) -> Iterator[tuple[str, int, bytes, float]]:
        """(origin, seq, path, wall seconds when recorded here) of entries above `after[origin]` (0 when not named)."""
        grp = self._group(group)
        for origin, upto in self._progress.detailed_vectors()[group].items():
            last = after.get(origin, 0)
            while last < upto:
                rows = self._store.rows(
                    "SELECT seq, path, wall FROM entry WHERE grp = ? AND origin = ? AND seq > ? ORDER BY seq LIMIT ?",
                    (grp, self._store.known_word(origin), last, PAGE_ROWS),
                )
                if not rows:
                    break
                for seq, path, wall in rows:
                    yield origin, seq, path, wall
                last = rows[-1][0]

    def newest(self, group: str, path: bytes) -> Entry | None:
        """The entry with the greatest version known for a path, tombstones included."""
        rows = self._store.rows(
            "SELECT e.body FROM place p JOIN entry e ON e.grp = p.grp AND e.origin = p.origin AND e.seq = p.seq "
            "WHERE p.grp = ? AND p.path = ?",
            (self._group(group), path),
        )
        return place.decode(rows[0][0]) if rows else None

    def known(self, group: str, path: bytes) -> tuple[Entry | None, Local | None]:
        """`newest` and `local` of one moment, from memory where somebody asked before and nothing was written since."""
        return self._known.get(group, path) or self._known.put(group, path, lambda: self.known_now(group, path))

    def known_now(self, group: str, path: bytes) -> tuple[Entry | None, Local | None]:
        """As `known`, and always asked of the ledger."""
        rows = self._store.rows(
            f"SELECT e.body, {place.LOCAL_COLUMNS} FROM place p "
            "JOIN entry e ON e.grp = p.grp AND e.origin = p.origin AND e.seq = p.seq WHERE p.grp = ? AND p.path = ?",
            (self._group(group), path),
        )
        if not rows:
            return None, None
        body, *local = rows[0]
        return place.decode(body), None if local[2] is None else self._to_local(tuple(local))

    def below(self, group: str, prefix: bytes) -> Iterator[Entry]:
        """The newest entries below a folder prefix (`a/b/`, or empty for all) in the order of paths, but tombstones."""
        rows = self._store.walk(
            "SELECT p.path, e.body FROM place p "
            "JOIN entry e ON e.grp = p.grp AND e.origin = p.origin AND e.seq = p.seq "
            f"WHERE p.grp = ? AND p.path > ? AND p.path < ? AND p.kind <> {int(Kind.ABSENT)} ORDER BY p.path LIMIT ?",
            self._group(group),
            prefix,
        )
        return (place.decode(body) for _, body in rows)

    def local(self, group: str, path: bytes) -> Local | None:
        """What landed here at a path; kind ABSENT when it was deleted here."""
        rows = self._store.rows(
            f"SELECT {place.LOCAL_COLUMNS} FROM place WHERE grp = ? AND path = ? AND local_kind IS NOT NULL",
            (self._group(group), path),
        )
        return self._to_local(rows[0]) if rows else None

    def locals_below(self, group: str, prefix: bytes, *, onwards: bool = False) -> Iterator[tuple[bytes, Local]]:
        """Live things that landed here below a folder prefix (`a/b/`, or empty for all), in the order of paths.

        `onwards`: everything behind a path instead, whatever it is.
        """
        rows = self._store.walk(
            f"SELECT path, {place.LOCAL_COLUMNS} FROM place WHERE grp = ? AND path > ? AND path < ? "
            f"AND local_kind <> {int(Kind.ABSENT)} ORDER BY path LIMIT ?",
            self._group(group),
            prefix,
            onwards=onwards,
        )
        return ((row[0], self._to_local(row[1:])) for row in rows)

    def files_total(self, group: str) -> tuple[int, int]:
        """How many files landed here, and their bytes. Walks over all."""
        sql = f"SELECT count(*), coalesce(sum(size), 0) FROM place WHERE grp = ? AND local_kind = {int(Kind.FILE)}"
        files, size = self._store.rows(sql, (self._group(group),))[0]
        return files, size

    def keys_below(self, group: str, prefix: bytes) -> Iterator[tuple[bytes, Key]]:
        """As `locals_below`, only the paths and the fingerprints as plain integers: for walks over everything."""
        rows = self._store.walk(
            f"SELECT path, {place.KEY_COLUMNS} FROM place WHERE grp = ? AND path > ? AND path < ? "
            f"AND local_kind <> {int(Kind.ABSENT)} ORDER BY path LIMIT ?",
            self._group(group),
            prefix,
        )
        return ((row[0], row[1:]) for row in rows)

    def paths_of_inode(self, group: str, ino: int) -> list[bytes]:
        """Every name under which this inode landed here, or was last seen: the names of a hard link."""
        rows = self._store.rows(
            "SELECT path FROM place WHERE grp = ? AND ino = ?",
            (self._group(group), ino - (1 << 64) if ino >= 1 << 63 else ino),
        )
        return [path for (path,) in rows]

    def count_locals(self, group: str) -> int:
        """How many live things landed here."""
        sql = f"SELECT count(*) FROM place WHERE grp = ? AND local_kind <> {int(Kind.ABSENT)}"
        return int(self._store.rows(sql, (self._group(group),))[0][0])

    def unlanded(self, group: str) -> Iterator[Entry]:
        """Entries that are the newest of their path and have not landed here, in the order they were made."""
        grp = self._group(group)
        last: tuple[int, bytes] = (-1, b"")
        while True:
            rows = self._store.rows(
                "SELECT p.lamport, p.path, e.body FROM place p "
                "JOIN entry e ON e.grp = p.grp AND e.origin = p.origin AND e.seq = p.seq "
                "WHERE p.grp = ? AND p.pending = 1 AND (p.lamport, p.path) > (?, ?) ORDER BY p.lamport, p.path LIMIT ?",
                (grp, *last, PAGE_ROWS),
            )
            for _, _, body in rows:
                yield place.decode(body)
            if len(rows) < PAGE_ROWS:
                return
            last = (rows[-1][0], rows[-1][1])

    def with_digest(self, group: str, digest: bytes, limit: int) -> list[tuple[bytes, Fingerprint | None]]:
        """Files that landed here with that content, and what they looked like then."""
        rows = self._store.rows(
            f"SELECT path, {place.KEY_COLUMNS} FROM place INDEXED BY place_digest WHERE grp = ? AND digest = ? LIMIT ?",
            (self._group(group), digest, limit),
        )  # SQLite by itself walks the whole group
        return [(path, None if key[0] is None else from_key(tuple(key))) for path, *key in rows]

    def is_ancestor(self, group: str, older: Version, entry: Entry) -> bool:
        """`older` is in the chain of versions that `entry` replaced. At most ANCESTORS_MAX steps are followed."""
        grp, version = self._group(group), entry.parent
        for _ in range(ANCESTORS_MAX):
            if version <= older:  # versions fall along the chain, so it has been passed or reached
                return version == older
            rows = self._store.rows(
                "SELECT body FROM entry WHERE grp = ? AND origin = ? AND lamport = ?",
                (grp, self._store.known_word(version.origin), version.lamport),
            )
            if not rows:
                return False
            parent = place.decode(rows[0][0]).parent
            if parent >= version:
                return False
            version = parent
        return False

    def last_folder(self, group: str, path: bytes) -> Entry | None:
        """The newest known entry of a path, or the last one before it that made it a folder."""
        grp, entry = self._group(group), self.newest(group, path)
        for _ in range(ANCESTORS_MAX):
            if entry is None or entry.kind is Kind.FOLDER:
                return entry
            origin, lamport = self._store.known_word(entry.parent.origin), entry.parent.lamport
            rows = self._store.rows(
                "SELECT body FROM entry WHERE grp = ? AND origin = ? AND lamport = ?", (grp, origin, lamport)
            )
            entry = place.decode(rows[0][0]) if rows else None
        return None

    def conflicts(self) -> tuple[Conflict, ...]:
        """Every conflict kept, the oldest first."""
        return tuple(self.conflicts_by_id().values())

    def conflicts_by_id(self) -> dict[int, Conflict]:
        """The same, by the number that an operator names it by."""
        return self.conflicts_after(0)

    def conflicts_after(self, number: int) -> dict[int, Conflict]:
        """Those that came later than the one of that number."""
        rows = self._store.rows("SELECT id, body FROM conflict WHERE id > ? ORDER BY id", (number,))
        return {each: _conflict_decoder.decode(body) for each, body in rows}

    def last_conflict(self) -> int:
        """The greatest number of a conflict that is there; 0 without any."""
        return int(self._store.rows("SELECT coalesce(max(id), 0) FROM conflict", ())[0][0])

    def get(self, key: str) -> bytes | None:
        """What `put` kept."""
        rows = self._store.rows("SELECT value FROM fact WHERE key = ?", (f"fact.{key}",))
        return rows[0][0] if rows else None

    def _to_local(self, row: Row) -> Local:
        lamport, origin, kind, digest, *key = row
        fingerprint = None if key[0] is None else from_key(tuple(key))
        return Local(Version(lamport, self._store.name(origin)), Kind(kind), digest or b"", fingerprint)
