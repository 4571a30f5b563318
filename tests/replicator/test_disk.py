"""A tree on the real filesystem: opening it and looking at what is there."""

import os
import socket
import threading
from pathlib import Path

import pytest
from blake3 import blake3

from anycastle.replicator.beneath import NotBeneath, TreeError
from anycastle.replicator.disk import Skipped, StillChanging, Tree, Unreadable
from anycastle.replicator.entry import EntryError, Kind, Version
from anycastle.replicator.observation import Local
from tests.replicator.tree_values import as_local, delete_entry, folder_entry, kept, seen, temps


def test_opening_makes_private_folders_and_clears_leftovers(root: Path) -> None:
    Tree(root).close()
    temporary = root / ".anycastle" / "tmp"
    (temporary / "half").write_bytes(b"half")
    (temporary / "empty").mkdir()
    os.symlink("x", temporary / "link")
    (temporary / "full").mkdir()
    (temporary / "full" / "cache").write_bytes(b"not ours to destroy")
    tree = Tree(root)
    assert temps(root) == []
    assert list(kept(root).values()) == [b"not ours to destroy"]
    assert not tree.created
    tree.close()
    assert (root / ".anycastle").stat().st_mode & 0o777 == 0o700


def test_a_new_private_folder_is_told(tree: Tree) -> None:
    assert tree.created


def test_a_root_that_cannot_be_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    evil = tmp_path / "evil"
    evil.mkdir()
    (tmp_path / "elsewhere").mkdir()
    os.symlink(tmp_path / "elsewhere", evil / ".anycastle")
    for path in (tmp_path / "missing", tmp_path / "file", evil):
        with pytest.raises(TreeError) as error:
            Tree(path)
        assert "\n" not in str(error.value)
    assert list((tmp_path / "elsewhere").iterdir()) == []


# Looking


def test_observe_a_file(tree: Tree, root: Path) -> None:
    (root / "a").write_bytes(b"hello" * 500_000)
    os.chmod(root / "a", 0o2640)
    os.utime(root / "a", ns=(1, 1_600_000_000_123_456_789))
    os.setxattr(root / "a", "user.tag", b"\0v")
    change = seen(tree, b"a")
    assert change.kind is Kind.FILE
    assert change.digest == blake3(b"hello" * 500_000).digest()
    assert (change.size, change.mode, change.mtime_ns) == (2_500_000, 0o2640, 1_600_000_000_123_456_789)
    assert (change.uid, change.gid) == (os.geteuid(), os.getegid())
    assert change.xattrs == {"user.tag": b"\0v"}
    assert change.fingerprint == tree.fingerprint(b"a")


def test_observe_names_of_any_bytes(tree: Tree, root: Path) -> None:
    path = b"d \xff\n/" + b"n" * 255
    os.mkdir(os.fsencode(root) + b"/d \xff\n")
    with open(os.fsencode(root) + b"/" + path, "wb") as file:
        file.write(b"x")
    assert seen(tree, path).digest == blake3(b"x").digest()


def test_what_is_known_is_not_read(tree: Tree, root: Path) -> None:
    (root / "a").write_bytes(b"x")
    change = seen(tree, b"a")
    atime = (root / "a").stat().st_atime_ns
    assert tree.observe(b"a", as_local(change)) is None
    assert (root / "a").stat().st_atime_ns == atime


@pytest.mark.parametrize("edit", ["content", "same size and mtime", "mode", "rename over", "xattr"])
def test_every_edit_is_seen(tree: Tree, root: Path, edit: str) -> None:
    (root / "a").write_bytes(b"one")
    known = as_local(seen(tree, b"a"))
    before = (root / "a").stat()
    match edit:
        case "content":
            (root / "a").write_bytes(b"three")
        case "same size and mtime":
            (root / "a").write_bytes(b"two")
            os.utime(root / "a", ns=(before.st_atime_ns, before.st_mtime_ns))
        case "mode":
            os.chmod(root / "a", 0o600)
        case "rename over":
            (root / "b").write_bytes(b"two")
            os.utime(root / "b", ns=(before.st_atime_ns, before.st_mtime_ns))
            os.rename(root / "b", root / "a")
        case _:
            os.setxattr(root / "a", "user.new", b"1")
    assert tree.observe(b"a", known) is not None


def test_observe_folders_and_symlinks(tree: Tree, root: Path) -> None:
    (root / "d").mkdir(mode=0o750)
    os.setxattr(root / "d", "user.tag", b"1")
    os.symlink(b"\xff nowhere", os.fsencode(root) + b"/link")
    folder, link = seen(tree, b"d"), seen(tree, b"link")
    assert (folder.kind, folder.mode, folder.mtime_ns, folder.xattrs) == (Kind.FOLDER, 0o750, 0, {"user.tag": b"1"})
    assert (link.kind, link.target, link.digest) == (Kind.SYMLINK, b"\xff nowhere", b"")
    assert tree.is_folder(b"d")
    assert not tree.is_folder(b"link")


def test_a_folders_fingerprint_does_not_move_with_its_content(tree: Tree, root: Path) -> None:
    (root / "d").mkdir()
    before = tree.fingerprint(b"d")
    (root / "d" / "f").write_bytes(b"x")
    assert tree.fingerprint(b"d") == before
    os.chmod(root / "d", 0o711)
    assert tree.fingerprint(b"d") != before


def test_absence_is_news_only_for_what_was_here(tree: Tree, root: Path) -> None:
    assert tree.observe(b"a", None) is None
    assert tree.observe(b"a/b/c", None) is None
    (root / "a").write_bytes(b"x")
    known = as_local(seen(tree, b"a"))
    os.unlink(root / "a")
    gone = seen(tree, b"a", known)
    assert (gone.kind, gone.fingerprint) == (Kind.ABSENT, None)
    assert tree.observe(b"a", Local(Version(2, "ams"), Kind.ABSENT, b"", None)) is None


def test_pipes_and_sockets_are_skipped_and_counted(tree: Tree, root: Path) -> None:
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(root / "sock"))
    for path in (b"pipe", b"sock"):
        assert tree.fingerprint(path) is None
        with pytest.raises(Skipped):
            tree.observe(path, None)
    assert tree.skipped == 2
    was_file = Local(Version(1, "ams"), Kind.FILE, b"", None)
    assert seen(tree, b"pipe", was_file).kind is Kind.ABSENT


def test_what_is_behind_a_symlink_is_not_in_the_tree(tree: Tree, root: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "f").write_bytes(b"secret")
    os.symlink(tmp_path / "outside", root / "d")
    assert tree.fingerprint(b"d/f") is None
    assert tree.observe(b"d/f", None) is None
    with pytest.raises(NotBeneath):
        tree.open_body(b"d/f")


def test_excluded_paths_are_not_observed(tree: Tree, root: Path) -> None:
    (root / "a.tmp").write_bytes(b"x")
    assert tree.observe(b"a.tmp", None) is None


@pytest.mark.parametrize("path", [b"", b"/etc/passwd", b"../x", b"a/../../x", b"a\0b", b".anycastle/tmp/x", b"a//b"])
def test_hostile_paths_are_refused_everywhere(tree: Tree, path: bytes) -> None:
    for call in (
        lambda: tree.fingerprint(path),
        lambda: tree.observe(path, None),
        lambda: tree.open_body(path),
        lambda: tree.land(delete_entry(path), None, None),
        lambda: tree.land(folder_entry(path), None, None),
        lambda: tree.keep_conflict(path, Version(1, "ams"), None),
    ):
        with pytest.raises(EntryError):
            call()


def test_a_file_that_grows_while_it_is_read_is_still_changing(tree: Tree, root: Path) -> None:
    path = root / "log"
    path.write_bytes(b"x" * 50_000_000)
    stop = threading.Event()

    def grow() -> None:
        with open(path, "ab", buffering=0) as file:
            while not stop.is_set():
                file.write(b"y")

    writer = threading.Thread(target=grow)
    writer.start()
    try:
        with pytest.raises(StillChanging):
            tree.observe(b"log", None)
    finally:
        stop.set()
        writer.join()
    assert seen(tree, b"log").size == path.stat().st_size


def test_open_body_gives_files_only(tree: Tree, root: Path) -> None:
    (root / "d").mkdir()
    os.mkfifo(root / "pipe")
    (root / "f").write_bytes(b"body")
    with open(tree.open_body(b"f"), "rb") as file:
        assert file.read() == b"body"
    for path in (b"d", b"pipe", b"none"):
        with pytest.raises(Unreadable):
            tree.open_body(path)
