"""Owner, mode, times and extended attributes of what is replicated.

Laws: only root changes owners and reads or sets attributes outside `user.`; without that right they stay as the
system makes them. `security.*` is never replicated: it holds the site's own policy (SELinux, file capabilities). What
a filesystem cannot hold is left out, for otherwise a file would never land there.
"""

import errno
import os

from anycastle.replicator.entry import Entry, Kind

XATTR_BYTES_MAX = 64 * 1024
"""Names and values of one path together: they travel in the announcement."""
_CANNOT_HOLD = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


def privileged() -> bool:
    """May change owners and set attributes outside `user.`."""
    return os.geteuid() == 0


def _replicated(name: str, *, as_root: bool) -> bool:
    if name.startswith("user."):
        return True
    return as_root and name.startswith(("trusted.", "system.posix_acl_"))


def read_xattrs(descriptor: int, *, as_root: bool) -> dict[str, bytes]:
    """The replicated ones of an open file or folder; none at all where they exceed XATTR_BYTES_MAX."""
    try:
        names = [name for name in os.listxattr(descriptor) if _replicated(name, as_root=as_root)]
        found = {name: os.getxattr(descriptor, name) for name in sorted(names) if _is_text(name)}
    except OSError as error:
        if error.errno in (*_CANNOT_HOLD, errno.ENODATA):
            return {}
        raise
    size = sum(len(name) + len(value) for name, value in found.items())
    return found if size <= XATTR_BYTES_MAX else {}


def set_attributes(descriptor: int, entry: Entry, *, as_root: bool) -> None:
    """Of an open file or folder. The order matters: a new owner clears mode bits, an access list changes the mode."""
    if as_root:
        os.fchown(descriptor, entry.uid, entry.gid)
    os.fchmod(descriptor, entry.mode & 0o7777)
    _set_xattrs(descriptor, entry, as_root=as_root)
    if entry.kind is Kind.FILE:
        os.utime(descriptor, ns=(entry.mtime_ns, entry.mtime_ns))


def set_symlink_attributes(folder: int, name: bytes, entry: Entry, *, as_root: bool) -> None:
    """Of a symlink itself: it has neither mode nor replicated attributes."""
    if as_root:
        os.chown(name, entry.uid, entry.gid, dir_fd=folder, follow_symlinks=False)
    os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=folder, follow_symlinks=False)


def _set_xattrs(descriptor: int, entry: Entry, *, as_root: bool) -> None:
    wanted = {name: value for name, value in entry.xattrs.items() if _replicated(name, as_root=as_root)}
    present = read_xattrs(descriptor, as_root=as_root)
    try:
        for name in present.keys() - wanted.keys():
            os.removexattr(descriptor, name)
        for name, value in wanted.items():
            os.setxattr(descriptor, name, value)
    except OSError as error:
        if error.errno not in _CANNOT_HOLD:
            raise


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
