"""One group's tree on the disk: what is there, and putting there what other members announced.

Laws: every path is resolved beneath the root and through no symlink; what lies behind a symlink is not in the tree.
Nothing but `land` changes anything outside `.anycastle/`. All methods block and may be called from several threads,
for different paths.

Observed and landed are files, folders and symlinks with mode, owner, xattrs and, but for folders, mtime. A folder's
mtime moves with every file in it and is not replicated. Hard links are separate files of equal content elsewhere.
"""

import contextlib
import dataclasses
import errno
import os
import platform
import re
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from anycastle.clock import SystemClock
from anycastle.errors import AnycastleError
from anycastle.replicator import resolve
from anycastle.replicator.attributes import privileged, read_xattrs
from anycastle.replicator.beneath import (
    O_FOLDER,
    O_LOOK,
    Elsewhere,
    NotBeneath,
    TreeError,
    lstat_beneath,
    make_folders,
    open_beneath,
    sync_filesystem,
)
from anycastle.replicator.entry import PRIVATE_FOLDER, Entry, Kind, Version, check_path
from anycastle.replicator.exclude import Exclude
from anycastle.replicator.keep import keep_copy
from anycastle.replicator.land import LocalEdit, NotEmpty, Places, dress, keep, land
from anycastle.replicator.observation import Change, Fingerprint, Local, fingerprint_of
from anycastle.replicator.stage import DigestMismatch, LandError, Staged, hash_file, landing
from anycastle.replicator.writers import is_held_for_writing

__all__ = [
    "DigestMismatch",
    "LandError",
    "LocalEdit",
    "NotBeneath",
    "NotEmpty",
    "Skipped",
    "Staged",
    "StillChanging",
    "Tree",
    "TreeError",
    "Unreadable",
]

O_CONTENT = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
COARSE_CTIME_SECONDS = 0.01
"""Before Linux 6.13 two changes within one tick (at most 1/100 s) may share a ctime."""


class StillChanging(TreeError):
    """The file changed while it was read: look again later."""


class Skipped(TreeError):
    """A socket, device or pipe: never replicated."""


class Unreadable(TreeError):
    """The system does not let us read it."""


class Tree:
    """Opened on a root folder; `close` it."""

    def __init__(self, root: Path, exclude: tuple[str, ...] = ()) -> None:
        """Makes the private folders and empties the one for temps. Raises TreeError."""
        self.root = root
        self.excluded = Exclude(exclude)
        """Whether a path is left out."""
        self.skipped = 0
        """Looks at sockets, devices and pipes."""
        self.mended = 0
        """How often the private folders had to be made again."""
        self.created = not os.path.lexists(root / os.fsdecode(PRIVATE_FOLDER))
        """The private folder was not there. Where the ledger knows files: another disk, or none, is mounted here."""
        self._coarse_ctime = not _has_fine_ctime(platform.release())
        with contextlib.ExitStack() as undo:
            try:
                self.descriptor = _opened(undo, os.open(root, O_FOLDER | os.O_CLOEXEC))
                self._private = self._make_private(undo)
                temporary, conflicts = self._private[b"tmp"], self._private[b"conflicts"]
                self._places = Places(self.descriptor, temporary, conflicts, privileged(), self.excluded)
                self._remove_temps()
            except OSError as error:
                raise TreeError(f"root {root}: expected a folder to write in: {error.strerror}") from error
            self._undo = undo.pop_all()

    def close(self) -> None:
        self._undo.close()

    def _make_private(self, undo: contextlib.ExitStack) -> dict[bytes, int]:
        """Descriptors of the private folders, made where they are missing. Raises OSError, TreeError."""
        opened = {}
        for name in (b"tmp", b"conflicts", b"cookies"):
            make_folders(self.descriptor, PRIVATE_FOLDER + b"/" + name)
            opened[name] = _opened(undo, open_beneath(self.descriptor, PRIVATE_FOLDER + b"/" + name, O_FOLDER))
        return opened

    def mend(self) -> bool:
        """Makes the private folders again if somebody removed or moved them; says whether it did. One caller at a time.

        Raises OSError, TreeError when it cannot. Landings under way in what was removed fail, and are tried again.
        """
        if self.is_whole():
            return False
        self._private = self._make_private(self._undo)
        temporary, conflicts = self._private[b"tmp"], self._private[b"conflicts"]
        self._places = dataclasses.replace(self._places, temporary=temporary, conflicts=conflicts)
        self.mended += 1
        return True

    def is_whole(self) -> bool:
        """The private folders are where they were; also when nobody can tell."""
        try:
            found = [lstat_beneath(self.descriptor, PRIVATE_FOLDER + b"/" + name) for name in self._private]
        except (OSError, TreeError):
            return True
        held = [os.fstat(descriptor) for descriptor in self._private.values()]
        return all(one is not None and os.path.samestat(one, other) for one, other in zip(found, held, strict=True))

    def _remove_temps(self) -> None:
        with os.scandir(self._places.temporary) as left:
            for item in left:
                if item.is_dir(follow_symlinks=False):
                    try:
                        os.rmdir(item.name, dir_fd=self._places.temporary)
                    except OSError:  # swapped out with content in it when the machine stopped
                        keep(self._places, os.fsencode(item.name), b"displaced", b"folder")
                else:
                    os.unlink(item.name, dir_fd=self._places.temporary)

    # Looking

    def fingerprint(self, path: bytes) -> Fingerprint | None:
        """What is at the path; None when nothing is, or nothing that is replicated. Raises EntryError, Unreadable."""
        status = self._status(path)
        return None if status is None else fingerprint_of(status)

    def changed_since(self, found: Iterable[tuple[bytes, Fingerprint | None]]) -> list[bytes]:
        """The paths that are not any more what was found there, or cannot be read."""
        return [path for path, fingerprint in found if not self._is(path, fingerprint)]

    def _is(self, path: bytes, fingerprint: Fingerprint | None) -> bool:
        try:
            return self.fingerprint(path) == fingerprint
        except AnycastleError:
            return False

    def is_folder(self, path: bytes) -> bool:
        status = self._status(path)
        return status is not None and stat.S_ISDIR(status.st_mode)

    def observe(self, path: bytes, known: Local | None) -> Change | None:
        """What is at the path now; None when it is what is known, or excluded. A file is read only if it differs.

        Raises StillChanging, Skipped, Unreadable; EntryError for a path that cannot be.
        """
        status = self._status(path)
        if self.excluded(path):
            return None
        fingerprint = None if status is None else fingerprint_of(status)
        if fingerprint is None:
            if known is not None and known.kind is not Kind.ABSENT:
                return Change(path=path, kind=Kind.ABSENT)
            if status is not None:
                self.skipped += 1
                raise Skipped(f"{path[:200]!r} is a socket, device or pipe")
            return None
        if known is not None and known.fingerprint == fingerprint and fingerprint.kind is not Kind.FOLDER:
            return None  # a folder's fingerprint does not tell its xattrs: compare those
        with _observing(path):
            if fingerprint.kind is Kind.SYMLINK:
                return self._observe_symlink(path)
            return self._observe_open(path, fingerprint.kind)

    def _status(self, path: bytes) -> os.stat_result | None:
        check_path(path)
        try:
            return lstat_beneath(self.descriptor, path)
        except Elsewhere as error:
            raise Unreadable(str(error)) from error
        except NotBeneath:
            return None
        except OSError as error:
            raise Unreadable(f"{path[:200]!r}: {error.strerror}") from error

    def _observe_symlink(self, path: bytes) -> Change:
        descriptor = open_beneath(self.descriptor, path, O_LOOK)
        try:
            target, status = os.readlink(b"", dir_fd=descriptor), os.fstat(descriptor)
        finally:
            os.close(descriptor)
        return _change(path, status, size=0, target=target)

    def _observe_open(self, path: bytes, kind: Kind) -> Change:
        descriptor = open_beneath(self.descriptor, path, O_FOLDER if kind is Kind.FOLDER else O_CONTENT)
        try:
            before = os.fstat(descriptor)
            if kind is Kind.FOLDER:
                return _change(path, before, size=0, xattrs=read_xattrs(descriptor, as_root=self._places.as_root))
            self._wait_for_tick(before)
            digest, size = hash_file(descriptor)
            xattrs = read_xattrs(descriptor, as_root=self._places.as_root)
            after = os.fstat(descriptor)
            written = is_held_for_writing(descriptor)
        finally:
            os.close(descriptor)
        if not stat.S_ISREG(before.st_mode) or fingerprint_of(before) != fingerprint_of(after) or size != after.st_size:
            raise StillChanging(f"{path[:200]!r} changed while it was read")
        return _change(path, after, size=size, digest=digest.digest(), xattrs=xattrs, written=written)

    def _wait_for_tick(self, status: os.stat_result) -> None:
        """Where ctime is coarse, lets the tick pass in which the file changed: the next change gets a later one."""
        age = SystemClock().wall() - status.st_ctime_ns / 1e9
        if self._coarse_ctime and 0 <= age < COARSE_CTIME_SECONDS:
            time.sleep(COARSE_CTIME_SECONDS - age)

    def open_body(self, path: bytes) -> int:
        """A descriptor of a file's content, for reading. Raises NotBeneath, Unreadable (also when it is no file)."""
        check_path(path)
        try:
            descriptor = open_beneath(self.descriptor, path, O_CONTENT)
        except OSError as error:
            raise Unreadable(f"{path[:200]!r}: {error.strerror}") from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise Unreadable(f"{path[:200]!r} is not a file")
        return descriptor

    def is_written(self, path: bytes) -> bool:
        """Somebody holds the file at a path open for writing; no for what is no file, or is gone."""
        try:
            descriptor = self.open_body(path)
        except AnycastleError:
            return False
        try:
            return is_held_for_writing(descriptor)
        finally:
            os.close(descriptor)

    # Landing

    def stage(self, entry: Entry) -> Staged:
        """A temp file for the entry's content: `write`, `finish`, then `land` or `abort`. Raises LandError."""
        return Staged(self._places.temporary, entry)

    def stage_copy(self, entry: Entry, source_path: bytes) -> Staged:
        """Content that is on this disk already; finished. Raises DigestMismatch when it is not there any more."""
        source = self.open_body(source_path)
        try:
            staged = self.stage(entry)
            try:
                staged.copy(source)
                staged.finish()
            except BaseException:
                staged.abort()
                raise
        finally:
            os.close(source)
        return staged

    def dress(self, staged: Staged) -> None:
        """Gives a finished temp its attributes: what is left of `land` is then a rename. Raises LandError."""
        dress(self._places, staged)

    def sync(self) -> None:
        """Everything that was written below the root is on the disk, and what else its filesystem holds. OSError."""
        sync_filesystem(self.descriptor)

    def land(
        self, entry: Entry, staged: Staged | None, expected: Fingerprint | None, *, durable: bool = True
    ) -> Fingerprint | None:
        """Makes the path what the entry says; returns what `fingerprint` says of it then (None: deleted).

        Not `durable`: the caller gave `staged` its attributes and called `sync` before, and calls `sync` afterwards.

        `expected` is what the ledger says is there. Raises LocalEdit when that is not so; NotEmpty for a folder that
        must go and holds replicated things; LandError with the system's reason; NotBeneath; EntryError. Then nothing
        has changed and `staged` is still the caller's, to abort or try again.
        """
        check_path(entry.path)
        return land(self._places, entry, staged, expected, durable=durable)

    def know_folders(self, entry_of: Callable[[bytes], Entry | None]) -> None:
        """Where to ask for the attributes of folders that are made because something in them comes first."""
        self._places = dataclasses.replace(self._places, folder_entry=entry_of)

    def found(self) -> list[bytes]:
        """Folders that `land` met since the last call where it expected none, or another one: look through them."""
        places = self._places.found
        return [places.popleft() for _ in range(len(places))]

    def keep_conflict(self, path: bytes, version: Version, expected: Fingerprint | None) -> bytes:
        """Keeps a copy of the file or symlink that is at the path below `.anycastle/conflicts`; returns its name there.

        The same file kept again stays one copy. Raises LocalEdit unless it is `expected`, what the ledger says of
        `version`, from the first byte to the last; LandError.
        """
        check_path(path)
        with landing(path):
            return keep_copy(self._places, path, version, expected)

    def end_conflict(self, kept: bytes, path: bytes, *, put_back: bool) -> None:
        """The kept copy takes the path's place, or goes. Raises TreeError."""
        check_path(path)
        with landing(path):
            if put_back:
                resolve.put_back(self._places, kept, path)
            else:
                resolve.drop(self._places, kept)


def _change(
    path: bytes,
    status: os.stat_result,
    *,
    size: int,
    digest: bytes = b"",
    target: bytes = b"",
    xattrs: dict[str, bytes] | None = None,
    written: bool = False,
) -> Change:
    fingerprint = fingerprint_of(status)
    if fingerprint is None:
        raise StillChanging(f"{path[:200]!r} became something else while it was looked at")
    return Change(
        path=path,
        kind=fingerprint.kind,
        digest=digest,
        size=size,
        mode=fingerprint.mode,
        uid=fingerprint.uid,
        gid=fingerprint.gid,
        mtime_ns=fingerprint.mtime_ns,
        target=target,
        xattrs=xattrs or {},
        fingerprint=fingerprint,
        links=1 if fingerprint.kind is Kind.FOLDER else status.st_nlink,
        written=written,
    )


@contextlib.contextmanager
def _observing(path: bytes) -> Iterator[None]:
    """What was there a moment ago may be gone, or of another kind, when it is opened."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, NotBeneath) as error:
        raise StillChanging(f"{path[:200]!r} changed while it was looked at") from error
    except OSError as error:
        if error.errno in (errno.ESTALE, errno.EINVAL, errno.ENXIO):
            raise StillChanging(f"{path[:200]!r} changed while it was looked at") from error
        raise Unreadable(f"{path[:200]!r}: {error.strerror}") from error


def _opened(undo: contextlib.ExitStack, descriptor: int) -> int:
    undo.callback(os.close, descriptor)
    return descriptor


def _has_fine_ctime(release: str) -> bool:
    """Linux 6.13 gave ext4, xfs, btrfs and tmpfs times that differ whenever somebody looked in between."""
    numbers = re.match(r"(\d+)\.(\d+)", release)
    return numbers is not None and (int(numbers[1]), int(numbers[2])) >= (6, 13)
