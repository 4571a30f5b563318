"""One look at paths that may have changed: what is there now, against what the ledger says of it. Runs in threads.

Laws: a folder that is gone takes all that is known below it along, the deepest first, in the same go; a folder that is
new, or another one than it was, is to be looked through. A path that is being landed is not looked at. However far
others have read our journal, what it says is a tree: a folder is announced before what is in it, and gone after it.
"""

import errno
import itertools
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from anycastle.errors import AnycastleError
from anycastle.replicator.beneath import NotBeneath, folder_beneath
from anycastle.replicator.disk import Skipped, StillChanging, Tree, TreeError
from anycastle.replicator.entry import PATH_BYTES_MAX, Kind
from anycastle.replicator.ledger import Ledger
from anycastle.replicator.observation import Change, Local
from anycastle.replicator.scan import scan
from anycastle.replicator.schema import LedgerError

log = logging.getLogger("anycastle.replicator.look")

HELD_SECONDS_MAX = 2.0
"""A writer that needs longer is taken for one that never closes."""
CHILDREN_MAX = 5000
"""Of a folder that is made again; one with more below it is not emptied and made again between two looks."""
FAILED_MAX = 1000
"""Remembered by name; all are counted."""
MTIME_NS_MAX = 2**63 - 1
XATTR_BYTES_MAX = 1024 * 1024
"""Of one path; an entry must fit in a frame, or its journal would be stuck."""


class _BeingLanded(StillChanging):
    """What is there is our own doing."""


class _Unannounceable(TreeError):
    """Something that no entry can hold, or that other members would not take."""


@dataclass(slots=True)
class Seen:
    """What came of one look at some paths."""

    changes: list[Change] = field(default_factory=list)
    more: dict[bytes, tuple[bytes, ...]] = field(default_factory=dict)
    """Looking at a path showed that these must be looked at too."""
    again: list[bytes] = field(default_factory=list)
    """It was changing, or was being landed."""
    under: dict[bytes, bytes] = field(default_factory=dict)
    """Path of a change -> the path that was asked for."""

    def add(self, other: "Seen") -> None:
        self.changes += other.changes
        self.more |= other.more
        self.again += other.again
        self.under |= other.under

    def leave_alone(self, landing: Callable[[bytes], bool]) -> None:
        """Take back the changes of paths that are being landed by now, and of what is in such a folder."""
        landed = {change.path for change in self.changes if landing(change.path)}
        if landed:
            self._take_back({each.path for each in self.changes if not landed.isdisjoint(_line_of(each.path))})

    def keep_whole(self) -> None:
        """Take back what is in a folder that another thread saw gone: it is there again, and is announced first."""
        gone: set[bytes] = set()
        early: set[bytes] = set()
        for change in self.changes:
            if change.kind is not Kind.ABSENT and not gone.isdisjoint(_line_of(change.path.rpartition(b"/")[0])):
                early.add(change.path)
            elif change.kind is Kind.FOLDER:
                gone.discard(change.path)
            else:
                gone.add(change.path)
        self._take_back(early)

    def _take_back(self, paths: set[bytes]) -> None:
        """They are looked at again for themselves, too: what was asked for may be as the ledger says by then, and would
        not lead to the folder that it was in.
        """
        self.changes = [change for change in self.changes if change.path not in paths]
        self.again += dict.fromkeys(self.under[path] for path in paths)
        for path in paths:
            self.more[path] = (*self.more.get(path, ()), path)


class Look:
    """Looks for one group."""

    def __init__(
        self, group: str, tree: Tree, ledger: Ledger, *, landing: Callable[[bytes], bool], now: Callable[[], float]
    ) -> None:
        self.failed: dict[bytes, str] = {}
        """Paths that cannot be read, and why (at most FAILED_MAX); tried again at their next event and at each scan."""
        self.changing: dict[bytes, float] = {}
        """Looked at in vain, for somebody was changing it -> since when."""
        self.causes: dict[bytes, str] = {}
        """The same paths -> the system's name for the reason (`EIO`), empty when it is none of the system's."""
        self.failures = 0
        """How often a path could not be read; the last one is told by `last_failure`."""
        self.last_failure = ""
        self.scanned: set[bytes] = set()
        """Found by a scan that went on below them, and not looked at yet."""
        self.unscanned: set[bytes] = set()
        """Folders to be looked through whatever is known of them."""
        self._group = group
        self._tree = tree
        self._ledger = ledger
        self._landing = landing
        self._now = now
        self._held_since: dict[bytes, float] = {}
        """Changed files that somebody still writes -> when we first wanted to look."""

    def observe(self, paths: Iterable[bytes]) -> Seen:
        """Compare these with the ledger."""
        seen = Seen()
        folders: set[bytes] = {b""}
        for path in paths:
            try:
                self._observe(path, seen, folders, asked=path)
            except (_BeingLanded, LedgerError):
                seen.again.append(path)
            except StillChanging:
                seen.again.append(path)
                self.changing.setdefault(path, self._now())
                continue
            except Skipped:
                pass  # counted by the tree
            except (AnycastleError, OSError) as error:
                self._note_failure(path, str(error))
                if path in self.failed:
                    self.causes[path] = _system_name(error)
            else:
                self.failed.pop(path, None)
                self.causes.pop(path, None)
            self.changing.pop(path, None)
        return seen

    def readable(self, path: bytes) -> bool:
        """Whether a look at a path that failed would do better now. Does not count as one."""
        try:
            self._tree.observe(path, self._ledger.local(self._group, path))
        except StillChanging:
            return True
        except (AnycastleError, OSError):
            return False
        return True

    def _observe(self, path: bytes, seen: Seen, folders: set[bytes], *, asked: bytes) -> None:
        """`folders` are announced, or are among the changes seen."""
        if self._landing(path):
            raise _BeingLanded(f"{path[:200]!r} is being landed")
        known = self._ledger.local(self._group, path)
        change = self._look(path, known)
        if path == asked and known is not None and known.kind is Kind.FOLDER and (gone := self._children_gone(path)):
            # Removed with all that was in it and made again at once, it may have the same inode number.
            seen.more[path], seen.under[path] = gone, asked
        if change is None:
            return
        if change.kind is not Kind.ABSENT:
            self._observe_folder_of(path, seen, folders, asked=asked)
        was_folder = known is not None and known.kind is Kind.FOLDER
        if was_folder and change.kind is not Kind.FOLDER:
            self._observe_gone(path, seen, asked=asked)
        seen.changes.append(change)
        seen.under[path] = asked
        if twins := self._twins(path, known, change):
            seen.more[path] = (*seen.more.get(path, ()), *twins)
        if change.kind is Kind.FOLDER and self._is_news(path, was_folder and _same_folder(known, change)):
            found = scan(self._tree, self._ledger, self._group, below=path)
            seen.more[path] = (*seen.more.get(path, ()), *(each for each in found if each != path))

    def _children_gone(self, folder: bytes) -> tuple[bytes, ...]:
        """What the ledger has in a folder, which is not there. O(what is below), at most CHILDREN_MAX."""
        prefix = folder + b"/" if folder else b""
        try:
            with folder_beneath(self._tree.descriptor, folder) as descriptor:
                there = {os.fsencode(name) for name in os.listdir(descriptor)}
        except (OSError, NotBeneath):
            return ()  # gone, or no folder any more: then that is what is seen
        below = itertools.islice(self._ledger.keys_below(self._group, prefix), CHILDREN_MAX)
        known = dict.fromkeys(path[len(prefix) :].partition(b"/")[0] for path, _ in below)
        return tuple(prefix + name for name in known if name not in there)

    def _is_news(self, folder: bytes, same: bool) -> bool:
        """What is in a folder has to be looked for: a new one, unless it was found by a scan, which saw that too."""
        if folder in self.unscanned:
            self.unscanned.discard(folder)
            return True
        return not same and folder not in self.scanned

    def _twins(self, path: bytes, known: Local | None, change: Change) -> tuple[bytes, ...]:
        """Other names of the file that is, or was, at a path: the kernel tells only of the name that was used.

        A twin that has nothing new to tell ends it.
        """
        inodes = {change.fingerprint.ino} if change.links > 1 and change.fingerprint is not None else set()
        was = known.fingerprint if known is not None else None
        if was is not None and was.kind is not Kind.FOLDER:
            inodes.add(was.ino)
        found = (twin for ino in inodes for twin in self._ledger.paths_of_inode(self._group, ino))
        return tuple(twin for twin in found if twin != path)

    def _observe_folder_of(self, path: bytes, seen: Seen, folders: set[bytes], *, asked: bytes) -> None:
        """What a path is in, where nobody has announced it yet."""
        folder = path.rpartition(b"/")[0]
        if folder in folders:
            return
        known = self._ledger.local(self._group, folder)
        if known is None or known.kind is not Kind.FOLDER:
            before = len(seen.changes)
            self._observe(folder, seen, folders, asked=asked)
            if len(seen.changes) == before or seen.changes[-1].kind is not Kind.FOLDER:
                raise StillChanging(f"{folder[:200]!r} changed while it was looked at")
        folders.add(folder)

    def _observe_gone(self, folder: bytes, seen: Seen, *, asked: bytes) -> None:
        below = [path for path, _ in self._ledger.locals_below(self._group, folder + b"/")]
        gone: list[Change] = []
        twins: dict[bytes, tuple[bytes, ...]] = {}
        for path in reversed(below):
            if self._tree.excluded(path):
                continue
            known = self._ledger.local(self._group, path)
            change = self._look(path, known)
            if change is None or change.kind is not Kind.ABSENT:
                raise StillChanging(f"{folder[:200]!r} is back")
            gone.append(change)
            twins[path] = self._twins(path, known, change)
        seen.changes += gone
        seen.more |= {path: found for path, found in twins.items() if found}
        seen.under |= dict.fromkeys((change.path for change in gone), asked)

    def _look(self, path: bytes, known: Local | None) -> Change | None:
        change = self._tree.observe(path, known)
        self._wait_for_writer(path, change)
        if change is not None and (fault := _fault(change)):
            raise _Unannounceable(f"{path[:200]!r}: {fault}")
        return change

    def _wait_for_writer(self, path: bytes, change: Change | None) -> None:
        """Half a file is nobody's change, though an older event, or a reader who waits, made us look just now.

        Raises StillChanging, for HELD_SECONDS_MAX at most: some files are never closed.
        """
        if change is None or not change.written:
            self._held_since.pop(path, None)
            return
        now = self._now()
        if now - self._held_since.setdefault(path, now) < HELD_SECONDS_MAX:
            raise StillChanging(f"{path[:200]!r} is being written")
        del self._held_since[path]

    def _note_failure(self, path: bytes, cause: str) -> None:
        if not self.failed:
            log.warning("group=%s path=%r event=unreadable reason=%s", self._group, path, cause)
        self.failures += 1
        self.last_failure = cause
        if path in self.failed or len(self.failed) < FAILED_MAX:
            self.failed[path] = cause


def _line_of(path: bytes) -> Iterator[bytes]:
    """A path and every folder that it is in."""
    while path:
        yield path
        path = path.rpartition(b"/")[0]


def _system_name(error: BaseException) -> str:
    found = error if isinstance(error, OSError) else error.__cause__
    return errno.errorcode.get(found.errno or 0, "") if isinstance(found, OSError) else ""


def _fault(change: Change) -> str:
    """Why an entry of it would be refused by others (as `link_frame` checks them); empty when it would not."""
    if abs(change.mtime_ns) > MTIME_NS_MAX:
        return "expected a modification time between the years 1677 and 2262"
    if len(change.target) > PATH_BYTES_MAX:
        return f"a link target of {len(change.target)} bytes: expected at most {PATH_BYTES_MAX}"
    size = sum(len(name) + len(value) for name, value in change.xattrs.items())
    if size > XATTR_BYTES_MAX:
        return f"extended attributes of {size} bytes: expected at most {XATTR_BYTES_MAX}"
    return ""


def _same_folder(known: Local | None, change: Change) -> bool:
    if known is None or known.fingerprint is None or change.fingerprint is None:
        return False
    return known.fingerprint.ino == change.fingerprint.ino
