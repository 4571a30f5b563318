"""The end of a conflict, by an operator's word: the kept version comes back in one rename, or it goes.

Law: a kept copy is gone only once what was asked for is in place; a crash leaves both, and asking again is harmless.
"""

import os
import stat

from anycastle.replicator.beneath import TreeError, folder_beneath, lstat_beneath, open_beneath
from anycastle.replicator.land import Places, make_parents


def put_back(places: Places, kept: bytes, path: bytes) -> None:
    """The kept copy takes the path's place, with mode and owner of what stands there; a local change as any other.

    Raises TreeError when a folder stands there or the copy is gone; OSError.
    """
    there = lstat_beneath(places.root, path)
    if there is not None and stat.S_ISDIR(there.st_mode):
        raise TreeError(f"{path[:200]!r} is a folder now: expected a file to replace; copy the kept one yourself")
    copy = lstat_beneath(places.conflicts, kept)
    if copy is None:
        raise TreeError(f"the kept copy {kept[:200]!r} is not there any more")
    if stat.S_ISREG(copy.st_mode) and there is not None and stat.S_ISREG(there.st_mode):
        _dress(places, kept, there)
    parent, _, name = path.rpartition(b"/")
    make_parents(places, parent)
    kept_parent, _, kept_name = kept.rpartition(b"/")
    with folder_beneath(places.conflicts, kept_parent) as source, folder_beneath(places.root, parent) as target:
        os.rename(kept_name, name, src_dir_fd=source, dst_dir_fd=target)
        os.fsync(target)
    _tidy(places, kept_parent)


def _dress(places: Places, kept: bytes, there: os.stat_result) -> None:
    descriptor = open_beneath(places.conflicts, kept, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        if places.as_root:
            os.fchown(descriptor, there.st_uid, there.st_gid)
        os.fchmod(descriptor, stat.S_IMODE(there.st_mode))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def drop(places: Places, kept: bytes) -> None:
    """The kept copy goes; it may be gone already. Raises OSError."""
    if not kept or lstat_beneath(places.conflicts, kept) is None:
        return
    parent, _, name = kept.rpartition(b"/")
    with folder_beneath(places.conflicts, parent) as folder:
        os.unlink(name, dir_fd=folder)
    _tidy(places, parent)


def _tidy(places: Places, folder: bytes) -> None:
    """Folders that hold no other copy go too."""
    while folder:
        parent, _, name = folder.rpartition(b"/")
        with folder_beneath(places.conflicts, parent) as above:
            try:
                os.rmdir(name, dir_fd=above)
            except OSError:
                return
        folder = parent
