"""One row of the ledger for each path: the newest entry known, and what has landed here.

Law: `pending` is 1 exactly while the newest entry is not what has landed here (and the member holds content).
Runs inside the caller's transaction.
"""

from dataclasses import dataclass

import apsw
import msgspec

from anycastle.replicator.entry import Entry, Kind, Version
from anycastle.replicator.observation import Change, Fingerprint, to_key
from anycastle.replicator.store import Row

_decoder = msgspec.msgpack.Decoder(Entry)
_encoder = msgspec.msgpack.Encoder()

KEY_COLUMNS = "ino, ctime_ns, mtime_ns, size, disk_kind, mode, uid, gid"
LOCAL_COLUMNS = f"local_lamport, local_origin, local_kind, digest, {KEY_COLUMNS}"

_HAS_OVERTAKEN = "EXISTS (SELECT 1 FROM overtaken o WHERE o.grp = p.grp AND o.path = p.path)"

_READ = f"""
SELECT p.origin, p.pending, {_HAS_OVERTAKEN}, n.body, l.body
FROM place p JOIN entry n ON n.grp = p.grp AND n.origin = p.origin AND n.seq = p.seq
LEFT JOIN entry l ON l.grp = p.grp AND l.origin = p.local_origin AND l.seq = p.local_seq
WHERE p.grp = ? AND p.path = ?"""

_STANDING = f"""
SELECT origin, seq, lamport, pending, {_HAS_OVERTAKEN}, local_lamport, local_origin FROM place p
WHERE grp = ? AND path = ?"""

_WANTED_BELOW = "SELECT 1 FROM place WHERE grp = ? AND path > ? AND path < ? AND kind <> ? LIMIT 1"

_ADD_ENTRY = "INSERT INTO entry(grp, origin, seq, lamport, wall, path, body) VALUES (?, ?, ?, ?, ?, ?, ?)"

_SET_NEWEST = """
INSERT INTO place(grp, path, origin, seq, lamport, kind, pending) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET origin = excluded.origin, seq = excluded.seq, lamport = excluded.lamport,
kind = excluded.kind, pending = excluded.pending"""

_SET_LOCAL = """
UPDATE place SET pending = ?, local_origin = ?, local_seq = ?, local_lamport = ?, local_kind = ?, digest = ?,
ino = ?, ctime_ns = ?, mtime_ns = ?, size = ?, disk_kind = ?, mode = ?, uid = ?, gid = ? WHERE grp = ? AND path = ?"""

_SET_FINGERPRINT = """
UPDATE place SET ino = ?1, ctime_ns = ?2, mtime_ns = ?3, size = ?4, disk_kind = ?5, mode = ?6, uid = ?7, gid = ?8
WHERE grp = ?9 AND path = ?10
AND (ino, ctime_ns, mtime_ns, size, disk_kind, mode, uid, gid) IS NOT (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"""

_SET_FOUND = """
UPDATE place SET pending = 1, local_origin = ?, local_seq = 0, local_lamport = ?, local_kind = ?, digest = ?,
ino = ?, ctime_ns = ?, mtime_ns = ?, size = ?, disk_kind = ?, mode = ?, uid = ?, gid = ? WHERE grp = ? AND path = ?"""

_BURY_ENTRY = "UPDATE entry SET body = ? WHERE grp = ? AND origin = ? AND seq = ?"

_BURY = """
UPDATE place SET kind = ?1, pending = 1,
local_seq = iif(local_origin = ?2 AND local_seq = ?3, 0, local_seq),
local_lamport = iif(local_origin = ?2 AND local_seq = ?3, ?4, local_lamport),
local_origin = iif(local_origin = ?2 AND local_seq = ?3, ?5, local_origin) WHERE grp = ?6 AND path = ?7"""

_TAKE_BACK = """
UPDATE place SET pending = 1, local_origin = NULL, local_seq = NULL, local_lamport = NULL, local_kind = NULL
WHERE grp = ?1 AND pending = 0 AND kind <> ?2 AND local_kind = ?2 RETURNING origin, seq"""

_FORGET_FOUND = """
UPDATE place SET local_origin = NULL, local_seq = NULL, local_lamport = NULL, local_kind = NULL, digest = NULL,
ino = NULL, ctime_ns = NULL, mtime_ns = NULL, size = NULL, disk_kind = NULL, mode = NULL, uid = NULL, gid = NULL
WHERE grp = ? AND path = ? AND local_seq = 0"""

_STANDS_AS_FOUND = """
SELECT 1 FROM place
WHERE grp = ? AND path = ? AND local_seq = 0 AND (ino, disk_kind, mode, uid, gid) = (?, ?, ?, ?, ?)"""

_ADOPT = """
UPDATE place SET origin = ?1, seq = ?2, lamport = ?3, local_origin = ?1, local_seq = ?2, local_lamport = ?3
WHERE grp = ?4 AND path = ?5"""

_OVERTAKE = "INSERT OR IGNORE INTO overtaken(grp, path, origin, seq, lamport) VALUES (?, ?, ?, ?, ?)"

_OVERTAKEN = """
SELECT w.text, o.origin, o.seq, o.lamport FROM overtaken o JOIN word w ON w.id = o.origin
WHERE o.grp = ? AND o.path = ?"""

_OVERTAKEN_ENTRIES = """
SELECT e.origin, e.body FROM overtaken o JOIN entry e ON e.grp = o.grp AND e.origin = o.origin AND e.seq = o.seq
WHERE o.grp = ? AND o.path = ? ORDER BY e.lamport DESC"""

_FORGET_OVERTAKEN = "DELETE FROM overtaken WHERE grp = ? AND path = ? AND origin = ? AND seq = ?"

_NOWHERE: tuple[int | None, ...] = (None,) * 8


@dataclass(frozen=True, slots=True)
class Place:
    """What is known of one path before a write."""

    origin: int
    """The number that stands for the newest entry's origin."""
    pending: bool
    overtaken: bool
    """Others were superseded while the path waited."""
    newest: Entry
    local: Entry | None


@dataclass(frozen=True, slots=True)
class Standing:
    """As `Place`, without reading the entries. Origins are the numbers that stand for them."""

    origin: int
    seq: int
    lamport: int
    pending: bool
    overtaken: bool
    local_lamport: int | None
    local_origin: int | None


def encode(entry: Entry) -> bytes:
    return _encoder.encode(entry)


def decode(body: bytes) -> Entry:
    return _decoder.decode(body)


def read(db: apsw.Connection, grp: int, path: bytes) -> Place | None:
    row = db.execute(_READ, (grp, path)).fetchone()
    if row is None:
        return None
    origin, pending, overtaken, newest_body, local_body = row
    newest = decode(newest_body)
    same = local_body is not None and local_body == newest_body
    local = newest if same else None if local_body is None else decode(local_body)
    return Place(origin, bool(pending), bool(overtaken), newest, local)


def standing(db: apsw.Connection, grp: int, path: bytes) -> Standing | None:
    row = db.execute(_STANDING, (grp, path)).fetchone()
    if row is None:
        return None
    origin, seq, lamport, pending, overtaken, *local = row
    return Standing(origin, seq, lamport, bool(pending), bool(overtaken), *local)


def is_wanted_below(db: apsw.Connection, grp: int, folder: bytes) -> bool:
    """The newest entry of something in a folder is not its deletion."""
    return db.execute(_WANTED_BELOW, (grp, folder + b"/", folder + b"0", int(Kind.ABSENT))).fetchone() is not None


def add_entry(db: apsw.Connection, grp: int, origin: int, entry: Entry, *, wall: float) -> None:
    db.execute(_ADD_ENTRY, (grp, origin, entry.seq, entry.lamport, wall, entry.path, encode(entry)))


def set_newest(db: apsw.Connection, grp: int, origin: int, entry: Entry, *, pending: bool) -> None:
    db.execute(_SET_NEWEST, (grp, entry.path, origin, entry.seq, entry.lamport, int(entry.kind), int(pending)))


def set_local(
    db: apsw.Connection, grp: int, origin: int, entry: Entry, fingerprint: Fingerprint | None, *, pending: bool
) -> None:
    digest = entry.digest if entry.kind is Kind.FILE else None
    told = (int(pending), origin, entry.seq, entry.lamport, int(entry.kind), digest)
    db.execute(_SET_LOCAL, (*told, *(to_key(fingerprint) if fingerprint else _NOWHERE), grp, entry.path))


def overtake(db: apsw.Connection, grp: int, path: bytes, origin: int, seq: int, lamport: int) -> None:
    """An entry is superseded before it landed, and so is what waits at its path."""
    db.execute(_OVERTAKE, (grp, path, origin, seq, lamport))


def overtaken(db: apsw.Connection, grp: int, path: bytes) -> list[tuple[int, Entry]]:
    """What was superseded while a path waited, the newest first, each with the number that stands for its origin."""
    rows: list[Row] = db.execute(_OVERTAKEN_ENTRIES, (grp, path)).fetchall()
    return [(origin, decode(body)) for origin, body in rows]


def caught_up(db: apsw.Connection, grp: int, path: bytes, landed: Version) -> list[tuple[str, int]]:
    """(origin, seq) of what waited at a path and is not newer than what has landed there; it is noted no longer."""
    rows: list[Row] = db.execute(_OVERTAKEN, (grp, path)).fetchall()
    done = [(name, origin, seq) for name, origin, seq, lamport in rows if Version(lamport, name) <= landed]
    for _, origin, seq in done:
        db.execute(_FORGET_OVERTAKEN, (grp, path, origin, seq))
    return [(name, seq) for name, _, seq in done]


def set_found(db: apsw.Connection, grp: int, change: Change, origin: int, lamport: int) -> None:
    """What stands at a path is of a version that no entry here tells of, and gives way to the newest."""
    digest = change.digest if change.kind is Kind.FILE else None
    key = to_key(change.fingerprint) if change.fingerprint else _NOWHERE
    db.execute(_SET_FOUND, (origin, lamport, int(change.kind), digest, *key, grp, change.path))


def take_back_left_out(db: apsw.Connection, grp: int) -> list[tuple[int, int]]:
    """What counts as landed by being absent waits to land again; (origin, seq) of each."""
    rows: list[Row] = db.execute(_TAKE_BACK, (grp, int(Kind.ABSENT))).fetchall()
    return [(origin, seq) for origin, seq in rows]


def forget_found(db: apsw.Connection, grp: int, path: bytes) -> None:
    """What was found is not there any more."""
    db.execute(_FORGET_FOUND, (grp, path))


def stands_as_found(db: apsw.Connection, grp: int, path: bytes, folder: Fingerprint) -> bool:
    """A folder is what no entry here tells of (found, or buried) and what is to give way: it is known already."""
    ino, _, _, _, *rest = to_key(folder)
    return db.execute(_STANDS_AS_FOUND, (grp, path, ino, *rest)).fetchone() is not None


def bury(db: apsw.Connection, grp: int, origin: int, gone: Entry, parent: int) -> None:
    """The newest entry of a path is a delete; what landed of it is taken for what it replaced (`parent` is its origin).

    In SQLite all of a SET sees the row as it was before.
    """
    db.execute(_BURY_ENTRY, (encode(gone), grp, origin, gone.seq))
    db.execute(_BURY, (int(Kind.ABSENT), origin, gone.seq, gone.parent.lamport, parent, grp, gone.path))


def adopt(db: apsw.Connection, grp: int, origin: int, entry: Entry) -> None:
    """An entry that makes of a path what has landed there already."""
    db.execute(_ADOPT, (origin, entry.seq, entry.lamport, grp, entry.path))


def set_fingerprint(db: apsw.Connection, grp: int, path: bytes, fingerprint: Fingerprint | None) -> None:
    db.execute(_SET_FINGERPRINT, (*(to_key(fingerprint) if fingerprint else _NOWHERE), grp, path))
