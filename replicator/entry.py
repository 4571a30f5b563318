"""An entry: one recorded change of one path, and the words it is made of.

Laws: `(origin, group, seq)` names an entry for ever and seq is dense from 1; of two entries for a path the greater
version wins at every member, whatever clocks say; a path is bytes, relative to the group's root, without `.`/`..`.
"""

import enum

import msgspec

from anycastle.errors import AnycastleError

PATH_BYTES_MAX = 4096 - 256
"""Linux PATH_MAX less room for a root folder."""
NAME_BYTES_MAX = 255
PRIVATE_FOLDER = b".anycastle"
"""In every group's root: temp files, barrier cookies, conflicts. Never replicated."""


class EntryError(AnycastleError):
    """An entry that must not be believed: a path that leaves the root, a version that cannot be."""


class Kind(enum.IntEnum):
    """What is at the path after the change."""

    FILE = 1
    FOLDER = 2
    SYMLINK = 3
    ABSENT = 4
    """Deleted: a tombstone."""


class Version(msgspec.Struct, frozen=True, order=True, array_like=True):
    """Totally ordered; the greatest wins everywhere."""

    lamport: int
    origin: str

    def __str__(self) -> str:
        return f"{self.lamport}@{self.origin}"


NO_VERSION = Version(0, "")
"""Of a path that nobody ever announced."""


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One recorded change. Its version is `(lamport, origin)`."""

    origin: str
    seq: int
    group: str
    path: bytes
    lamport: int
    kind: Kind
    parent: Version
    """The version it replaced at its origin: a landed version that is neither this nor an ancestor is a conflict."""
    digest: bytes = b""
    """BLAKE3 (32 bytes) of a file's content; empty otherwise."""
    size: int = 0
    mode: int = 0
    """Permission bits (07777)."""
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 0
    target: bytes = b""
    """Of a symlink."""
    xattrs: dict[str, bytes] = {}

    @property
    def version(self) -> Version:
        return Version(self.lamport, self.origin)


def check_path(path: bytes) -> bytes:
    """Return `path` if it may name something below a root.

    Raises EntryError on an empty path, NUL, an absolute path, empty / `.` / `..` components, a component in our private
    folder, or lengths no filesystem takes.
    """
    if not path or len(path) > PATH_BYTES_MAX:
        raise EntryError(f"path of {len(path)} bytes: expected 1 to {PATH_BYTES_MAX}")
    if b"\0" in path:
        raise EntryError("path holds a NUL byte")
    parts = path.split(b"/")
    if parts[0] == PRIVATE_FOLDER:
        raise EntryError(f"path is in the private folder {PRIVATE_FOLDER.decode()}")
    for part in parts:
        if part in (b"", b".", b".."):
            raise EntryError(f"path {path[:100]!r} is not relative and normal")
        if len(part) > NAME_BYTES_MAX:
            raise EntryError(f"a name of {len(part)} bytes in the path: expected at most {NAME_BYTES_MAX}")
    return path
