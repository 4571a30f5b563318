"""The ledger's database file: tables, settings, and what to say when it cannot be used.

Laws: a commit is on the disk when it returns (WAL, synchronous=FULL); one process owns a ledger (flock); a file that
does not pass `quick_check` is not used at all, for a guess about what was recorded would break the fence.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import apsw

from anycastle.errors import AnycastleError

SCHEMA = 2
BUSY_MILLISECONDS_MAX = 5000
CACHE_KIB = 64 * 1024

TABLES = """
CREATE TABLE word(id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);  -- names of members and groups, written once
CREATE TABLE fact(key TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
CREATE TABLE journal(                       -- one row for each (group, origin)
    grp INTEGER NOT NULL, origin INTEGER NOT NULL,
    detailed INTEGER NOT NULL,              -- entries 1..detailed are here
    lamport INTEGER NOT NULL,               -- greatest in this journal
    fenced INTEGER NOT NULL,
    PRIMARY KEY (grp, origin)) WITHOUT ROWID;
CREATE TABLE entry(
    grp INTEGER NOT NULL, origin INTEGER NOT NULL, seq INTEGER NOT NULL, lamport INTEGER NOT NULL,
    wall REAL NOT NULL,                     -- when it was recorded here, for people
    path BLOB NOT NULL, body BLOB NOT NULL, -- the entry in msgpack
    PRIMARY KEY (grp, origin, seq)) WITHOUT ROWID;
CREATE UNIQUE INDEX entry_version ON entry(grp, origin, lamport);
CREATE TABLE place(                         -- one row for each path ever known
    grp INTEGER NOT NULL, path BLOB NOT NULL,
    origin INTEGER NOT NULL, seq INTEGER NOT NULL, lamport INTEGER NOT NULL, kind INTEGER NOT NULL,  -- newest known
    pending INTEGER NOT NULL,               -- 1: the newest has not landed here
    local_origin INTEGER, local_seq INTEGER, local_lamport INTEGER, local_kind INTEGER,              -- landed here
    digest BLOB,                            -- of the landed file
    ino INTEGER, ctime_ns INTEGER, mtime_ns INTEGER, size INTEGER, disk_kind INTEGER, mode INTEGER,
    uid INTEGER, gid INTEGER,
    PRIMARY KEY (grp, path)) WITHOUT ROWID;
CREATE INDEX place_pending ON place(grp, lamport, path) WHERE pending = 1;
CREATE INDEX place_digest ON place(grp, digest) WHERE digest IS NOT NULL;
CREATE TABLE mark(
    grp INTEGER NOT NULL, origin INTEGER NOT NULL, after INTEGER NOT NULL, upto INTEGER NOT NULL, prefix BLOB NOT NULL,
    PRIMARY KEY (grp, origin, after, upto, prefix)) WITHOUT ROWID;
CREATE TABLE conflict(id INTEGER PRIMARY KEY, body BLOB NOT NULL);
"""

OVERTAKEN = """
CREATE TABLE IF NOT EXISTS overtaken(       -- entries that were superseded before they landed here, while a path waits
    grp INTEGER NOT NULL, path BLOB NOT NULL, origin INTEGER NOT NULL, seq INTEGER NOT NULL, lamport INTEGER NOT NULL,
    PRIMARY KEY (grp, path, origin, seq)) WITHOUT ROWID;
"""
"""Made at any opening: who does not know of it takes what was superseded for landed, and no more harm is done."""

INDEXES = """
CREATE INDEX IF NOT EXISTS place_ino ON place(grp, ino) WHERE ino IS NOT NULL;  -- the other names of a hard link
"""
"""Made at any opening: they say nothing that the tables do not say."""

SPENT = """
CREATE TABLE spent(                         -- entries that may go when every member is past them (replicator/spent.py)
    grp INTEGER NOT NULL, origin INTEGER NOT NULL, seq INTEGER NOT NULL,
    PRIMARY KEY (grp, origin, seq)) WITHOUT ROWID;
"""

FROM_1 = f"""
{SPENT}
INSERT INTO spent SELECT e.grp, e.origin, e.seq FROM entry e LEFT JOIN place p ON p.grp = e.grp AND p.path = e.path
WHERE p.path IS NULL OR p.kind = 4 OR (p.origin, p.seq) <> (e.origin, e.seq);
INSERT OR IGNORE INTO fact SELECT DISTINCT 'ledger.merged.' || w.text, x'31' FROM journal j JOIN word w ON w.id = j.grp;
"""


class LedgerError(AnycastleError):
    """The ledger cannot be used, or was asked for what cannot be."""


class LedgerDamaged(LedgerError):
    """What is in the file is not what was written: nothing in it can be relied on."""


DAMAGE = (LedgerDamaged, apsw.CorruptError, apsw.NotADBError)
REBUILD = "`anycastle serve --rebuild-ledger` sets it aside, and takes the journal back from the others when all are up"


class LedgerHole(LedgerError):
    """An entry was offered whose predecessors are not here; `expected` is the seq that is wanted next."""

    def __init__(self, group: str, origin: str, seq: int, expected: int) -> None:
        super().__init__(f"journal {group}/{origin}: entry {seq} came before {expected}")
        self.expected = expected


def _line(said: object) -> str:
    return " ".join(str(said).split())


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns what SQLite or the system says into one line for an operator."""
    try:
        yield
    except (apsw.CorruptError, apsw.NotADBError) as error:
        raise LedgerDamaged(
            f"ledger {path} is damaged ({_line(error)}): expected an SQLite database of Anycastle; {REBUILD}"
        ) from error
    except apsw.FullError as error:
        raise LedgerError(f"ledger {path}: the disk is full") from error
    except apsw.Error as error:
        raise LedgerError(f"ledger {path} cannot be used: {_line(error)}") from error
    except OSError as error:
        raise LedgerError(f"ledger {path} cannot be used: {error.strerror}") from error


def lock(path: Path) -> int:
    """Makes this process the ledger's only owner until the returned descriptor is closed."""
    descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise LedgerError(f"ledger {path} is in use by another process") from error
    return descriptor


def open_writer(path: Path) -> tuple[apsw.Connection, bool]:
    """The one writing connection, with its tables; and whether the database is new."""
    connection = apsw.Connection(str(path))
    try:
        connection.set_busy_timeout(BUSY_MILLISECONDS_MAX)
        (journal_mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchall()[0]
        if journal_mode != "wal":
            raise LedgerError(f"ledger {path}: expected a filesystem that takes SQLite's WAL, got {journal_mode}")
        connection.execute(f"PRAGMA synchronous=FULL; PRAGMA cache_size=-{CACHE_KIB}; PRAGMA trusted_schema=OFF")
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchall()[0]
        if found != "ok":
            raise LedgerDamaged(
                f"ledger {path} is damaged ({_line(found)}): expected a sound SQLite database; {REBUILD}"
            )
        created = _settle_schema(connection, path)
        connection.execute(OVERTAKEN + INDEXES)
        return connection, created
    except BaseException:
        connection.close(True)
        raise


def _settle_schema(connection: apsw.Connection, path: Path) -> bool:
    (version,) = connection.execute("PRAGMA user_version").fetchall()[0]
    if version == SCHEMA:
        return False
    if version == 1:
        connection.execute(f"BEGIN IMMEDIATE; {FROM_1} PRAGMA user_version={SCHEMA}; COMMIT")
        return False
    if version != 0 or connection.execute("SELECT count(*) FROM sqlite_master").fetchall()[0][0]:
        raise LedgerError(f"ledger {path} has format {version}: expected {SCHEMA}")
    connection.execute(f"BEGIN IMMEDIATE; {TABLES} {SPENT} PRAGMA user_version={SCHEMA}; COMMIT")
    return True


def open_reader(path: Path) -> apsw.Connection:
    """A connection that only reads, seeing whatever was committed when a statement starts."""
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(BUSY_MILLISECONDS_MAX)
    connection.execute("PRAGMA query_only=ON")
    return connection


def fact(db: apsw.Connection, key: str) -> bytes | None:
    """A small thing kept under a name."""
    row = db.execute("SELECT value FROM fact WHERE key = ?", (key,)).fetchone()
    return row[0] if row else None


def set_fact(db: apsw.Connection, key: str, value: bytes) -> None:
    """Keeps it. Inside a transaction."""
    db.execute("INSERT OR REPLACE INTO fact(key, value) VALUES (?, ?)", (key, value))
