"""Putting an entry in place: whole or not at all, and never over what nobody announced.

Laws: content becomes visible by one rename, with all its attributes; what stood there is looked at before *and after*
it was swapped out, and swapped back when it is not what the ledger said, so a racing edit is never lost. A folder goes
only when nothing replicated is left in it; what an operator excluded, and sockets and the like, are then moved to
`.anycastle/conflicts/` with it: neither destroyed nor able to hold up a delete for ever. A folder's attributes alone
are never a conflict. With `durable` it is on the disk at the return; without, whoever lands many has the content on
the disk before, and sees to the rest afterwards, for all of them at once.
"""

import contextlib
import errno
import os
import secrets
import stat
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import assert_never

import msgspec

from anycastle.replicator.attributes import set_attributes, set_symlink_attributes
from anycastle.replicator.beneath import (
    O_FOLDER,
    Elsewhere,
    NotBeneath,
    TreeError,
    exchange,
    folder_beneath,
    lstat_beneath,
    make_folders,
    missing_folders,
    open_beneath,
    rename_new,
)
from anycastle.replicator.entry import Entry, Kind
from anycastle.replicator.fault_point import Point, reach
from anycastle.replicator.observation import Fingerprint, fingerprint_of, kind_of
from anycastle.replicator.stage import LandError, Staged, landing

PARENT_MODE = 0o755
"""Of folders made because something in them came first; their own entries set what is right."""
MADE_MAX = 10_000
"""Of these, remembered until their own entries come; one that was forgotten is scanned in vain."""


class LocalEdit(TreeError):
    """The disk is not what the ledger says: look at it, journal it, then try again."""


class NotEmpty(TreeError):
    """A folder that should go holds something that is replicated."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where a tree is: descriptors of its root and of two private folders."""

    root: int
    temporary: int
    conflicts: int
    as_root: bool
    excluded: Callable[[bytes], bool]
    folder_entry: Callable[[bytes], Entry | None] = lambda path: None
    """The last entry that made a path a folder."""
    made: dict[bytes, int] = field(default_factory=dict)
    """Folders made because something in them came first -> their inode."""
    found: deque[bytes] = field(default_factory=deque)
    """Folders taken over that we had not made: what is in them may be news."""


def dress(places: Places, staged: Staged) -> None:
    """Gives a checked temp file the attributes that it will have in its place. Raises LandError."""
    with landing(staged.entry.path):
        set_attributes(staged.open(), staged.entry, as_root=places.as_root)


def land(
    places: Places, entry: Entry, staged: Staged | None, expected: Fingerprint | None, *, durable: bool
) -> Fingerprint | None:
    """As `Tree.land`."""
    with landing(entry.path):
        if entry.kind is Kind.ABSENT:
            _remove(places, entry.path, expected, durable=durable)
            return None
        with _parent(places, entry.path, durable=durable) as (folder, name):
            spot = _Spot(places, folder, name, entry.path, durable)
            if entry.kind is Kind.FOLDER and _is_folder(folder, name):
                return _set_folder(spot, entry, expected)
            match entry.kind:
                case Kind.FILE:
                    return _land_file(spot, entry, staged, expected)
                case Kind.FOLDER:
                    return _land_folder(spot, entry, expected)
                case Kind.SYMLINK:
                    return _land_symlink(spot, entry, expected)
                case _:
                    assert_never(entry.kind)


@dataclass(frozen=True, slots=True)
class _Spot:
    """One name in an open folder, where something is to be put."""

    places: Places
    folder: int
    name: bytes
    path: bytes
    durable: bool

    def sync(self, descriptor: int) -> None:
        if self.durable:
            os.fsync(descriptor)


@contextlib.contextmanager
def _parent(places: Places, path: bytes, *, durable: bool) -> Iterator[tuple[int, bytes]]:
    parent, _, name = path.rpartition(b"/")
    try:
        folder = open_beneath(places.root, parent or b".", O_FOLDER)
    except FileNotFoundError:
        make_parents(places, parent, durable=durable)
        folder = open_beneath(places.root, parent, O_FOLDER)
    try:
        yield folder, name
    finally:
        os.close(folder)


def make_parents(places: Places, folder: bytes, *, durable: bool = True) -> None:
    """Makes the missing ones of a folder and its parents.

    Each has from its first moment the attributes that it has, or had before it was deleted: what it holds was not for
    everybody, and a watcher that saw it otherwise would announce that. Raises OSError, TreeError.
    """
    if len(places.made) >= MADE_MAX:
        places.made.clear()
    for path in missing_folders(places.root, folder):
        parent, _, name = path.rpartition(b"/")
        with folder_beneath(places.root, parent) as above, contextlib.suppress(LocalEdit):  # made by somebody else
            spot = _Spot(places, above, name, path, durable)
            with _new_folder(spot, places.folder_entry(path)) as (temp, made):
                _move_new(places.temporary, temp, spot)
            spot.sync(above)
            places.made[path] = made.ino


# Making the new thing under a private name


def _land_file(spot: _Spot, entry: Entry, staged: Staged | None, expected: Fingerprint | None) -> Fingerprint:
    assert staged is not None, "content was staged"
    assert staged.finished, "its digest was checked"
    if spot.durable:
        set_attributes(staged.open(), entry, as_root=spot.places.as_root)
        os.fsync(staged.descriptor)
    made = _fingerprint_of(os.fstat(staged.open()))
    staged.close()
    landed = _put(spot, staged.name, made, expected)
    staged.release()
    return landed


def _land_folder(spot: _Spot, entry: Entry, expected: Fingerprint | None) -> Fingerprint:
    with _new_folder(spot, entry) as (name, made):
        return _put(spot, name, made, expected)


@contextlib.contextmanager
def _new_folder(spot: _Spot, entry: Entry | None) -> Iterator[tuple[bytes, Fingerprint]]:
    """A folder under a private name, to be moved into its place; without an entry it is one as most are."""
    name, temporary = _new_name(), spot.places.temporary
    os.mkdir(name, 0o700, dir_fd=temporary)
    try:
        with folder_beneath(temporary, name) as made:
            if entry is None:
                os.fchmod(made, PARENT_MODE)  # the process's umask has no say
            else:
                set_attributes(made, entry, as_root=spot.places.as_root)
            spot.sync(made)
            fingerprint = _fingerprint_of(os.fstat(made))
        yield name, fingerprint
    except BaseException:
        with contextlib.suppress(OSError):
            os.rmdir(name, dir_fd=temporary)
        raise


def _land_symlink(spot: _Spot, entry: Entry, expected: Fingerprint | None) -> Fingerprint:
    name, temporary = _new_name(), spot.places.temporary
    os.symlink(entry.target, name, dir_fd=temporary)
    try:
        set_symlink_attributes(temporary, name, entry, as_root=spot.places.as_root)
        return _put(spot, name, _fingerprint_of(os.stat(name, dir_fd=temporary, follow_symlinks=False)), expected)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=temporary)
        raise


def _set_folder(spot: _Spot, entry: Entry, expected: Fingerprint | None) -> Fingerprint:
    with folder_beneath(spot.folder, spot.name) as existing:
        set_attributes(existing, entry, as_root=spot.places.as_root)
        spot.sync(existing)
        fingerprint = _fingerprint_of(os.fstat(existing))
    ours = spot.places.made.pop(entry.path, None)
    if fingerprint.ino not in (ours, expected.ino if expected is not None else None):
        spot.places.found.append(entry.path)
    return fingerprint


# Swapping it in


def _put(spot: _Spot, temp: bytes, made: Fingerprint, expected: Fingerprint | None) -> Fingerprint:
    """Renames the temp into its place; returns the fingerprint it has there."""
    temporary = spot.places.temporary
    current = _look(spot)
    _check(spot, current, expected)
    reach(Point.SYNCED)
    if current is None:
        _move_new(temporary, temp, spot)
    elif _swap(temporary, temp, spot, current):
        reach(Point.SWAPPED)
        _dispose(spot, temp, current, lambda: _swap_back(spot, temp, made))
    reach(Point.PLACED)
    spot.sync(spot.folder)
    after = _look(spot)
    # The rename moved ctime. Anything else that differs is an edit since: then what is reported is never found again.
    return after if after is not None and _same(after, made) else made


def _move_new(temporary: int, temp: bytes, spot: _Spot) -> None:
    try:
        rename_new(temporary, temp, spot.folder, spot.name)
    except FileExistsError as error:
        raise LocalEdit(f"{spot.path[:200]!r} appeared while landing") from error
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        os.rename(temp, spot.name, src_dir_fd=temporary, dst_dir_fd=spot.folder)


def _swap(temporary: int, temp: bytes, spot: _Spot, current: Fingerprint) -> bool:
    """True when the old thing now bears the temp's name; False where the filesystem could only replace it."""
    if current.kind is Kind.FOLDER:
        _check_leftovers(spot, spot.folder, spot.name)
    try:
        exchange(temporary, temp, spot.folder, spot.name)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        if current.kind is Kind.FOLDER:
            os.rmdir(spot.name, dir_fd=spot.folder)
        os.rename(temp, spot.name, src_dir_fd=temporary, dst_dir_fd=spot.folder)
        return False
    return True


def _remove(places: Places, path: bytes, expected: Fingerprint | None, *, durable: bool) -> None:
    parent, _, name = path.rpartition(b"/")
    try:
        opened = open_beneath(places.root, parent or b".", O_FOLDER)
    except (FileNotFoundError, NotADirectoryError):
        return
    except Elsewhere:
        raise
    except NotBeneath:  # what lies behind a symlink is not in the tree
        return
    try:
        _remove_at(_Spot(places, opened, name, path, durable), expected)
    finally:
        os.close(opened)


def _remove_at(spot: _Spot, expected: Fingerprint | None) -> None:
    current = _look(spot)
    if current is None:
        return
    _check(spot, current, expected)
    if current.kind is Kind.FOLDER:
        _check_leftovers(spot, spot.folder, spot.name)
    temp, temporary = _new_name(), spot.places.temporary
    os.rename(spot.name, temp, src_dir_fd=spot.folder, dst_dir_fd=temporary)
    _dispose(spot, temp, current, lambda: rename_new(temporary, temp, spot.folder, spot.name))
    reach(Point.REMOVED)
    spot.sync(spot.folder)


def _dispose(spot: _Spot, temp: bytes, seen: Fingerprint, put_back: Callable[[], None]) -> None:
    """Ends what was swapped out to the temp's name, unless it is not what was seen: then it is put back."""
    temporary = spot.places.temporary
    displaced = fingerprint_of(os.stat(temp, dir_fd=temporary, follow_symlinks=False))
    if displaced is None or not _same(displaced, seen):
        _put_back(spot, temp, put_back)
        raise LocalEdit(f"{spot.path[:200]!r} changed while landing")
    if seen.kind is not Kind.FOLDER:
        os.unlink(temp, dir_fd=temporary)
        return
    try:
        os.rmdir(temp, dir_fd=temporary)
    except OSError:
        try:
            _check_leftovers(spot, temporary, temp)
        except NotEmpty:
            _put_back(spot, temp, put_back)
            raise
        keep(spot.places, temp, b"removed", spot.path)


def _swap_back(spot: _Spot, temp: bytes, made: Fingerprint) -> None:
    """The thing that was made bears the temp's name again, unless it was replaced meanwhile: the last edit stays."""
    temporary = spot.places.temporary
    exchange(temporary, temp, spot.folder, spot.name)
    taken_out = fingerprint_of(os.stat(temp, dir_fd=temporary, follow_symlinks=False))
    if taken_out is None or taken_out.ino != made.ino:
        exchange(temporary, temp, spot.folder, spot.name)
        keep(spot.places, temp, b"displaced", spot.path)


def _put_back(spot: _Spot, temp: bytes, put_back: Callable[[], None]) -> None:
    try:
        put_back()
    except OSError:  # its name was taken meanwhile: two local edits, keep both
        keep(spot.places, temp, b"displaced", spot.path)


def keep(places: Places, temp: bytes, label: bytes, path: bytes) -> bytes:
    """Moves a temp below the conflicts folder, as `label-…/path`; returns that name."""
    base = label + b"-" + _new_name()
    parent, _, name = path.rpartition(b"/")
    parent = base + b"/" + parent if parent else base
    make_folders(places.conflicts, parent)
    with folder_beneath(places.conflicts, parent) as folder:
        rename_new(places.temporary, temp, folder, name)
        os.fsync(folder)
    return parent + b"/" + name


# Looking


def _look(spot: _Spot) -> Fingerprint | None:
    try:
        status = os.stat(spot.name, dir_fd=spot.folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    fingerprint = fingerprint_of(status)
    if fingerprint is None:
        raise LandError(spot.path, "EEXIST", "a socket, device or pipe is in the way")
    return fingerprint


def _check(spot: _Spot, current: Fingerprint | None, expected: Fingerprint | None) -> None:
    is_folder = current is not None and current.kind is Kind.FOLDER
    if is_folder and (expected is None or expected.kind is Kind.FOLDER):
        return
    if current != expected:
        raise LocalEdit(f"{spot.path[:200]!r} is not what the ledger says")


def _check_leftovers(spot: _Spot, parent: int, name: bytes) -> None:
    """Raises NotEmpty when a folder holds anything that is replicated."""
    with folder_beneath(parent, name) as folder, os.scandir(folder) as found:
        for item in found:
            status = item.stat(follow_symlinks=False)
            if kind_of(status.st_mode) is not None and not spot.places.excluded(
                spot.path + b"/" + os.fsencode(item.name)
            ):
                raise NotEmpty(f"{spot.path[:200]!r} holds {item.name[:100]!r}: expected an empty folder")


def _same(one: Fingerprint, other: Fingerprint) -> bool:
    """But for ctime, which a rename moves."""
    return msgspec.structs.replace(one, ctime_ns=0) == msgspec.structs.replace(other, ctime_ns=0)


def _is_folder(folder: int, name: bytes) -> bool:
    status = lstat_beneath(folder, name)
    return status is not None and stat.S_ISDIR(status.st_mode)


def _fingerprint_of(status: os.stat_result) -> Fingerprint:
    fingerprint = fingerprint_of(status)
    assert fingerprint is not None, "we made it ourselves"
    return fingerprint


def _new_name() -> bytes:
    return secrets.token_hex(12).encode()
