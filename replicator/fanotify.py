"""Watches a tree with fanotify: one mark for its whole filesystem, no walk, no memory for folders (fanotify(7)).

Laws: an event is queued before the system call that caused it returns (measured: no miss in 20,000), so a cookie's
event has everything before it; other people's events on the filesystem cost one look in a dictionary each. Needs
Linux 5.17, CAP_SYS_ADMIN and CAP_DAC_READ_SEARCH. What is mounted below the root is not told of, nor replicated.
"""

import asyncio
import ctypes
import errno
import os
import select
from collections.abc import AsyncIterator, Iterator

from anycastle.replicator import fanotify_record as kernel
from anycastle.replicator.fanotify_record import Record, records
from anycastle.replicator.handles import Folders, place
from anycastle.replicator.mounts import filesystem_of, mounted
from anycastle.replicator.watch_event import (
    Cookie,
    Gathering,
    Overflow,
    Renamed,
    WatchedTree,
    WatchError,
    WatchEvent,
    join,
)
from anycastle.replicator.watched_root import COOKIES_FOLDER, TEMPS_FOLDER, WatchedRoot, readable

# FAN_CLASS_NOTIF is 0. FAN_CLOEXEC | FAN_NONBLOCK | FAN_REPORT_FID | FAN_REPORT_DIR_FID | FAN_REPORT_NAME |
# FAN_REPORT_TARGET_FID
REPORT_FLAGS = 0x0001 | 0x0002 | 0x0200 | 0x0400 | 0x0800 | 0x1000
# FAN_UNLIMITED_QUEUE | FAN_UNLIMITED_MARKS: about 115 bytes of kernel memory an event, and none is lost by a burst.
UNLIMITED_FLAGS = 0x0010 | 0x0020
# FAN_MARK_ADD | FAN_MARK_FILESYSTEM
_MARK_FLAGS = 0x0001 | 0x0100
# FAN_MARK_ADD | FAN_MARK_ONLYDIR | FAN_MARK_IGNORED_SURV_MODIFY | FAN_MARK_IGNORE
_IGNORE_FLAGS = 0x0001 | 0x0008 | 0x0040 | 0x0400
MASK = (
    kernel.MODIFY
    | kernel.ATTRIB
    | kernel.CLOSE_WRITE  # stores through a mapping are told by it alone, at munmap
    | kernel.CREATE
    | kernel.DELETE
    | kernel.RENAME
    | kernel.ONDIR
)
_IGNORED = MASK & ~kernel.RENAME | kernel.EVENT_ON_CHILD
"""In our folder of temp files. Renames out of it are told: what lands is looked at like anything else."""
READ_BYTES = 64 * 1024
"""About 700 events: a few milliseconds of the loop."""
BURST_READS = 8
"""In a row, with no longer than BURST_SECONDS between them: then more are coming, and a read of many costs hardly more
than a read of one. The few events of one upload are never so many reads.
"""
BURST_SECONDS = 0.002
"""What they wait for each other; their order, and that of cookies among them, is the kernel's queue's all the same."""
PROBE_TIMEOUT_SECONDS = 2.0
PROBE_READS_MAX = 1000


class FanotifyWatcher:
    """Opening it probes the whole way with a cookie, so that a filesystem that only seems to work is refused."""

    kind = "fanotify"

    def __init__(self, tree: WatchedTree, *, flags: int = REPORT_FLAGS | UNLIMITED_FLAGS) -> None:
        """Raises WatchError, saying what is missing."""
        self._gathering = Gathering()
        self._root = WatchedRoot(tree)
        self._fd = -1
        self.heard = 0
        self.noise = 0
        """Events that concerned nobody here."""
        try:
            self._folders = Folders(self._root.fd)
            filesystem = filesystem_of(mounted(), self._root.path)
            self._fd = _open_group(flags)
            _mark(self._fd, self._root.fd, filesystem)
            _ignore(self._fd, self._root.fd, TEMPS_FOLDER)
            self._probe(filesystem)
        except BaseException:
            self.close()
            raise
        self.reason = f"one mark covers the whole {filesystem} filesystem"

    async def batches(self) -> AsyncIterator[tuple[WatchEvent, ...]]:
        """See `Watcher.batches`."""
        now = asyncio.get_running_loop().time
        reads, read_at = 0, now()
        while True:
            if events := self._gathering.take():  # first what the probe met
                yield events
            before = self.heard
            for record in self._records():
                self.heard += 1
                self._take(record)
            if self.heard > before:
                reads = reads + 1 if now() - read_at <= BURST_SECONDS else 1
                await asyncio.sleep(0 if reads < BURST_READS else BURST_SECONDS)
                read_at = now()
            else:
                await readable(self._fd)

    def drop_cookie(self) -> str:
        return self._root.drop_cookie()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._root.close()

    def _records(self) -> Iterator[Record]:
        """One buffer of events; nothing when none is there."""
        try:
            buffer = os.read(self._fd, READ_BYTES)
        except BlockingIOError:
            return iter(())
        except OSError as error:
            raise WatchError(f"fanotify: cannot read events: {error.strerror}") from error
        return records(buffer)

    def _take(self, record: Record) -> None:
        try:
            self._interpret(record)
        except OSError as error:  # out of memory or of descriptors: that event is lost
            self._overflow(f"fanotify: cannot find the place of an event: {error.strerror}")

    def _interpret(self, record: Record) -> None:
        mask, name = record.mask, record.name
        if mask & kernel.Q_OVERFLOW:
            self._overflow("fanotify: the kernel's queue overflowed")
        elif mask & kernel.CREATE and (cookie := self._root.claim(name)):
            self._gathering.add(Cookie(cookie))
        elif mask & kernel.RENAME:
            self._take_rename(record)
        elif not record.folder or _is_nameless(name):
            self._take_nameless(record)
        elif (folder := self._folders.path(record.folder)) is None:
            self.noise += 1
            if mask & kernel.ONDIR and mask & kernel.DELETE:
                self._check_root()
        else:
            self._touch(folder if name == b"." else join(folder, name), mask)

    def _touch(self, path: bytes, mask: int) -> None:
        if self._root.hidden(path):
            return
        writing = kernel.writing(mask)
        if writing and not mask & kernel.MODIFY:
            writing = self._root.may_be_open(path)
        self._gathering.touch(path, writing)

    def _take_nameless(self, record: Record) -> None:
        """Of an object without a name of its own: O_TMPFILE (before and after linkat), link counts, NFS exports."""
        path = place(self._root.fd, record.target) if record.target else None
        if path is None and record.folder:  # a real file of such a name, deleted; else a wasted look
            folder = self._folders.path(record.folder)
            path = None if folder is None else join(folder, record.name)
        if path is None:
            self.noise += 1
        else:
            self._touch(path, record.mask)

    def _take_rename(self, record: Record) -> None:
        folder = bool(record.mask & kernel.ONDIR)
        old_folder = self._folders.path(record.folder) if record.folder else None
        new_folder = self._folders.path(record.new_folder) if record.new_folder else None
        if old_folder is None and new_folder is None:
            self.noise += 1
            if folder:
                self._check_root()
            return
        if folder:
            self._folders.forget()
        old = None if old_folder is None else self._shown(join(old_folder, record.name))
        new = None if new_folder is None else self._shown(join(new_folder, record.new_name))
        if old is not None and new is not None:
            self._gathering.add(Renamed(old, new, folder))
        elif new is not None and folder:
            self._gathering.add(Renamed(new, new, folder))
        elif (path := old if new is None else new) is not None:
            self._gathering.touch(path, False)

    def _shown(self, path: bytes) -> bytes | None:
        return None if self._root.hidden(path) else path

    def _check_root(self) -> None:
        """A folder outside was renamed or deleted: it may have been the root, or above it."""
        if reason := self._root.moved():
            raise WatchError(reason)

    def _overflow(self, reason: str) -> None:
        self._folders.forget()
        self._gathering.add(Overflow(reason))
        for name in self._root.claim_all():
            self._gathering.add(Cookie(name))

    def _probe(self, filesystem: str) -> None:
        """Wait for a cookie, and for its folder to be found below the root; keep whatever else was told meanwhile."""
        cookie = self._root.drop_cookie().encode()
        for _ in range(PROBE_READS_MAX):
            if not select.select([self._fd], [], [], PROBE_TIMEOUT_SECONDS)[0]:
                break
            for record in self._records():
                if record.name != cookie:
                    self._take(record)
                elif record.mask & kernel.CREATE and self._root.claim(cookie):
                    seen = self._folders.path(record.folder)
                    if seen != COOKIES_FOLDER:
                        raise WatchError(f"fanotify places a cookie at {seen!r} on this {filesystem} filesystem")
                    return
        raise WatchError(f"fanotify tells nothing of changes on this {filesystem} filesystem")


def _is_nameless(name: bytes) -> bool:
    """How the kernel calls a file of O_TMPFILE, also when it has long been linked: `#` and its inode's number."""
    return name[:1] == b"#" and name[1:].isdigit()


_libc = ctypes.CDLL(None, use_errno=True)


def _open_group(flags: int) -> int:
    fd: int = _libc.fanotify_init(ctypes.c_uint(flags), ctypes.c_uint(os.O_RDONLY | os.O_LARGEFILE | os.O_CLOEXEC))
    if fd < 0:
        raise WatchError(f"fanotify: {_why(ctypes.get_errno())}")
    return fd


def _mark(fd: int, root_fd: int, filesystem: str) -> None:
    done = _libc.fanotify_mark(fd, ctypes.c_uint(_MARK_FLAGS), ctypes.c_uint64(MASK), root_fd, None)
    if done < 0:
        raise WatchError(f"fanotify cannot mark this {filesystem} filesystem: {_why(ctypes.get_errno())}")


def _ignore(fd: int, root_fd: int, folder: bytes) -> None:
    """Spares us most events of our own landings. From Linux 6.0 on; before, they are heard and dropped."""
    _libc.fanotify_mark(fd, ctypes.c_uint(_IGNORE_FLAGS), ctypes.c_uint64(_IGNORED), root_fd, ctypes.c_char_p(folder))


def _why(code: int) -> str:
    match code:
        case errno.EPERM:
            return "CAP_SYS_ADMIN is missing"
        case errno.EINVAL:
            return "Linux 5.17 or later is needed"
        case errno.ENOSYS:
            return "this kernel is built without it"
        case errno.EXDEV:
            return "it is a btrfs subvolume, only the whole filesystem can be marked"
        case errno.EOPNOTSUPP | errno.ENODEV:
            return "it has no handles to name files by"
        case errno.EMFILE:
            return "too many groups, see fs.fanotify.max_user_groups"
        case _:
            return os.strerror(code)
