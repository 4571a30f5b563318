"""Paths that must not leave the root, on the real kernel, also while somebody swaps symlinks in."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from anycastle.replicator.beneath import (
    O_FOLDER,
    NotBeneath,
    exchange,
    folder_beneath,
    lstat_beneath,
    make_folders,
    open_beneath,
    rename_new,
)


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "secret").write_bytes(b"outside")
    (tmp_path / "root" / "d").mkdir(parents=True)
    (tmp_path / "root" / "d" / "f").write_bytes(b"inside")
    descriptor = os.open(tmp_path / "root", O_FOLDER)
    yield descriptor
    os.close(descriptor)


def read(root: int, path: bytes) -> bytes:
    with open(open_beneath(root, path, os.O_RDONLY), "rb") as file:
        return file.read()


def test_what_is_beneath_opens(root: int) -> None:
    assert read(root, b"d/f") == b"inside"


@pytest.mark.parametrize("path", [b"/etc/passwd", b"../secret", b"d/../../secret", b"d\0/f", b"link/f", b"away", b"up"])
def test_what_is_not_beneath_is_refused(root: int, tmp_path: Path, path: bytes) -> None:
    os.symlink("d", tmp_path / "root" / "link")  # even one that stays inside
    os.symlink(tmp_path / "secret", tmp_path / "root" / "away")
    os.symlink("../secret", tmp_path / "root" / "up")
    with pytest.raises(NotBeneath):
        open_beneath(root, path, os.O_RDONLY)


def test_magic_links_are_refused() -> None:
    descriptor = os.open("/proc/self", O_FOLDER)
    try:
        with pytest.raises(NotBeneath):
            open_beneath(descriptor, b"cwd/etc", os.O_RDONLY)
    finally:
        os.close(descriptor)


def test_system_errors_keep_their_number(root: int) -> None:
    with pytest.raises(FileNotFoundError):
        open_beneath(root, b"nothing", os.O_RDONLY)
    with pytest.raises(NotADirectoryError):
        open_beneath(root, b"d/f/x", os.O_RDONLY)


def test_lstat_sees_a_symlink_itself(root: int, tmp_path: Path) -> None:
    os.symlink("nowhere", tmp_path / "root" / "link")
    status = lstat_beneath(root, b"link")
    assert status is not None
    assert status.st_ino == os.lstat(tmp_path / "root" / "link").st_ino
    assert lstat_beneath(root, b"none") is None
    assert lstat_beneath(root, b"d/f/below-a-file") is None


def test_folders_are_made_for_the_process_alone(root: int, tmp_path: Path) -> None:
    mode = (tmp_path / "root/d").stat().st_mode
    make_folders(root, b"d/x/y")
    make_folders(root, b"d/x/y")
    assert (tmp_path / "root/d/x").stat().st_mode & 0o7777 == 0o700
    assert (tmp_path / "root/d/x/y").stat().st_mode & 0o7777 == 0o700
    assert (tmp_path / "root/d").stat().st_mode == mode, "what exists stays as it is"


def test_folders_are_not_made_behind_symlinks(root: int, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    os.symlink(tmp_path / "outside", tmp_path / "root" / "link")
    with pytest.raises(NotBeneath):
        make_folders(root, b"link/x")
    assert list((tmp_path / "outside").iterdir()) == []


def test_rename_new_replaces_nothing(root: int, tmp_path: Path) -> None:
    (tmp_path / "root" / "new").write_bytes(b"new")
    with folder_beneath(root, b"d") as folder, pytest.raises(FileExistsError):
        rename_new(root, b"new", folder, b"f")
    with folder_beneath(root, b"d") as folder:
        rename_new(root, b"new", folder, b"g")
        exchange(folder, b"g", folder, b"f")
    assert read(root, b"d/f") == b"new"
    assert read(root, b"d/g") == b"inside"


def test_a_racing_symlink_never_leads_outside(root: int, tmp_path: Path) -> None:
    """One thread swaps the folder `d` with a symlink to a folder outside that has the same names in it."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "f").write_bytes(b"outside")
    os.symlink(outside, tmp_path / "root" / "evil")
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            exchange(root, b"d", root, b"evil")

    racer = threading.Thread(target=swap)
    racer.start()
    inside = refused = 0
    try:
        for _ in range(200_000):
            try:
                assert read(root, b"d/f") == b"inside"
                inside += 1
            except NotBeneath:
                refused += 1
            if inside > 300 and refused > 300:
                break
    finally:
        stop.set()
        racer.join()
    assert inside > 0
    assert refused > 0
