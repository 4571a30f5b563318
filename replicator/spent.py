"""Compaction of the ledger: entries that were superseded, and deletes that everybody has done, go.

Laws: an entry goes only when no path needs it any more, as its newest or as what is on the disk here; the newest of a
path goes only when it is a delete that is done here and is below a cut (`stable`). What may go one day is noted in
`spent` when it comes about, so that compaction costs by what changed and not by what there is.
"""

from typing import Any

import apsw

from anycastle.replicator.entry import Kind

_CANDIDATES = """
SELECT s.seq, e.path, p.path IS NOT NULL, p.pending, (p.origin, p.seq) = (s.origin, s.seq), p.kind
FROM spent s LEFT JOIN entry e ON e.grp = s.grp AND e.origin = s.origin AND e.seq = s.seq
LEFT JOIN place p ON p.grp = e.grp AND p.path = e.path
WHERE s.grp = ? AND s.origin = ? AND s.seq > ? AND s.seq <= ? ORDER BY s.seq LIMIT ?"""


def note(db: apsw.Connection, grp: int, origin: int, seq: int) -> None:
    """This entry was superseded, or is a delete."""
    db.execute("INSERT OR IGNORE INTO spent(grp, origin, seq) VALUES (?, ?, ?)", (grp, origin, seq))


def compact(
    db: apsw.Connection, grp: int, origin: int, after: int, upto: int, limit: int
) -> tuple[int, int, list[bytes]]:
    """One page of one journal: (how far it came, how many entries went, the paths that went altogether)."""
    rows: list[tuple[Any, ...]] = db.execute(_CANDIDATES, (grp, origin, after, upto, limit)).fetchall()
    reached: int = rows[-1][0] if rows else upto
    gone, paths = 0, []
    for seq, path, placed, pending, newest, kind in rows:
        if placed and pending:
            continue  # what is on the disk here may be this, or may stem from it
        if placed and newest:
            if kind != Kind.ABSENT:
                continue
            db.execute("DELETE FROM place WHERE grp = ? AND path = ?", (grp, path))
            paths.append(path)
        db.execute("DELETE FROM spent WHERE grp = ? AND origin = ? AND seq = ?", (grp, origin, seq))
        db.execute("DELETE FROM entry WHERE grp = ? AND origin = ? AND seq = ?", (grp, origin, seq))
        gone += 1
    return (reached if len(rows) == limit else upto), gone, paths
