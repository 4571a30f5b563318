"""From the handles in fanotify's events to paths below the root (open_by_handle_at(2)).

Laws: an answer is where the object is now, checked by its inode, or where it was when it was first asked for, and
renamed folders are forgotten at once; an object that cannot be below the root is None. A folder that is gone keeps its
remembered place; one that was never asked for is None, which loses nothing: its own deletion is told by its parent.
"""

import ctypes
import errno
import os
import time

FOLDERS_MAX = 200_000
"""Remembered, inside and outside of the root; about 200 bytes each."""

_FSID_BYTES = 8
_LOOKS_MAX = 5
"""A folder may be renamed between two system calls about it; each rename also tells of itself, so give up in peace."""
_GONE = frozenset({errno.ESTALE, errno.ENOENT})
_BUSY_TRIES_MAX = 20
_BUSY_SECONDS = 0.0005
"""Measured on ext4: while the number of a deleted inode is just being given to a new file, its old handle is answered
with ENOMEM (the kernel's iget_locked finds an inode that is still being created). Asked again, it is ESTALE."""

_libc = ctypes.CDLL(None, use_errno=True)


class Folders:
    """Remembers the place of folders by handle. `root_fd` is borrowed."""

    def __init__(self, root_fd: int) -> None:
        self._root_fd = root_fd
        self._known: dict[bytes, bytes | None] = {}

    def path(self, handle: bytes) -> bytes | None:
        """Where the folder is below the root (empty: the root itself); None outside. Raises OSError."""
        try:
            return self._known[handle]
        except KeyError:
            found = place(self._root_fd, handle)
        if len(self._known) >= FOLDERS_MAX:
            del self._known[next(iter(self._known))]
        self._known[handle] = found
        return found

    def forget(self) -> None:
        """After a rename of a folder: everything below it is elsewhere now."""
        self._known.clear()


def place(root_fd: int, handle: bytes) -> bytes | None:
    """Where the object of `handle` (fsid, then a struct file_handle) is below the root; needs CAP_DAC_READ_SEARCH.

    None when it is gone, nameless or outside. Raises OSError when the kernel cannot tell (out of memory, files).
    """
    try:
        fd = _open(root_fd, handle[_FSID_BYTES:])
    except OSError as error:
        if error.errno in _GONE:
            return None
        raise
    try:
        return _place_of(root_fd, fd)
    finally:
        os.close(fd)


def _place_of(root_fd: int, fd: int) -> bytes | None:
    it = os.fstat(fd)
    for _ in range(_LOOKS_MAX):
        root = os.readlink(b"/proc/self/fd/%d" % root_fd).rstrip(b"/")
        path = os.readlink(b"/proc/self/fd/%d" % fd)
        if path == (root or b"/"):
            return b"" if os.path.samestat(it, os.fstat(root_fd)) else None
        if not path.startswith(root + b"/"):
            return None
        inner = path[len(root) + 1 :]
        # The text alone could mislead: bind mounts give equal texts to different places, and a rename may just happen.
        try:
            if os.path.samestat(it, os.stat(inner, dir_fd=root_fd, follow_symlinks=False)):
                return inner
        except OSError:
            pass
        if os.fstat(fd).st_nlink == 0:
            return None
    return None


def _open(mount_fd: int, handle: bytes) -> int:
    buffer = ctypes.create_string_buffer(handle, len(handle))
    for _ in range(_BUSY_TRIES_MAX):
        fd: int = _libc.open_by_handle_at(mount_fd, buffer, os.O_PATH | os.O_CLOEXEC)
        if fd >= 0:
            return fd
        code = ctypes.get_errno()
        if code != errno.ENOMEM:
            break
        time.sleep(_BUSY_SECONDS)
    raise OSError(code, os.strerror(code))
