"""What is mounted where: which watcher can see a tree at all.

Law: the parser is pure; only `mounted` reads the kernel's table (proc_pid_mountinfo(5)).
"""

import re
from dataclasses import dataclass
from pathlib import Path

from anycastle.replicator.watch_event import is_below

REMOTE = frozenset(
    (
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "9p",
        "ceph",
        "afs",
        "lustre",
        "gfs2",
        "ocfs2",
        "beegfs",
        "virtiofs",
        "fuse",
    )
)
"""Others may change such a filesystem without this kernel's doing, so it tells of nothing. `fuse.*` counts too."""


@dataclass(frozen=True, slots=True)
class Mount:
    point: bytes
    filesystem: str


def parse(table: bytes) -> tuple[Mount, ...]:
    """Lines that are no mounts are left out."""
    found = []
    for line in table.splitlines():
        left, _, right = line.partition(b" - ")
        fields, kind = left.split(b" "), right.split(b" ")[0]
        if len(fields) >= 6 and kind:
            found.append(Mount(_unescape(fields[4]), kind.decode("utf-8", "replace")))
    return tuple(found)


def filesystem_of(mounts: tuple[Mount, ...], path: bytes) -> str:
    """The kind of filesystem a real path is on; later mounts cover earlier ones."""
    best = Mount(b"/", "unknown")
    for mount in mounts:
        if _covers(mount.point, path) and len(mount.point) >= len(best.point):
            best = mount
    return best.filesystem


def is_remote(filesystem: str) -> bool:
    return filesystem in REMOTE or filesystem.startswith("fuse.")


def mounted() -> tuple[Mount, ...]:
    return parse(Path("/proc/self/mountinfo").read_bytes())


def _covers(point: bytes, path: bytes) -> bool:
    return is_below(path, point.rstrip(b"/"))


def _unescape(field: bytes) -> bytes:
    r"""Space, tab, newline and backslash are written as `\040` and so on."""
    return re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8) & 0xFF]), field)
