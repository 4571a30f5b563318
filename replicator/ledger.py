"""The ledger: what this member has durably recorded of every journal, and what of it has landed here.

Laws: whatever a method changed is on the disk when it returns, or nothing of it is. Of the entries for a path the
greatest version is the newest, in whatever order they came. A journal is dense: a hole is refused. Our own lamport
is greater than every one seen. An entry that was superseded counts as landed.

Threads: methods that write take one lock and may run in any worker thread, one after the other. Methods that read use
a connection for each thread, see the last commit, and never wait for a writer. Iterators read in pages, so that one
left lying about holds nothing.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import apsw
import msgspec

from anycastle.clock import SystemClock
from anycastle.replicator import place, schema, spent
from anycastle.replicator.entry import NO_VERSION, Entry, EntryError, Kind, Version, check_path
from anycastle.replicator.known_paths import KnownPaths
from anycastle.replicator.ledger_life import begin_life, own
from anycastle.replicator.ledger_merge import LedgerMerge
from anycastle.replicator.ledger_step import (
    ANCESTORS_MAX,
    SEQ_MAX,
    Step,
    check_entry,
    note_spent,
    nothing_new,
    stays,
)
from anycastle.replicator.message import LandedUpto, Mark, Vectors
from anycastle.replicator.observation import (
    Change,
    Conflict,
    Fingerprint,
    Key,
    Local,
    from_key,
    makes_the_same,
    same_bytes,
    to_entry,
)
from anycastle.replicator.progress import Progress
from anycastle.replicator.schema import LedgerError, LedgerHole
from anycastle.replicator.store import PAGE_ROWS, Row, Store

_encoder = msgspec.msgpack.Encoder()
_conflict_decoder = msgspec.msgpack.Decoder(Conflict)


class Ledger:
    """Opened by `Ledger.open`, closed by `close`."""

    incarnation: int
    """Grows by one with each opening."""
    lives: tuple[int, ...]
    """A random number for each opening, the present one last; of very many the latest."""
    created: bool
    """The database was made by this opening: what this member announced in an earlier life, only others know."""

    def __init__(self, store: Store, member: str, groups: tuple[str, ...], *, content: bool, wall: Callable[[], float]):
        self.path = store.path
        self.member = member
        self.created = store.created
        self._store = store
        self._content = content
        self._wall = wall
        self._progress = Progress(groups)
        self._known = KnownPaths()
        self.merge = LedgerMerge(store, self._progress, self._known, self._group)
        self.yielding: set[str] = set()
        """Groups in which what is found on the disk gives way to what others announced: while merging, not later."""
        with store.writing() as (db, _):
            self.incarnation = own(db, store.path, member)
            self.lives = begin_life(db, new=store.created)
            self._groups = {group: store.word(group) for group in groups}
            store.word(member)
            (greatest,) = db.execute("SELECT max(lamport) FROM journal").fetchall()[0]
        self._lamport = int(greatest or 0)
        for group in groups:
            self._load(group)

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        member: str,
        groups: tuple[str, ...],
        content: bool = True,
        wall: Callable[[], float] | None = None,
    ) -> "Ledger":
        """Opens or makes the ledger. `content` False: a witness, where nothing ever waits to land.

        Raises LedgerError with one line: damaged, not writable, no space, another member's, in use.
        """
        store = Store(path)
        try:
            return cls(store, member, groups, content=content, wall=wall or SystemClock().wall)
        except BaseException:
            store.close()
            raise

    def close(self) -> None:
        """Closes every connection; anything asked for afterwards is a LedgerError. May be called twice."""
        self._store.close()

    def _load(self, group: str) -> None:
        rows, name, grp = self._store.rows, self._store.name, self._group(group)
        for origin, detailed, fenced in rows("SELECT origin, detailed, fenced FROM journal WHERE grp = ?", (grp,)):
            self._progress.advance(group, name(origin), detailed=detailed)
            self._progress.fence(group, name(origin), fenced)
        for (origin,) in rows("SELECT DISTINCT origin FROM place WHERE grp = ? AND pending = 1", (grp,)):
            opened = rows("SELECT seq FROM place WHERE grp = ? AND pending = 1 AND origin = ?", (grp, origin))
            self._progress.advance(group, name(origin), opened=(seq for (seq,) in opened))
        for origin, *mark in rows("SELECT origin, after, upto, prefix FROM mark WHERE grp = ?", (grp,)):
            self._progress.add_mark(Mark(group, name(origin), *mark))

    def _group(self, group: str) -> int:
        try:
            return self._groups[group]
        except KeyError:
            raise LedgerError(f"no group {group} in ledger {self.path}") from None

    # Writing

    def journal(
        self, group: str, changes: Sequence[Change], insisted: frozenset[bytes] = frozenset()
    ) -> tuple[Entry, ...]:
        """Records local observations; returns the entries to announce, which are durable.

        Nothing is announced for what the ledger has already: content equal to what landed, content equal to the newest
        known (it is taken as landed), a path never known and absent, a folder that waits here for its attributes.
        What is `insisted` on is announced all the same, where it `stays`.
        """
        assert self._content, "a witness holds no files"
        grp = self._group(group)
        with self._store.writing() as (db, after_commit):
            step = Step(group, self._lamport)
            own, seq, wall = self._store.word(self.member), self.head(group), self._wall()
            entries: list[Entry] = []
            for change in changes:
                known = place.read(db, grp, change.path)
                kept = change.path in insisted and stays(db, grp, self.member, change, known)
                if not kept and nothing_new(db, grp, change, known, step):
                    continue
                if not kept and group in self.yielding and known is not None and known.newest.kind is not Kind.ABSENT:
                    self._give_way(db, grp, change, known, step)
                    continue
                seq += 1
                entry = to_entry(
                    change,
                    origin=self.member,
                    seq=seq,
                    group=group,
                    lamport=step.lamport + 1,
                    parent=known.local.version if known and known.local else NO_VERSION,
                )
                check_path(entry.path)
                place.add_entry(db, grp, own, entry, wall=wall)
                place.set_newest(db, grp, own, entry, pending=False)
                place.set_local(db, grp, own, entry, change.fingerprint, pending=False)
                note_spent(db, grp, own, entry, (known.origin, known.newest.seq) if known else None)
                step.recorded(entry)
                step.superseded(known)
                entries.append(entry)
            self._finish(db, grp, step, after_commit)
            after_commit.append(lambda: self._known.forget(group, [change.path for change in changes]))
        return tuple(entries)

    def _give_way(self, db: apsw.Connection, grp: int, change: Change, known: place.Place, step: Step) -> None:
        """The newest is to land over what was found, which is kept if it holds other bytes."""
        parent = known.newest.parent
        version = parent if same_bytes(change, known.newest) else Version(0, self.member)
        place.set_found(db, grp, change, self._store.word(version.origin), version.lamport)
        if not known.pending:
            step.opened.append((known.newest.origin, known.newest.seq))

    def record(
        self, group: str, entries: Sequence[Entry], *, left_of: tuple[str, int, int] | None = None
    ) -> tuple[Entry, ...]:
        """Records other members' entries; returns those that now are the newest of their path and not landed here.

        `left_of` (origin, after, upto): they are all that is left of that stretch of one journal, else they are dense.
        Repeated entries are ignored. Raises LedgerHole when one is missing before, EntryError for one that cannot be;
        then nothing of the call is recorded. Our own entries are taken back after a ledger was lost.
        """
        grp = self._group(group)
        waiting: dict[bytes, Entry] = {}
        with self._store.writing() as (db, after_commit):
            step, wall = Step(group, self._lamport), self._wall()
            for entry in entries:
                have = step.detailed.get(entry.origin) or self._progress.detailed(group, entry.origin)
                if entry.seq <= have:
                    continue
                if entry.seq != have + 1 and (left_of is None or not left_of[1] <= have < entry.seq <= left_of[2]):
                    raise LedgerHole(group, entry.origin, entry.seq, have + 1)
                check_entry(entry, group)
                known = place.standing(db, grp, entry.path)
                origin = self._store.word(entry.origin)
                place.add_entry(db, grp, origin, entry, wall=wall)
                step.recorded(entry)
                if known is not None and self._newest_version(known) > entry.version:
                    spent.note(db, grp, origin, entry.seq)
                    continue
                note_spent(db, grp, origin, entry, (known.origin, known.seq) if known else None)
                if known is not None and self._is_in_place(db, grp, entry, known):
                    place.adopt(db, grp, origin, entry)
                    continue
                place.set_newest(db, grp, origin, entry, pending=self._content)
                self._supersede(step, known)
                if self._content:
                    step.opened.append((entry.origin, entry.seq))
                    waiting[entry.path] = entry
            if left_of is not None:
                step.reached(*left_of, self._progress.detailed(group, left_of[0]))
            self._finish(db, grp, step, after_commit)
            after_commit.append(lambda: self._known.forget(group, [entry.path for entry in entries]))
        return tuple(waiting.values())

    def landed(self, group: str, items: Sequence[tuple[Entry, Fingerprint | None]]) -> None:
        """These entries are in place here, with these fingerprints (None for a delete).

        An entry that a later one has replaced here meanwhile changes nothing.
        """
        grp = self._group(group)
        with self._store.writing() as (db, after_commit):
            step = Step(group, self._lamport)
            for entry, fingerprint in items:
                known = place.standing(db, grp, entry.path)
                if known is None or self._newest_version(known) < entry.version:
                    raise LedgerError(f"journal {group}/{entry.origin}: entry {entry.seq} landed but was not recorded")
                if self._local_version(known) > entry.version:
                    continue
                pending = known.pending and self._newest_version(known) != entry.version
                place.set_local(db, grp, self._store.word(entry.origin), entry, fingerprint, pending=pending)
                if not pending:
                    self._supersede(step, known)
            self._finish(db, grp, step, after_commit)
            after_commit.append(lambda: self._known.forget(group, [entry.path for entry, _ in items]))

    def _is_in_place(self, db: apsw.Connection, grp: int, entry: Entry, known: place.Standing) -> bool:
        """The entry makes what has landed here already; not asked of one that was made from it."""
        if known.pending or entry.parent == self._newest_version(known):
            return False
        found = place.read(db, grp, entry.path)
        return found is not None and found.local == found.newest and makes_the_same(entry, found.newest)

    def _newest_version(self, known: place.Standing) -> Version:
        return Version(known.lamport, self._store.name(known.origin))

    def _local_version(self, known: place.Standing) -> Version:
        """NO_VERSION where nothing landed."""
        if known.local_lamport is None or known.local_origin is None:
            return NO_VERSION
        return Version(known.local_lamport, self._store.name(known.local_origin))

    def _supersede(self, step: Step, known: place.Standing | None) -> None:
        """What was the newest of a path waits no longer."""
        if known is not None and known.pending:
            step.closed.append((self._store.name(known.origin), known.seq))

    def _finish(self, db: apsw.Connection, grp: int, step: Step, after_commit: list[Callable[[], None]]) -> None:
        for origin, upto in step.detailed.items():
            word = self._store.word(origin)
            db.execute(
                "INSERT INTO journal(grp, origin, detailed, lamport, fenced) VALUES (?, ?, ?, ?, 0) ON CONFLICT "
                "DO UPDATE SET detailed = excluded.detailed, lamport = max(lamport, excluded.lamport)",
                (grp, word, upto, step.lamports.get(origin, 0)),
            )
            db.execute("DELETE FROM mark WHERE grp = ? AND origin = ? AND upto <= ?", (grp, word, upto))

        def follow() -> None:
            self._lamport = step.lamport
            step.tell(self._progress)

        after_commit.append(follow)

    def mark(self, group: str, origin: str, after: int, upto: int, prefix: bytes) -> int:
        """Records a coarse mark; returns how far the journal is now recorded. Raises LedgerHole when it leaves one."""
        grp, mark = self._group(group), Mark(group, origin, after, upto, prefix)
        recorded = self._progress.recorded(group, origin)
        if after > recorded:
            raise LedgerHole(group, origin, after + 1, recorded + 1)
        if upto <= self._progress.detailed(group, origin):
            return recorded
        if upto > SEQ_MAX or not 0 <= after < upto or origin == self.member:
            raise EntryError(f"a mark for {group}/{origin} from {after} to {upto} cannot be")
        with self._store.writing() as (db, after_commit):
            row = (grp, self._store.word(origin), after, upto, prefix)
            db.execute("INSERT OR IGNORE INTO mark(grp, origin, after, upto, prefix) VALUES (?, ?, ?, ?, ?)", row)
            after_commit.append(lambda: self._progress.add_mark(mark))
        return self._progress.recorded(group, origin)

    def store_fenced(self, group: str, origin: str, upto: int) -> None:
        """Remembers how far a journal is fenced. Not fsynced: forgetting it costs a wait, never a stale read."""
        grp = self._group(group)
        if not self._progress.fence(group, origin, upto):
            return
        with self._store.writing(durable=False) as (db, _):
            db.execute(
                "INSERT INTO journal(grp, origin, detailed, lamport, fenced) VALUES (?, ?, 0, 0, ?) "
                "ON CONFLICT DO UPDATE SET fenced = max(fenced, excluded.fenced)",
                (grp, self._store.word(origin), upto),
            )

    def add_conflict(self, conflict: Conflict) -> None:
        with self._store.writing() as (db, _):
            db.execute("INSERT INTO conflict(body) VALUES (?)", (_encoder.encode(conflict),))

    def end_conflict(self, number: int) -> None:
        """It was dealt with."""
        with self._store.writing() as (db, _):
            db.execute("DELETE FROM conflict WHERE id = ?", (number,))

    def put(self, key: str, value: bytes) -> None:
        """Keeps a small fact of this member."""
        with self._store.writing() as (db, _):
            schema.set_fact(db, f"fact.{key}", value)

    # Reading

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
        """What of each journal is in place or superseded here."""
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
        return self._known.get(group, path) or self._known.put(group, path, lambda: self._read_known(group, path))

    def _read_known(self, group: str, path: bytes) -> tuple[Entry | None, Local | None]:
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
            f"SELECT path, {place.KEY_COLUMNS} FROM place WHERE grp = ? AND digest = ? LIMIT ?",
            (self._group(group), digest, limit),
        )
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
        rows = self._store.rows("SELECT id, body FROM conflict ORDER BY id", ())
        return {number: _conflict_decoder.decode(body) for number, body in rows}

    def get(self, key: str) -> bytes | None:
        """What `put` kept."""
        rows = self._store.rows("SELECT value FROM fact WHERE key = ?", (f"fact.{key}",))
        return rows[0][0] if rows else None

    def _to_local(self, row: Row) -> Local:
        lamport, origin, kind, digest, *key = row
        fingerprint = None if key[0] is None else from_key(tuple(key))
        return Local(Version(lamport, self._store.name(origin)), Kind(kind), digest or b"", fingerprint)
