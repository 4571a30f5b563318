"""What a look at the disk yields, and what the ledger remembers of the last one.

Laws: a `Fingerprint` that is equal means that nothing changed, so nothing is read; a socket, device or pipe counts as
absent, because it is never replicated; a folder's times and size are left out (they move with every file in it).
"""

import os
import stat

import msgspec

from anycastle.replicator.entry import Entry, Kind, Version


class Fingerprint(msgspec.Struct, frozen=True):
    """What `lstat` says of a path, so far as it tells one content from another."""

    ino: int
    ctime_ns: int
    """No program can set it, so it moves with every change; 0 for a folder."""
    mtime_ns: int
    size: int
    kind: Kind
    mode: int
    """Permission bits (07777)."""
    uid: int
    gid: int


class Local(msgspec.Struct, frozen=True):
    """What this site landed at a path (kind ABSENT: it was deleted here)."""

    version: Version
    kind: Kind
    digest: bytes
    """BLAKE3 of a file, empty otherwise."""
    fingerprint: Fingerprint | None
    """Of the moment it landed or was last found unchanged; None when absent."""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A local observation: what is at the path now. Fields as in `Entry`."""

    path: bytes
    kind: Kind
    digest: bytes = b""
    size: int = 0
    mode: int = 0
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 0
    """0 for folders: their times are not replicated."""
    target: bytes = b""
    xattrs: dict[str, bytes] = {}
    fingerprint: Fingerprint | None = None
    """None when absent."""
    links: int = 1
    """Names that the file has: through each of them it is the same."""
    written: bool = False
    """Somebody still held the file open for writing."""


class Conflict(msgspec.Struct, frozen=True):
    """Two versions of one path with the same parent: the greater won everywhere, the other's bytes are kept."""

    group: str
    path: bytes
    winner: Version
    loser: Version
    kept: bytes
    """Below `.anycastle/conflicts` of the group's root; empty when there were no bytes to keep."""
    at: float
    """Wall seconds, for people."""


def kind_of(mode: int) -> Kind | None:
    """The kind that `st_mode` tells; None for sockets, devices and pipes."""
    if stat.S_ISREG(mode):
        return Kind.FILE
    if stat.S_ISDIR(mode):
        return Kind.FOLDER
    if stat.S_ISLNK(mode):
        return Kind.SYMLINK
    return None


def fingerprint_of(status: os.stat_result) -> Fingerprint | None:
    """None for what is not replicated (`kind_of`)."""
    mode = status.st_mode
    kind = kind_of(mode)
    if kind is None:
        return None
    if kind is Kind.FOLDER:
        return Fingerprint(status.st_ino, 0, 0, 0, kind, mode & 0o7777, status.st_uid, status.st_gid)
    return Fingerprint(
        status.st_ino,
        status.st_ctime_ns,
        status.st_mtime_ns,
        status.st_size,
        kind,
        mode & 0o7777,
        status.st_uid,
        status.st_gid,
    )


Key = tuple[int, ...]
"""A fingerprint as plain integers within SQLite's range, in the order of its fields: what the ledger stores."""

_FILE, _FOLDER, _SYMLINK = int(Kind.FILE), int(Kind.FOLDER), int(Kind.SYMLINK)
_KEY_KINDS = {stat.S_IFREG: _FILE, stat.S_IFDIR: _FOLDER, stat.S_IFLNK: _SYMLINK}


def key_of(status: os.stat_result) -> Key | None:
    """`to_key(fingerprint_of(status))`, made fast for walks over millions of files."""
    mode = status.st_mode
    kind = _KEY_KINDS.get(mode & 0o170000)
    if kind is None:
        return None
    ino = status.st_ino
    if ino >= 1 << 63:
        ino -= 1 << 64
    if kind == _FOLDER:
        return (ino, 0, 0, 0, kind, mode & 0o7777, status.st_uid, status.st_gid)
    times = (ino, status.st_ctime_ns, status.st_mtime_ns, status.st_size)
    return (*times, kind, mode & 0o7777, status.st_uid, status.st_gid)


def to_key(fingerprint: Fingerprint) -> Key:
    ino, *others = msgspec.structs.astuple(fingerprint)
    return (ino - (1 << 64) if ino >= 1 << 63 else ino, *(int(value) for value in others))


def from_key(key: Key) -> Fingerprint:
    ino, ctime_ns, mtime_ns, size, kind, mode, uid, gid = key
    return Fingerprint(ino % (1 << 64), ctime_ns, mtime_ns, size, Kind(kind), mode, uid, gid)


def says_the_same(change: Change, entry: Entry) -> bool:
    """The observation is what the entry made: nothing to announce."""
    if change.kind is not entry.kind:
        return False
    if change.kind is Kind.ABSENT:
        return True
    if (change.uid, change.gid, change.mode, change.xattrs) != (entry.uid, entry.gid, entry.mode, entry.xattrs):
        return False
    if change.kind is Kind.FOLDER:
        return True
    return (change.digest, change.target, change.size, change.mtime_ns) == (
        entry.digest,
        entry.target,
        entry.size,
        entry.mtime_ns,
    )


def makes_the_same(one: Entry, other: Entry) -> bool:
    """Both make the same of their path: who has landed one has landed the other."""
    if one.kind is not other.kind or (one.uid, one.gid, one.mode, one.xattrs) != (
        *(other.uid, other.gid, other.mode),
        other.xattrs,
    ):
        return False
    return one.kind is Kind.FOLDER or (one.digest, one.target, one.size, one.mtime_ns) == (
        *(other.digest, other.target, other.size),
        other.mtime_ns,
    )


def same_bytes(change: Change, entry: Entry) -> bool:
    """At most attributes differ."""
    return change.kind is entry.kind and (change.digest, change.target) == (entry.digest, entry.target)


def to_entry(change: Change, *, origin: str, seq: int, group: str, lamport: int, parent: Version) -> Entry:
    """The entry that announces `change`."""
    return Entry(
        origin=origin,
        seq=seq,
        group=group,
        path=change.path,
        lamport=lamport,
        kind=change.kind,
        parent=parent,
        digest=change.digest,
        size=change.size,
        mode=change.mode,
        uid=change.uid,
        gid=change.gid,
        mtime_ns=change.mtime_ns,
        target=change.target,
        xattrs=change.xattrs,
    )
