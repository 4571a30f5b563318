"""Find what differs between a tree and the ledger, by stat alone.

Laws: both sides are walked once, in the same order of paths, so memory does not grow with the tree (only with the
depth and the width of one folder; what is gone waits in a temporary database that spills to the disk). Folders come
before what is in them; what is gone comes last, the deepest first. It changes nothing and decides nothing: a path that
it yields is only worth a look.
"""

import contextlib
import os
from collections.abc import Callable, Iterator

import apsw

from anycastle.replicator.beneath import NotBeneath, folder_beneath
from anycastle.replicator.disk import Tree, Unreadable
from anycastle.replicator.ledger import Ledger
from anycastle.replicator.observation import Fingerprint, Local, fingerprint_of
from anycastle.replicator.store import Row

PROGRESS_EVERY = 10_000
STAT_AT_ONCE = 1000
"""Names of one folder looked at before they are given out; its descriptor is open only meanwhile."""

Found = tuple[bytes, Fingerprint]


def scan(
    tree: Tree, ledger: Ledger, group: str, *, below: bytes = b"", progress: Callable[[int], None] | None = None
) -> Iterator[bytes]:
    """Paths whose stat differs from what landed here: new, changed, gone. `below` is a folder, itself included.

    `progress` is told how many things were looked at, every PROGRESS_EVERY and at the end. For a worker thread.
    """
    folder = below.rstrip(b"/")
    looked = 0
    with contextlib.closing(_Gone(tree)) as gone:
        known = ledger.locals_below(group, folder + b"/" if folder else b"")
        for path, fingerprint, local in _merge(_walk(tree, folder), known):
            if fingerprint is None:
                gone.add(path)
            elif local is None or local.fingerprint != fingerprint:
                yield path
            looked += 1
            if progress is not None and looked % PROGRESS_EVERY == 0:
                progress(looked)
        yield from gone.deepest_first()
    if folder and _differs(tree, ledger, group, folder):
        yield folder
    if progress is not None:
        progress(looked)


def _merge(
    found: Iterator[Found], known: Iterator[tuple[bytes, Local]]
) -> Iterator[tuple[bytes, Fingerprint | None, Local | None]]:
    """Pairs what is on the disk with what the ledger says of the same path; both come in the order of paths."""
    on_disk, in_ledger = next(found, None), next(known, None)
    while on_disk is not None or in_ledger is not None:
        if in_ledger is None or (on_disk is not None and on_disk[0] < in_ledger[0]):
            assert on_disk is not None
            yield *on_disk, None
            on_disk = next(found, None)
        elif on_disk is None or in_ledger[0] < on_disk[0]:
            yield in_ledger[0], None, in_ledger[1]
            in_ledger = next(known, None)
        else:
            yield *on_disk, in_ledger[1]
            on_disk, in_ledger = next(found, None), next(known, None)


def _walk(tree: Tree, folder: bytes) -> Iterator[Found]:
    """Everything below a folder, in the order of its path's bytes."""
    stack = [_items(tree, folder)]
    while stack:
        for path, fingerprint in stack[-1]:
            if fingerprint is None:
                stack.append(_items(tree, path))
                break
            yield path, fingerprint
        else:
            stack.pop()


def _items(tree: Tree, folder: bytes) -> Iterator[tuple[bytes, Fingerprint | None]]:
    """What a folder holds, in order; None says that now the content of that folder is due.

    The content of `a` sorts as `a/`, which is behind `a-b` and before `a0`.
    """
    names = _names(tree, folder)
    prefix = folder + b"/" if folder else b""
    for start in range(0, len(names), STAT_AT_ONCE):
        part = names[start : start + STAT_AT_ONCE]
        for name, fingerprint in zip(part, _look(tree, folder, part), strict=True):
            if name.endswith(b"/"):
                yield prefix + name[:-1], None
            elif fingerprint is not None:
                yield prefix + name, fingerprint


def _names(tree: Tree, folder: bytes) -> list[bytes]:
    """Sorted; a folder twice, the second time with a slash. What cannot be listed is empty (see `_Gone.add`)."""
    prefix = folder + b"/" if folder else b""
    names = []
    try:
        with folder_beneath(tree.descriptor, folder) as descriptor, os.scandir(descriptor) as found:
            for item in found:
                name = os.fsencode(item.name)
                if not tree.excluded(prefix + name):
                    names.append(name)
                    if item.is_dir(follow_symlinks=False):
                        names.append(name + b"/")
    except (OSError, NotBeneath):
        return []
    names.sort()
    return names


def _look(tree: Tree, folder: bytes, names: list[bytes]) -> list[Fingerprint | None]:
    """Fingerprints of names in a folder; None for what is gone again, and for the second mention of a folder."""
    try:
        with folder_beneath(tree.descriptor, folder) as descriptor:
            return [None if name.endswith(b"/") else _stat(descriptor, name) for name in names]
    except (OSError, NotBeneath):
        return [None] * len(names)


def _stat(folder: int, name: bytes) -> Fingerprint | None:
    try:
        return fingerprint_of(os.stat(name, dir_fd=folder, follow_symlinks=False))
    except OSError:
        return None


def _differs(tree: Tree, ledger: Ledger, group: str, path: bytes) -> bool:
    local = ledger.local(group, path)
    return tree.fingerprint(path) != (local.fingerprint if local else None)


class _Gone:
    """Paths that the ledger knows and the walk did not meet. They wait in a database that spills to a temp file."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._db: apsw.Connection | None = None

    def add(self, path: bytes) -> None:
        """Unless it is there all the same: a folder that cannot be read must not look like a great delete."""
        try:
            if self._tree.excluded(path) or self._tree.fingerprint(path) is not None:
                return
        except Unreadable:
            return
        if self._db is None:
            self._db = apsw.Connection("")
            self._db.execute("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF")
            self._db.execute("CREATE TABLE gone(path BLOB PRIMARY KEY) WITHOUT ROWID")
        self._db.execute("INSERT OR IGNORE INTO gone VALUES (?)", (path,))

    def deepest_first(self) -> Iterator[bytes]:
        """What is in a folder before the folder."""
        if self._db is not None:
            row: Row
            for row in self._db.execute("SELECT path FROM gone ORDER BY path DESC"):
                yield row[0]

    def close(self) -> None:
        if self._db is not None:
            self._db.close(True)
