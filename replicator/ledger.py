"""The ledger: what this member has durably recorded of every journal, and what of it has landed here.

Laws: whatever a method changed is on the disk when it returns, or nothing of it is. Of the entries for a path the
greatest version is the newest, in whatever order they came. A journal is dense: a hole is refused. Our own lamport
is greater than every one seen. An entry that was superseded counts as landed once something newer of its path has:
before that its bytes may be nowhere, for its origin holds the newer ones.

Threads: methods that write take one lock and may run in any worker thread, one after the other; those that read are in
`ledger_reading`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import apsw
import msgspec

from anycastle.clock import SystemClock
from anycastle.replicator import place, schema, spent
from anycastle.replicator.entry import NO_VERSION, Entry, EntryError, Kind, Version, check_path
from anycastle.replicator.ledger_life import begin_life, own
from anycastle.replicator.ledger_merge import LedgerMerge
from anycastle.replicator.ledger_reading import LedgerReading
from anycastle.replicator.ledger_step import SEQ_MAX, Step, check_entry, note_spent, nothing_new, stays
from anycastle.replicator.message import Mark
from anycastle.replicator.observation import Change, Conflict, Fingerprint, makes_the_same, same_bytes, to_entry
from anycastle.replicator.schema import LedgerError, LedgerHole
from anycastle.replicator.store import Store

_OVERTAKEN = """
SELECT o.origin, o.seq FROM overtaken o JOIN place p ON p.grp = o.grp AND p.path = o.path
WHERE o.grp = ? AND p.pending = 1"""

_encoder = msgspec.msgpack.Encoder()


class Ledger(LedgerReading):
    """Opened by `Ledger.open`, closed by `close`."""

    incarnation: int
    """Grows by one with each opening."""
    lives: tuple[int, ...]
    """A random number for each opening, the present one last; of very many the latest."""
    created: bool
    """The database was made by this opening: what this member announced in an earlier life, only others know."""

    def __init__(self, store: Store, member: str, groups: tuple[str, ...], *, content: bool, wall: Callable[[], float]):
        super().__init__(store, member, groups)
        self.created = store.created
        self._content = content
        self._wall = wall
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
        # Left to itself, SQLite walks the whole group.
        pending = "FROM place INDEXED BY place_pending WHERE grp = ? AND pending = 1"
        for (origin,) in rows(f"SELECT DISTINCT origin {pending}", (grp,)):
            opened = rows(f"SELECT seq {pending} AND origin = ?", (grp, origin))
            self._progress.advance(group, name(origin), opened=(seq for (seq,) in opened))
        for origin, seq in rows(_OVERTAKEN, (grp,)):
            self._progress.advance(group, name(origin), opened=(seq,))
        for origin, *mark in rows("SELECT origin, after, upto, prefix FROM mark WHERE grp = ?", (grp,)):
            self._progress.add_mark(Mark(group, name(origin), *mark))

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
                step.superseded(db, grp, known, entry.version)
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
        self,
        group: str,
        entries: Sequence[Entry],
        *,
        left_of: tuple[str, int, int] | None = None,
        lost: bool = False,
    ) -> tuple[Entry, ...]:
        """Records other members' entries; returns those that now are the newest of their path and not landed here.

        `left_of` (origin, after, upto): they are all that is left of that stretch of one journal, else they are dense.
        `lost`: there never were any more of it, which `lost_beyond` tells from now on.
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
                    if known.pending and self._local_version(known) < entry.version:
                        place.overtake(db, grp, entry.path, origin, entry.seq, entry.lamport)
                        step.opened.append((entry.origin, entry.seq))
                    continue
                note_spent(db, grp, origin, entry, (known.origin, known.seq) if known else None)
                if known is not None and self._is_in_place(db, grp, entry, known):
                    place.adopt(db, grp, origin, entry)
                    continue
                place.set_newest(db, grp, origin, entry, pending=self._content)
                if known is not None and known.pending:
                    place.overtake(db, grp, entry.path, known.origin, known.seq, known.lamport)
                if self._content:
                    step.opened.append((entry.origin, entry.seq))
                    waiting[entry.path] = entry
            if left_of is not None:
                if left_of[2] > SEQ_MAX:
                    raise EntryError(f"a stretch of {group}/{left_of[0]} up to {left_of[2]} cannot be")
                step.reached(*left_of, self._progress.detailed(group, left_of[0]))
                if lost:
                    name, after, upto = left_of
                    stretches = sorted({*self._lost(group, name), (after, upto)})
                    schema.set_fact(db, f"ledger.lost.{group}.{name}", _encoder.encode(stretches))
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
                if known.pending and not pending:
                    step.closed.append((entry.origin, entry.seq))
                if known.overtaken:
                    step.landed(db, grp, entry.path, entry.version)
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
