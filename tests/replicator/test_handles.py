"""Handles to paths on the real kernel."""

import ctypes
import errno
import os
import shutil
import signal
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from anycastle.replicator import handles
from anycastle.replicator.handles import FOLDERS_MAX, Folders, place
from tests.replicator.watching import libc, needs_root

pytestmark = needs_root


def handle_of(path: Path) -> bytes:
    """As fanotify tells it: filesystem (not looked at), then name_to_handle_at."""
    buffer = ctypes.create_string_buffer(struct.pack("=Ii", 128, 0), 8 + 128)
    mount = ctypes.c_int()
    assert libc.name_to_handle_at(-100, os.fsencode(path), buffer, ctypes.byref(mount), 0) == 0
    (length,) = struct.unpack_from("=I", buffer.raw)
    return bytes(8) + buffer.raw[: 8 + length]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root/folder/deep").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    return tmp_path / "root"


@pytest.fixture
def root_fd(root: Path) -> Iterator[int]:
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def test_places(root: Path, root_fd: int) -> None:
    (root / "folder/file").touch()
    odd = root / "odd (deleted)"
    odd.mkdir()
    assert place(root_fd, handle_of(root)) == b""
    assert place(root_fd, handle_of(root / "folder/deep")) == b"folder/deep"
    assert place(root_fd, handle_of(root / "folder/file")) == b"folder/file"
    assert place(root_fd, handle_of(odd)) == b"odd (deleted)"
    assert place(root_fd, handle_of(root.parent)) is None
    assert place(root_fd, handle_of(root.parent / "outside")) is None


def test_a_name_that_only_begins_like_the_root_is_outside(root: Path, root_fd: int) -> None:
    beside = root.parent / "root2/folder"
    beside.mkdir(parents=True)
    assert place(root_fd, handle_of(beside)) is None


def test_a_deleted_folder_has_no_place_even_while_it_is_open(root: Path, root_fd: int) -> None:
    handle = handle_of(root / "folder/deep")
    held = os.open(root / "folder/deep", os.O_RDONLY)
    (root / "folder/deep").rmdir()
    assert place(root_fd, handle) is None
    (root / "folder/deep (deleted)").mkdir()  # how the kernel shows the other one
    assert place(root_fd, handle) is None
    os.close(held)


def test_it_follows_the_root(root: Path, root_fd: int) -> None:
    handle = handle_of(root / "folder")
    root.rename(root.parent / "moved")
    assert place(root_fd, handle) == b"folder"


def test_a_folder_keeps_its_remembered_place_until_told_to_forget(root: Path, root_fd: int) -> None:
    folders = Folders(root_fd)
    handle = handle_of(root / "folder")
    assert folders.path(handle) == b"folder"
    (root / "folder").rename(root / "renamed")
    assert folders.path(handle) == b"folder"
    folders.forget()
    assert folders.path(handle) == b"renamed"
    shutil.rmtree(root / "renamed")
    assert folders.path(handle) == b"renamed"


def test_memory_is_bounded(root: Path, root_fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert FOLDERS_MAX >= 100_000
    monkeypatch.setattr(handles, "FOLDERS_MAX", 2)
    folders = Folders(root_fd)
    found = {name: handle_of(root / name) for name in ("folder", "folder/deep", ".")}
    assert [folders.path(handle) for handle in found.values()] == [b"folder", b"folder/deep", b""]
    (root / "folder").rename(root / "renamed")
    assert folders.path(found["."]) == b""
    assert folders.path(found["folder"]) == b"renamed"  # the oldest was forgotten


def test_a_handle_that_cannot_be_is_an_error(root_fd: int) -> None:
    with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
        place(root_fd, bytes(8) + struct.pack("=Ii", 0, 1))


def test_old_handles_of_numbers_being_given_away_anew(root: Path, root_fd: int) -> None:
    """While the number of a gone inode is being given away, ext4 answers its old handle with ENOMEM: no error to us."""
    old = []
    for number in range(200):
        (root / str(number)).mkdir()
        old.append(handle_of(root / str(number)))
    for number in range(200):
        (root / str(number)).rmdir()
    churning = os.fork()
    if churning == 0:
        while True:
            for number in range(200):
                os.mkdir(root / str(number))
            for number in range(200):
                os.rmdir(root / str(number))
    try:
        for _ in range(300):
            assert {place(root_fd, handle) for handle in old} == {None}
    finally:
        os.kill(churning, signal.SIGKILL)
        os.waitpid(churning, 0)
