"""Paths that cannot leave a root folder: openat2, renameat2 and syncfs, which Python does not offer.

Law: a path is resolved by the kernel beneath the root's descriptor in one step, following no symlink, so that nobody
who races with us can lead it elsewhere (openat2(2): RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS). Nor does it enter what is
mounted below the root: nothing could be renamed into place there, and an unmounted disk must not look like a delete.
"""

import contextlib
import ctypes
import errno
import functools
import os
from collections.abc import Iterator

from anycastle.errors import AnycastleError

_OPENAT2 = 437  # the same number on every architecture
_RESOLVE_NO_XDEV = 0x01
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_NO_SYMLINKS = 0x04
_RESOLVE_BENEATH = 0x08
_RENAME_NOREPLACE = 1
_RENAME_EXCHANGE = 2
_TRIES_MAX = 16
"""EAGAIN says that something was renamed while the kernel resolved."""

O_LOOK = os.O_PATH | os.O_NOFOLLOW
"""To look at whatever is there, a symlink included."""
O_FOLDER = os.O_RDONLY | os.O_DIRECTORY


class TreeError(AnycastleError):
    """Something in a group's tree is not as it must be."""


class NotBeneath(TreeError):
    """A path leads through a symlink, or out of the root."""


class Elsewhere(NotBeneath):
    """Something else is mounted there (or the path leads out of the root): what it hides is not known."""


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_libc = ctypes.CDLL(None, use_errno=True)
_renameat2 = _libc.renameat2
_renameat2.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
_syncfs = _libc.syncfs
_syncfs.argtypes = (ctypes.c_int,)
_sync_file_range = _libc.sync_file_range
_sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
_SYNC_FILE_RANGE_WRITE = 2
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long
_syscall.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.POINTER(_OpenHow), ctypes.c_size_t)


@functools.cache
def _how(flags: int, mode: int) -> _OpenHow:
    """The kernel only reads it."""
    resolve = _RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS | _RESOLVE_NO_MAGICLINKS | _RESOLVE_NO_XDEV
    return _OpenHow(flags | os.O_CLOEXEC, mode, resolve)


def open_beneath(root: int, path: bytes, flags: int, mode: int = 0) -> int:
    """A descriptor for `path` below the folder `root`. Raises OSError, or NotBeneath."""
    if b"\0" in path:
        raise NotBeneath(f"{path[:100]!r}: expected no NUL")
    how = _how(flags, mode)
    for _ in range(_TRIES_MAX):
        descriptor = int(_syscall(_OPENAT2, root, path, ctypes.byref(how), ctypes.sizeof(how)))
        if descriptor >= 0:
            return descriptor
        code = ctypes.get_errno()
        if code not in (errno.EAGAIN, errno.EINTR):
            break
    if code == errno.EXDEV:
        raise Elsewhere(f"{path[:100]!r}: something else is mounted there, which is not replicated")
    if code == errno.ELOOP:
        raise NotBeneath(f"{path[:100]!r}: expected a path beneath the root, without symlinks")
    raise OSError(code, os.strerror(code), path)


def lstat_beneath(root: int, path: bytes) -> os.stat_result | None:
    """As os.lstat; None when there is nothing, also because a parent is missing or is no folder."""
    try:
        descriptor = open_beneath(root, path, O_LOOK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        return os.fstat(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def folder_beneath(root: int, path: bytes) -> Iterator[int]:
    """A descriptor for a folder, closed afterwards; the empty path is the root itself."""
    descriptor = open_beneath(root, path or b".", O_FOLDER)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def missing_folders(root: int, path: bytes) -> list[bytes]:
    """What is not there of a folder and its parents, the outermost first."""
    missing: list[bytes] = []
    while path:
        try:
            os.close(open_beneath(root, path, O_FOLDER))
            break
        except FileNotFoundError:
            missing.append(path)
            path = path.rpartition(b"/")[0]
    return missing[::-1]


def make_folders(root: int, path: bytes) -> None:
    """Makes a folder and its missing parents, for the process alone; those that exist stay as they are."""
    for missing in missing_folders(root, path):
        parent, _, name = missing.rpartition(b"/")
        with folder_beneath(root, parent) as above:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=above)
            os.fsync(above)


def rename_new(source: int, old: bytes, target: int, new: bytes) -> None:
    """Renames only when nothing is at the new name. Raises FileExistsError."""
    _rename(source, old, target, new, _RENAME_NOREPLACE)


def exchange(source: int, old: bytes, target: int, new: bytes) -> None:
    """Swaps two names in one step, whatever kinds they are."""
    _rename(source, old, target, new, _RENAME_EXCHANGE)


def _rename(source: int, old: bytes, target: int, new: bytes, flags: int) -> None:
    if _renameat2(source, old, target, new, flags) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), new)


def sync_filesystem(descriptor: int) -> None:
    """All that was written to a descriptor's filesystem is on the disk (syncfs(2)). Raises OSError."""
    if _syncfs(descriptor) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def start_writing(descriptor: int) -> None:
    """What was written to a file begins to go to the disk. No promise, and nothing lost where it cannot be asked."""
    _sync_file_range(descriptor, 0, 0, _SYNC_FILE_RANGE_WRITE)
