"""Copies of what lost a conflict, below `.anycastle/conflicts/<version>/<path>`.

Laws: what is kept under a version is what that version was, so it is copied only while the file is what the ledger
says (somebody may be changing it, or have another folder in its place for a moment); the copy is complete and durable
before it has its name; the same file kept again stays one copy; nothing kept is ever replaced.
"""

import os
import secrets
import stat
from collections.abc import Callable

from anycastle.replicator.beneath import (
    O_LOOK,
    NotBeneath,
    folder_beneath,
    lstat_beneath,
    make_folders,
    open_beneath,
)
from anycastle.replicator.entry import Kind, Version
from anycastle.replicator.land import LocalEdit, Places
from anycastle.replicator.observation import Fingerprint, fingerprint_of
from anycastle.replicator.stage import copy_file

COPIES_MAX = 100
"""Of one path in one version: each differs, because local edits were made without being announced."""


def keep_copy(places: Places, path: bytes, version: Version, expected: Fingerprint | None) -> bytes:
    """Copies the file or symlink at `path`; returns the copy's name. Raises OSError, LocalEdit.

    `expected` is what the ledger says is there; what is something else by now nobody has announced: look first.
    """
    source = _open(places, path, expected)
    try:
        found = os.fstat(source)
        for number in range(1, COPIES_MAX + 1):
            folder = str(version).encode() + (b".%d" % number if number > 1 else b"")
            kept = folder + b"/" + path
            there = lstat_beneath(places.conflicts, kept)
            if there is None:
                _copy(places, source, found, kept, lambda: _check(path, os.fstat(source), expected))
                return kept
            if _alike(there, found):
                return kept
    finally:
        os.close(source)
    raise FileExistsError(f"{COPIES_MAX} copies of one version are kept already")


def _open(places: Places, path: bytes, expected: Fingerprint | None) -> int:
    try:
        found = lstat_beneath(places.root, path)
        _check(path, found, expected)
        symlink = expected is not None and expected.kind is Kind.SYMLINK
        return open_beneath(places.root, path, O_LOOK if symlink else os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError, NotBeneath) as error:
        raise _local_edit(path) from error


def _check(path: bytes, found: os.stat_result | None, expected: Fingerprint | None) -> None:
    if found is None or expected is None or fingerprint_of(found) != expected:
        raise _local_edit(path)


def _local_edit(path: bytes) -> LocalEdit:
    return LocalEdit(f"{path[:200]!r} is not what the ledger says, and cannot be kept as that")


def _alike(one: os.stat_result, other: os.stat_result) -> bool:
    return (one.st_size, one.st_mtime_ns, stat.S_IFMT(one.st_mode)) == (
        other.st_size,
        other.st_mtime_ns,
        stat.S_IFMT(other.st_mode),
    )


def _copy(places: Places, source: int, found: os.stat_result, kept: bytes, check: Callable[[], None]) -> None:
    temp, temporary = secrets.token_hex(12).encode(), places.temporary
    try:
        if stat.S_ISLNK(found.st_mode):
            os.symlink(os.readlink(b"", dir_fd=source), temp, dir_fd=temporary)
        else:
            _copy_content(temporary, source, temp)
        check()
        os.utime(temp, ns=(found.st_mtime_ns, found.st_mtime_ns), dir_fd=temporary, follow_symlinks=False)
        parent, _, name = kept.rpartition(b"/")
        make_folders(places.conflicts, parent)
        with folder_beneath(places.conflicts, parent) as folder:
            os.rename(temp, name, src_dir_fd=temporary, dst_dir_fd=folder)
            os.fsync(folder)
    except BaseException:
        if lstat_beneath(temporary, temp) is not None:
            os.unlink(temp, dir_fd=temporary)
        raise


def _copy_content(temporary: int, source: int, temp: bytes) -> None:
    copy = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=temporary)
    try:
        copy_file(source, copy)
        os.fsync(copy)
    finally:
        os.close(copy)
