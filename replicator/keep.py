"""Copies of what lost a conflict, below `.anycastle/conflicts/<version>/<path>`.

Laws: the copy is complete and durable before it has its name; the same file kept again stays one copy; nothing kept is
ever replaced.
"""

import os
import secrets
import stat

from anycastle.replicator.beneath import O_LOOK, folder_beneath, lstat_beneath, make_folders, open_beneath
from anycastle.replicator.entry import Version
from anycastle.replicator.land import Places
from anycastle.replicator.stage import copy_file

COPIES_MAX = 100
"""Of one path in one version: each differs, because local edits were made without being announced."""


def keep_copy(places: Places, path: bytes, version: Version) -> bytes:
    """Copies the file or symlink at `path`; returns the copy's name. Raises OSError, NotBeneath."""
    found = lstat_beneath(places.root, path)
    if found is None:
        return b""
    for number in range(1, COPIES_MAX + 1):
        folder = str(version).encode() + (b".%d" % number if number > 1 else b"")
        kept = folder + b"/" + path
        there = lstat_beneath(places.conflicts, kept)
        if there is None:
            _copy(places, path, kept, found)
            return kept
        if _alike(there, found):
            return kept
    raise FileExistsError(f"{COPIES_MAX} copies of one version are kept already")


def _alike(one: os.stat_result, other: os.stat_result) -> bool:
    return (one.st_size, one.st_mtime_ns, stat.S_IFMT(one.st_mode)) == (
        other.st_size,
        other.st_mtime_ns,
        stat.S_IFMT(other.st_mode),
    )


def _copy(places: Places, path: bytes, kept: bytes, found: os.stat_result) -> None:
    temp, temporary = secrets.token_hex(12).encode(), places.temporary
    try:
        if stat.S_ISLNK(found.st_mode):
            _copy_symlink(places, path, temp)
        else:
            _copy_content(places, path, temp)
        os.utime(temp, ns=(found.st_mtime_ns, found.st_mtime_ns), dir_fd=temporary, follow_symlinks=False)
        parent, _, name = kept.rpartition(b"/")
        make_folders(places.conflicts, parent, 0o700)
        with folder_beneath(places.conflicts, parent) as folder:
            os.rename(temp, name, src_dir_fd=temporary, dst_dir_fd=folder)
            os.fsync(folder)
    except BaseException:
        if lstat_beneath(temporary, temp) is not None:
            os.unlink(temp, dir_fd=temporary)
        raise


def _copy_symlink(places: Places, path: bytes, temp: bytes) -> None:
    source = open_beneath(places.root, path, O_LOOK)
    try:
        os.symlink(os.readlink(b"", dir_fd=source), temp, dir_fd=places.temporary)
    finally:
        os.close(source)


def _copy_content(places: Places, path: bytes, temp: bytes) -> None:
    source = open_beneath(places.root, path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        copy = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=places.temporary)
        try:
            copy_file(source, copy)
            os.fsync(copy)
        finally:
            os.close(copy)
    finally:
        os.close(source)
