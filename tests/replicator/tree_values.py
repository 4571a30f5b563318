"""Changes, entries and fingerprints for the tests of ledger, disk and scan."""

import contextlib
import itertools
import os
import resource
from collections.abc import Iterator
from pathlib import Path

from blake3 import blake3

from anycastle.replicator.disk import Tree
from anycastle.replicator.entry import NO_VERSION, Entry, Kind, Version
from anycastle.replicator.observation import Change, Fingerprint, Local

GROUP = "blogs"
_inode = itertools.count(1)


def fingerprint(kind: Kind = Kind.FILE, *, size: int = 1) -> Fingerprint:
    """A new one, different from all others."""
    return Fingerprint(next(_inode), 5, 6, size, kind, 0o644, 0, 0)


def wrote(path: bytes, content: bytes = b"x", *, mtime_ns: int = 6) -> Change:
    """A file was found with this content."""
    digest = blake3(content).digest()
    seen = fingerprint(size=len(content))
    return Change(
        path=path, kind=Kind.FILE, digest=digest, size=len(content), mode=0o644, mtime_ns=mtime_ns, fingerprint=seen
    )


def made_folder(path: bytes, *, mode: int = 0o755) -> Change:
    return Change(path=path, kind=Kind.FOLDER, mode=mode, fingerprint=fingerprint(Kind.FOLDER))


def removed(path: bytes) -> Change:
    return Change(path=path, kind=Kind.ABSENT)


def file_entry(
    path: bytes,
    content: bytes = b"x",
    *,
    origin: str = "nyc",
    seq: int = 1,
    lamport: int = 1,
    parent: Version = NO_VERSION,
    mode: int = 0o644,
    mtime_ns: int = 1_700_000_000_123_456_789,
    xattrs: dict[str, bytes] | None = None,
) -> Entry:
    return Entry(
        origin,
        seq,
        GROUP,
        path,
        lamport,
        Kind.FILE,
        parent,
        digest=blake3(content).digest(),
        size=len(content),
        mode=mode,
        mtime_ns=mtime_ns,
        xattrs=xattrs or {},
    )


def folder_entry(path: bytes, *, seq: int = 1, lamport: int = 1, mode: int = 0o755, origin: str = "nyc") -> Entry:
    return Entry(origin, seq, GROUP, path, lamport, Kind.FOLDER, NO_VERSION, mode=mode)


def symlink_entry(path: bytes, target: bytes) -> Entry:
    return Entry("nyc", 1, GROUP, path, 1, Kind.SYMLINK, NO_VERSION, target=target, mode=0o777, mtime_ns=1_000_000_000)


def delete_entry(path: bytes, *, seq: int = 1, lamport: int = 1, origin: str = "nyc") -> Entry:
    return Entry(origin, seq, GROUP, path, lamport, Kind.ABSENT, NO_VERSION)


@contextlib.contextmanager
def file_size_limit(size_bytes: int) -> Iterator[None]:
    """No file of this process grows beyond that: EFBIG, a refusal like a full disk's that needs no mount."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def seen(tree: Tree, path: bytes, known: Local | None = None) -> Change:
    change = tree.observe(path, known)
    assert change is not None
    return change


def as_local(change: Change) -> Local:
    return Local(Version(1, "ams"), change.kind, change.digest, change.fingerprint)


def put(tree: Tree, entry: Entry, content: bytes = b"x", expected: Fingerprint | None = None) -> Fingerprint | None:
    if entry.kind is not Kind.FILE:
        return tree.land(entry, None, expected)
    staged = tree.stage(entry)
    staged.write(content)
    staged.finish()
    try:
        return tree.land(entry, staged, expected)
    finally:
        staged.abort()


def temps(root: Path) -> list[str]:
    return sorted(os.listdir(root / ".anycastle" / "tmp"))


def kept(root: Path) -> dict[str, bytes]:
    base = root / ".anycastle" / "conflicts"
    return {str(path.relative_to(base)): path.read_bytes() for path in base.rglob("*") if path.is_file()}
