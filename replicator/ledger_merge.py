"""The part of the ledger for bringing a group together with the others': is it under way, what is alive; compaction.

Law: that a merge is under way is durable, so a crash in the middle begins it again and never leaves it half done.
"""

from collections.abc import Callable, Collection, Mapping

import apsw
import msgspec
from pyroaring import BitMap

from anycastle.replicator import place, spent
from anycastle.replicator.entry import Kind
from anycastle.replicator.known_paths import KnownPaths
from anycastle.replicator.progress import Progress
from anycastle.replicator.schema import set_fact
from anycastle.replicator.store import PAGE_ROWS, Store


class LedgerMerge:
    """`Ledger.merge`. Writes are under the store's lock, like the ledger's own."""

    def __init__(self, store: Store, progress: Progress, known: KnownPaths, group: Callable[[str], int]) -> None:
        self._store = store
        self._progress = progress
        self._known = known
        self._group = group

    def under_way(self, group: str) -> bool:
        """What is here has not been compared with what the others announced: so it is of a group that is new here."""
        return not self._store.rows("SELECT 1 FROM fact WHERE key = ?", (f"ledger.merged.{group}",))

    def begin(self, group: str) -> None:
        with self._store.writing() as (db, _):
            db.execute("DELETE FROM fact WHERE key = ?", (f"ledger.merged.{group}",))

    def end(self, group: str) -> None:
        with self._store.writing() as (db, _):
            set_fact(db, f"ledger.merged.{group}", b"1")

    def leave_out(self, group: str, patterns: tuple[str, ...]) -> None:
        """What was left out under other patterns is to be looked at again: it may belong here now."""
        key, said = f"ledger.exclude.{group}", "\n".join(patterns).encode()
        if self._store.rows("SELECT value FROM fact WHERE key = ?", (key,)) == [(said,)]:
            return
        grp = self._group(group)
        with self._store.writing() as (db, after_commit):
            for origin, seq in place.take_back_left_out(db, grp):
                name = self._store.name(origin)
                after_commit.append(
                    lambda name=name, seq=seq: self._progress.advance(group, name, opened=(seq,))  # type: ignore[misc]
                )
            set_fact(db, key, said)

    def compact(self, group: str, origin: str, after: int, upto: int) -> tuple[int, int]:
        """One page of what nobody needs any more of a journal: (how far it came, how many entries went)."""
        with self._store.writing(durable=False) as (db, after_commit):
            word = self._store.word(origin)
            reached, gone, paths = spent.compact(db, self._group(group), word, after, upto, PAGE_ROWS)
            after_commit.append(lambda: self._known.forget(group, paths))
        return reached, gone

    def alive(self, group: str, origin: str, after: int, upto: int) -> tuple[Mapping[str, int], BitMap]:
        """Which entries of a stretch are the newest of a path that is there; and all that was recorded by then."""
        rows = self._store.rows(
            "SELECT seq FROM place WHERE grp = ? AND origin = ? AND kind <> ? AND seq > ? AND seq <= ?",
            (self._group(group), self._store.known_word(origin), int(Kind.ABSENT), after, upto),
        )
        return self._progress.detailed_vectors()[group], BitMap(seq for (seq,) in rows)

    def dead(self, group: str, origin: str, after: int, upto: int, alive: BitMap) -> list[bytes]:
        """Paths that are there as of an entry in the stretch which is not alive elsewhere."""
        rows = self._store.rows(
            "SELECT path, seq FROM place WHERE grp = ? AND origin = ? AND kind <> ? AND seq > ? AND seq <= ?",
            (self._group(group), self._store.known_word(origin), int(Kind.ABSENT), after, upto),
        )
        return [path for path, seq in rows if seq not in alive]

    def bury(self, group: str, paths: Collection[bytes]) -> None:
        """Their deletes were compacted at the others: the newest entry of each becomes the delete, to be landed."""
        grp = self._group(group)
        with self._store.writing() as (db, after_commit):
            for path in paths:
                known = place.read(db, grp, path)
                if known is not None and known.newest.kind is not Kind.ABSENT:
                    self._bury(db, grp, known)
                    name, seq = known.newest.origin, known.newest.seq
                    after_commit.append(
                        lambda name=name, seq=seq: self._progress.advance(group, name, opened=(seq,))  # type: ignore[misc]
                    )
            after_commit.append(lambda: self._known.forget(group, paths))

    def _bury(self, db: apsw.Connection, grp: int, known: place.Place) -> None:
        entry = known.newest
        parent = entry.parent
        gone = msgspec.structs.replace(entry, kind=Kind.ABSENT, digest=b"", size=0, target=b"", xattrs={})
        place.bury(db, grp, known.origin, gone, self._store.word(parent.origin))
        spent.note(db, grp, known.origin, entry.seq)
