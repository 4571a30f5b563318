"""Landing on the real filesystem, and what must never happen."""

import asyncio
import contextlib
import os
import stat
import threading
import time
from pathlib import Path

import msgspec
import pytest
from asyncinotify import Inotify, Mask

from anycastle.replicator.beneath import NotBeneath, TreeError, exchange
from anycastle.replicator.disk import Tree
from anycastle.replicator.entry import Entry, Kind
from anycastle.replicator.land import LocalEdit, NotEmpty
from anycastle.replicator.observation import Local
from anycastle.replicator.stage import LandError
from tests.replicator.tree_values import delete_entry, file_entry, folder_entry, kept, put, seen, symlink_entry, temps

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root changes owners")


def test_a_file_lands_whole_with_its_attributes(tree: Tree, root: Path) -> None:
    entry = file_entry(b"d/e/a", b"content", mode=0o4640, xattrs={"user.tag": b"1", "security.evil": b"x"})
    landed = put(tree, entry, b"content")
    status = (root / "d/e/a").stat()
    assert (root / "d/e/a").read_bytes() == b"content"
    assert (stat.S_IMODE(status.st_mode), status.st_mtime_ns) == (0o4640, entry.mtime_ns)
    assert os.listxattr(root / "d/e/a") == ["user.tag"]
    assert stat.S_IMODE((root / "d").stat().st_mode) == 0o755
    assert landed == tree.fingerprint(b"d/e/a")
    assert temps(root) == []


@needs_root
def test_owners_land_and_do_not_clear_the_mode(tree: Tree, root: Path) -> None:
    put(tree, msgspec.structs.replace(file_entry(b"a", mode=0o6755), uid=1234, gid=2345))
    put(tree, msgspec.structs.replace(folder_entry(b"d", mode=0o2775), uid=1234, gid=2345))
    put(tree, msgspec.structs.replace(symlink_entry(b"l", b"/etc/passwd"), uid=1234, gid=2345))
    for name, mode in (("a", 0o6755), ("d", 0o2775), ("l", 0o777)):
        status = os.lstat(root / name)
        assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (1234, 2345, mode)
    assert os.stat("/etc/passwd").st_uid == 0


def test_our_own_landing_is_no_change(tree: Tree, root: Path) -> None:
    for entry in (file_entry(b"a"), folder_entry(b"d"), symlink_entry(b"l", b"a")):
        landed = put(tree, entry)
        known = Local(entry.version, entry.kind, entry.digest, landed)
        assert landed == tree.fingerprint(entry.path)
        if entry.kind is not Kind.FOLDER:
            assert tree.observe(entry.path, known) is None


def test_what_is_observed_at_one_site_and_landed_at_another_is_observed_alike(tree: Tree, root: Path) -> None:
    (root / "a").write_bytes(b"x")
    os.utime(root / "a", ns=(1, 1_500_000_000_000_000_001))
    os.setxattr(root / "a", "user.tag", b"1")
    change = seen(tree, b"a")
    entry = msgspec.structs.replace(
        file_entry(b"b", b"x", mode=change.mode, mtime_ns=change.mtime_ns, xattrs=change.xattrs),
        uid=change.uid,
        gid=change.gid,
    )
    put(tree, entry)
    again = seen(tree, b"b")
    assert msgspec.structs.replace(again, path=b"a", fingerprint=None) == msgspec.structs.replace(
        change, fingerprint=None
    )


def test_a_file_is_replaced_in_one_step(tree: Tree, root: Path) -> None:
    """A reader that opens the path again and again sees one content or the other, never nothing and never half."""
    contents = [bytes([65 + n]) * 300_000 for n in range(2)]
    now = put(tree, file_entry(b"a", contents[0]), contents[0])
    stop, problems = threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            try:
                found = (root / "a").read_bytes()
            except OSError as error:
                problems.append(error)
                return
            if found not in contents:
                problems.append(ValueError(f"{len(found)} bytes"))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for n in range(60):
            content = contents[n % 2]
            now = put(tree, file_entry(b"a", content), content, now)
    finally:
        stop.set()
        reader.join()
    assert problems == []
    assert temps(root) == []


def test_an_unannounced_edit_is_not_replaced(tree: Tree, root: Path) -> None:
    landed = put(tree, file_entry(b"a"))
    (root / "a").write_bytes(b"edited")
    for entry in (file_entry(b"a", b"new"), delete_entry(b"a"), symlink_entry(b"a", b"x"), folder_entry(b"a")):
        with pytest.raises(LocalEdit):
            put(tree, entry, b"new", landed)
        assert (root / "a").read_bytes() == b"edited"
    with pytest.raises(LocalEdit):
        put(tree, file_entry(b"a", b"new"), b"new", None)
    os.unlink(root / "a")
    with pytest.raises(LocalEdit):
        put(tree, file_entry(b"a", b"new"), b"new", landed)
    assert temps(root) == []


@pytest.mark.parametrize("kind", ["replace", "delete"])
def test_an_edit_between_look_and_swap_is_put_back(
    tree: Tree, root: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """The edit comes after the last look, when only the swapped-out file can tell."""
    landed = put(tree, file_entry(b"a", b"old"), b"old")
    edited = False

    def edit_first(*arguments: object, **names: object) -> object:
        nonlocal edited
        if not edited:
            edited = True
            (root / "a").write_bytes(b"edited")
        return original(*arguments, **names)  # type: ignore[operator]

    name = "anycastle.replicator.land.exchange" if kind == "replace" else "os.rename"
    original: object = exchange if kind == "replace" else os.rename
    monkeypatch.setattr(name, edit_first)
    entry = file_entry(b"a", b"new") if kind == "replace" else delete_entry(b"a")
    with pytest.raises(LocalEdit):
        put(tree, entry, b"new", landed)
    assert edited
    assert (root / "a").read_bytes() == b"edited"
    assert temps(root) == []


def test_of_two_edits_around_a_swap_the_last_stays_and_the_other_is_kept(
    tree: Tree, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One before the temp is swapped in, and one before that is taken back."""
    landed = put(tree, file_entry(b"a", b"old"), b"old")
    edits = [b"first", b"second"]

    def edit_first(*arguments: int | bytes) -> None:
        if edits:
            (root / "new").write_bytes(edits.pop(0))
            os.replace(root / "new", root / "a")
        exchange(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("anycastle.replicator.land.exchange", edit_first)
    with pytest.raises(LocalEdit):
        put(tree, file_entry(b"a", b"new"), b"new", landed)
    assert (root / "a").read_bytes() == b"second"
    assert temps(root) == []
    (kept,) = (root / ".anycastle/conflicts").glob("displaced-*/a")
    assert kept.read_bytes() == b"first"


def test_a_writer_that_races_with_landings_never_loses_an_edit(tree: Tree, root: Path) -> None:
    """Whatever edit a landing replaces was the one that it had been told to expect."""
    put(tree, file_entry(b"a", b"0"), b"0")
    stop = threading.Event()
    told: set[int] = set()
    attempts, lost, replaced = [0], [], [0]

    def is_still_there(inode: int) -> bool:
        return os.stat(root / "a").st_ino == inode

    def edit() -> None:
        with contextlib.ExitStack() as held:  # open files keep their inode numbers from being given again
            for n in range(100):
                file = held.enter_context(open(root / "new", "wb"))
                os.rename(root / "new", root / "a")
                inode, begun = os.fstat(file.fileno()).st_ino, attempts[0]
                while not stop.is_set() and attempts[0] < begun + n % 4:
                    time.sleep(0)
                settled = attempts[0] + 2
                while not is_still_there(inode) and attempts[0] < settled and not stop.is_set():
                    time.sleep(0)  # it may only be out for a moment, to be put back
                if not is_still_there(inode):
                    replaced[0] += 1
                    if inode not in told:
                        lost.append(n)

    writer = threading.Thread(target=edit)
    writer.start()
    refused = 0
    try:
        while writer.is_alive():
            expected = tree.fingerprint(b"a")
            assert expected is not None
            told.add(expected.ino)
            try:
                put(tree, file_entry(b"a", b"remote"), b"remote", expected)
            except LocalEdit:
                told.discard(expected.ino)
                refused += 1
            attempts[0] += 1
    finally:
        stop.set()
        writer.join()
    assert lost == []
    assert replaced[0] > 0
    assert refused > 0
    assert temps(root) == []


def test_deletes(tree: Tree, root: Path) -> None:
    landed = put(tree, file_entry(b"d/a"))
    link = put(tree, symlink_entry(b"d/l", b"a"))
    folder = tree.fingerprint(b"d")
    with pytest.raises(NotEmpty):
        put(tree, delete_entry(b"d"), expected=folder)
    assert (root / "d/a").exists()
    assert put(tree, delete_entry(b"d/a"), expected=landed) is None
    assert put(tree, delete_entry(b"d/l"), expected=link) is None
    assert put(tree, delete_entry(b"d"), expected=folder) is None
    assert not (root / "d").exists()
    assert put(tree, delete_entry(b"d/a"), expected=landed) is None  # gone already, with its folder
    assert temps(root) == []


def test_what_was_excluded_goes_to_the_conflicts_with_its_folder(tree: Tree, root: Path) -> None:
    put(tree, folder_entry(b"d"))
    (root / "d" / "cache").mkdir()
    (root / "d" / "cache" / "thumb").write_bytes(b"thumb")
    os.mkfifo(root / "d" / "pipe")
    assert put(tree, delete_entry(b"d"), expected=tree.fingerprint(b"d")) is None
    assert not (root / "d").exists()
    ((where, content),) = kept(root).items()
    assert where.startswith("removed-")
    assert where.endswith("/d/cache/thumb")
    assert content == b"thumb"


def test_file_and_folder_take_each_others_place(tree: Tree, root: Path) -> None:
    as_file = put(tree, file_entry(b"x"))
    as_folder = put(tree, folder_entry(b"x", mode=0o711), expected=as_file)
    assert stat.S_IMODE((root / "x").stat().st_mode) == 0o711
    (root / "x" / "f").write_bytes(b"f")
    with pytest.raises(NotEmpty):
        put(tree, file_entry(b"x"), expected=as_folder)
    assert (root / "x" / "f").read_bytes() == b"f"
    os.unlink(root / "x" / "f")
    put(tree, file_entry(b"x"), expected=as_folder)
    assert (root / "x").read_bytes() == b"x"
    assert temps(root) == []


def test_symlinks_land_as_they_are_and_are_replaced_not_followed(tree: Tree, root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"outside")
    link = put(tree, symlink_entry(b"l", os.fsencode(outside)))
    assert os.readlink(root / "l") == str(outside)
    put(tree, file_entry(b"l", b"new"), b"new", link)
    assert not (root / "l").is_symlink()
    assert outside.read_bytes() == b"outside"


def test_a_folder_that_was_made_for_its_content_gets_its_attributes_later(tree: Tree, root: Path) -> None:
    put(tree, file_entry(b"d/a"))
    os.setxattr(root / "d", "user.old", b"1")
    landed = put(tree, folder_entry(b"d", mode=0o2770), expected=None)
    assert landed == tree.fingerprint(b"d")
    assert stat.S_IMODE((root / "d").stat().st_mode) == 0o2770
    assert os.listxattr(root / "d") == []
    assert (root / "d/a").exists()


async def test_a_folder_made_for_its_content_is_never_seen_with_other_attributes(tree: Tree, root: Path) -> None:
    """A watcher that looked in between would announce them, and everybody would get them."""
    was = {b"d": folder_entry(b"d", mode=0o2750), b"d/e": folder_entry(b"d/e", mode=0o2700)}
    tree.know_folders(was.get)
    with Inotify() as inotify:
        inotify.add_watch(root, Mask.CREATE | Mask.ATTRIB | Mask.MOVED_TO)
        before = os.umask(0o077)
        try:
            put(tree, file_entry(b"d/e/a"))
            put(tree, file_entry(b"plain/a"))
        finally:
            os.umask(before)
        seen = [await asyncio.wait_for(inotify.get(), 5) for _ in range(2)]
    assert [(event.name, event.mask & ~Mask.ISDIR) for event in seen] == [
        (Path("d"), Mask.MOVED_TO),
        (Path("plain"), Mask.MOVED_TO),
    ]
    modes = {name: stat.S_IMODE((root / name).stat().st_mode) for name in ("d", "d/e", "plain")}
    assert modes == {"d": 0o2750, "d/e": 0o2700, "plain": 0o755}


def test_a_folder_that_somebody_else_makes_at_the_same_time_stays(tree: Tree, root: Path) -> None:
    def theirs_first(path: bytes) -> None:
        (root / "d").mkdir(mode=0o711)

    tree.know_folders(theirs_first)
    put(tree, file_entry(b"d/a"))
    assert stat.S_IMODE((root / "d").stat().st_mode) == 0o711
    assert (root / "d/a").exists()
    assert temps(root) == []


def test_nothing_lands_behind_a_symlink(tree: Tree, root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").write_bytes(b"v")
    os.symlink(outside, root / "d")
    for entry in (file_entry(b"d/new"), folder_entry(b"d/sub/deep"), symlink_entry(b"d/l", b"x")):
        with pytest.raises(NotBeneath):
            put(tree, entry)
    for expected in (None, put(tree, file_entry(b"known"))):
        assert put(tree, delete_entry(b"d/victim"), expected=expected) is None, "it is not in the tree"
    assert os.listdir(outside) == ["victim"]
    assert temps(root) == []


def test_a_racing_symlink_never_leads_a_landing_outside(tree: Tree, root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (root / "d").mkdir()
    os.symlink(outside, root / "evil")
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            exchange(tree.descriptor, b"d", tree.descriptor, b"evil")

    racer = threading.Thread(target=swap)
    racer.start()
    landed = refused = 0
    try:
        for n in range(20_000):
            try:
                put(tree, file_entry(b"d/%d/f" % n))
                landed += 1
            except (TreeError, OSError):
                refused += 1
            if landed > 50 and refused > 50:
                break
    finally:
        stop.set()
        racer.join()
    assert landed > 0
    assert refused > 0
    assert list(outside.iterdir()) == []


def test_a_socket_in_the_way_stays(tree: Tree, root: Path) -> None:
    os.mkfifo(root / "pipe")
    with pytest.raises(LandError, match="in the way"):
        put(tree, file_entry(b"pipe"))
    assert stat.S_ISFIFO(os.lstat(root / "pipe").st_mode)


@pytest.mark.parametrize(
    "entry",
    [
        msgspec.structs.replace(symlink_entry(b"l", b"x"), target=b"a\0b"),
        msgspec.structs.replace(symlink_entry(b"l", b"x"), target=b""),
        msgspec.structs.replace(symlink_entry(b"l", b"x"), target=b"x" * 5000),
        msgspec.structs.replace(symlink_entry(b"l", b"x"), mtime_ns=2**200),
        msgspec.structs.replace(folder_entry(b"l"), uid=2**70),
        msgspec.structs.replace(folder_entry(b"l"), xattrs={"user.\0": b""}),
    ],
    ids=["NUL", "no target", "long target", "mtime", "uid", "xattr"],
)
def test_values_that_no_system_takes_do_not_land(tree: Tree, root: Path, entry: Entry) -> None:
    with pytest.raises(LandError):
        put(tree, entry)
    assert not os.path.lexists(root / "l")
    assert temps(root) == []


def test_staged_content_survives_a_failed_landing(tree: Tree, root: Path) -> None:
    (root / "a").write_bytes(b"local")
    entry = file_entry(b"a", b"new")
    staged = tree.stage(entry)
    staged.write(b"new")
    staged.finish()
    with pytest.raises(LocalEdit):
        tree.land(entry, staged, None)
    tree.land(entry, staged, tree.fingerprint(b"a"))
    assert (root / "a").read_bytes() == b"new"
