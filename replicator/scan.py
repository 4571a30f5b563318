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
from anycastle.replicator.observation import Key, key_of
from anycastle.replicator.store import PATH_END, Row

PROGRESS_EVERY = 10_000
STAT_AT_ONCE = 1000
"""Names of one folder looked at before they are given out; its descriptor is open only meanwhile."""

Found = tuple[bytes, Key]
_END: Found = (PATH_END, ())


def scan(
    tree: Tree, ledger: Ledger, group: str, *, below: bytes = b"", progress: Callable[[int], None] | None = None
) -> Iterator[bytes]:
    """Paths whose stat differs from what landed here: new, changed, gone. `below` is a folder, itself included.

    `progress` is told how many things were looked at, about every PROGRESS_EVERY and at the end. For a worker thread.
    """
    folder = below.rstrip(b"/")
    known = ledger.keys_below(group, folder + b"/" if folder else b"")
    looked, told = 0, 0
    differs = bool(folder) and _differs(tree, ledger, group, folder)
    there = differs and tree.fingerprint(folder) is not None
    if there:
        yield folder
    path_known, key_known = next(known, _END)
    with contextlib.closing(_Gone(tree)) as gone:
        for run in _walk(tree, folder):
            for path, key in run:
                while path_known < path:
                    gone.add(path_known)
                    path_known, key_known = next(known, _END)
                if path_known != path:
                    yield path
                    continue
                if key_known != key:
                    yield path
                path_known, key_known = next(known, _END)
            looked += len(run)
            if progress is not None and looked - told >= PROGRESS_EVERY:
                progress(looked)
                told = looked
        while path_known != PATH_END:
            gone.add(path_known)
            path_known, key_known = next(known, _END)
        yield from gone.deepest_first()
    if differs and not there:
        yield folder
    if progress is not None:
        progress(looked)


def count(tree: Tree, going_on: Callable[[], bool]) -> int:
    """How many things a scan of the whole tree will look at, by their names alone: some seconds for a million.

    Fewer once `going_on` says no.
    """
    folders, found = [b""], 0
    while folders and going_on():
        folder = folders.pop()
        for name in _names(tree, folder):
            if name.endswith(b"/"):
                folders.append(folder + b"/" + name[:-1] if folder else name[:-1])
            else:
                found += 1
    return found


def _walk(tree: Tree, folder: bytes) -> Iterator[list[Found]]:
    """Everything below a folder, in runs, in the order of its path's bytes."""
    stack = [_runs(tree, folder)]
    while stack:
        for run, descend in stack[-1]:
            if run:
                yield run
            if descend:
                stack.append(_runs(tree, descend))
                break
        else:
            stack.pop()


def _runs(tree: Tree, folder: bytes) -> Iterator[tuple[list[Found], bytes]]:
    """What a folder holds, in order, and each time the folder whose content is due next (empty: none).

    The content of `a` sorts as `a/`, which is behind `a-b` and before `a0`.
    """
    names = _names(tree, folder)
    prefix = folder + b"/" if folder else b""
    for start in range(0, len(names), STAT_AT_ONCE):
        part = names[start : start + STAT_AT_ONCE]
        run: list[Found] = []
        for name, key in zip(part, _look(tree, folder, part), strict=True):
            if key is not None:
                run.append((prefix + name, key))
            elif name.endswith(b"/"):
                yield run, prefix + name[:-1]
                run = []
        yield run, b""


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


def _look(tree: Tree, folder: bytes, names: list[bytes]) -> list[Key | None]:
    """Fingerprints of names in a folder; None for what is gone again, and for the second mention of a folder."""
    try:
        with folder_beneath(tree.descriptor, folder) as descriptor:
            return [None if name.endswith(b"/") else _stat(descriptor, name) for name in names]
    except (OSError, NotBeneath):
        return [None] * len(names)


def _stat(folder: int, name: bytes) -> Key | None:
    try:
        return key_of(os.stat(name, dir_fd=folder, follow_symlinks=False))
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
