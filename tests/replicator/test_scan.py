"""Scans of a real tree against a real ledger."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anycastle.replicator.disk import Tree
from anycastle.replicator.ledger import Ledger
from anycastle.replicator.scan import count, scan
from tests.replicator.tree_values import GROUP, file_entry


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture
def tree(root: Path) -> Iterator[Tree]:
    opened = Tree(root, ("*.tmp", "cache/"))
    yield opened
    opened.close()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger.open(tmp_path / "ledger.db", member="ams", groups=(GROUP,))
    yield opened
    opened.close()


def settle(tree: Tree, ledger: Ledger, *, below: bytes = b"") -> list[bytes]:
    """What a scan finds, journaled."""
    paths = list(scan(tree, ledger, GROUP, below=below))
    changes = [tree.observe(path, ledger.local(GROUP, path)) for path in paths]
    ledger.journal(GROUP, [change for change in changes if change is not None])
    return paths


def write(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())


def test_the_first_scan_finds_everything_folders_first(tree: Tree, ledger: Ledger, root: Path) -> None:
    write(root, "a/b/c", "a-b", "a0", "a/x", "z.tmp", "cache/x")
    os.symlink("a", root / "link")
    os.mkfifo(root / "pipe")
    found = settle(tree, ledger)
    assert sorted(found) == [b"a", b"a-b", b"a/b", b"a/b/c", b"a/x", b"a0", b"link"]
    assert found.index(b"a") < found.index(b"a/b") < found.index(b"a/b/c")
    assert settle(tree, ledger) == []


def test_new_changed_and_gone_are_found(tree: Tree, ledger: Ledger, root: Path) -> None:
    write(root, "d/1", "d/2", "d/e/3", "k")
    settle(tree, ledger)
    write(root, "d/1", "n/new")
    os.chmod(root / "k", 0o600)
    os.unlink(root / "d/e/3")
    os.rmdir(root / "d/e")
    os.unlink(root / "d/2")
    assert settle(tree, ledger) == [b"d/1", b"k", b"n", b"n/new", b"d/e/3", b"d/e", b"d/2"]
    assert settle(tree, ledger) == []
    assert [path for path, _ in ledger.locals_below(GROUP, b"")] == [b"d", b"d/1", b"k", b"n", b"n/new"]


def test_a_renamed_folder_is_new_before_it_is_gone(tree: Tree, ledger: Ledger, root: Path) -> None:
    write(root, "old/1", "old/2")
    settle(tree, ledger)
    os.rename(root / "old", root / "znew")
    assert settle(tree, ledger) == [b"znew", b"znew/1", b"znew/2", b"old/2", b"old/1", b"old"]


def test_one_folder_only(tree: Tree, ledger: Ledger, root: Path) -> None:
    write(root, "a/1", "ab/1", "b/1")
    assert settle(tree, ledger, below=b"a/") == [b"a", b"a/1"]
    write(root, "a/2")
    os.unlink(root / "a/1")
    assert settle(tree, ledger, below=b"a") == [b"a/2", b"a/1"]
    os.unlink(root / "a/2")
    os.rmdir(root / "a")
    assert settle(tree, ledger, below=b"a") == [b"a/2", b"a"]
    assert settle(tree, ledger, below=b"a") == []
    assert list(scan(tree, ledger, GROUP, below=b"never/was")) == []


def test_what_became_excluded_is_not_gone(tree: Tree, ledger: Ledger, root: Path) -> None:
    open_tree = Tree(root)
    write(root, "cache/1", "a.tmp")
    settle(open_tree, ledger)
    open_tree.close()
    assert list(scan(tree, ledger, GROUP)) == []


def test_a_folder_that_became_a_file_or_a_symlink(tree: Tree, ledger: Ledger, root: Path) -> None:
    write(root, "d/1", "e/1")
    settle(tree, ledger)
    for name in ("d", "e"):
        os.unlink(root / name / "1")
        os.rmdir(root / name)
    write(root, "d")
    os.symlink("/etc", root / "e")
    assert settle(tree, ledger) == [b"d", b"e", b"e/1", b"d/1"]
    assert settle(tree, ledger) == []


def test_a_folder_that_cannot_be_read_is_no_delete(
    tree: Tree, ledger: Ledger, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may read everything, so listing one folder is made to fail as a broken disk would."""
    write(root, "bad/1", "good/1")
    settle(tree, ledger)
    bad, original = os.stat(root / "bad").st_ino, os.scandir

    def broken(path: int) -> object:
        if os.fstat(path).st_ino == bad:
            raise OSError(5, "Input/output error")
        return original(path)

    monkeypatch.setattr(os, "scandir", broken)
    assert list(scan(tree, ledger, GROUP)) == []


def test_what_landed_here_is_not_found(tree: Tree, ledger: Ledger) -> None:
    entry = file_entry(b"a", b"x")
    ledger.record(GROUP, [entry])
    assert list(scan(tree, ledger, GROUP)) == []
    staged = tree.stage(entry)
    staged.write(b"x")
    staged.finish()
    ledger.landed(GROUP, [(entry, tree.land(entry, staged, None))])
    assert list(scan(tree, ledger, GROUP)) == []


def test_what_a_scan_will_look_at_is_counted_by_names_alone(tree: Tree, ledger: Ledger, root: Path) -> None:
    write(root, "a/1", "a/b/2", "ab/1", "cache/1", "x.tmp")
    told: list[int] = []
    list(scan(tree, ledger, GROUP, progress=told.append))
    assert count(tree, lambda: True) == told[-1] == 6
    assert count(tree, lambda: False) == 0


def test_progress_is_told(tree: Tree, ledger: Ledger, root: Path) -> None:
    write(root, *(f"d{n % 7}/{n}" for n in range(10_500)))
    told: list[int] = []
    list(scan(tree, ledger, GROUP, progress=told.append))
    assert told[-1] == 10_507
    assert len(told) == 2
    assert 10_000 <= told[0] < 10_507


def test_a_scan_may_be_left(tree: Tree, ledger: Ledger, root: Path) -> None:
    write(root, "a", "b")
    walk = scan(tree, ledger, GROUP)
    assert next(walk) == b"a"
    walk.close()  # type: ignore[attr-defined]


_NAMES = st.lists(
    st.lists(st.sampled_from(["a", "a-", "a.", "a0", "b", "\udcff"]), min_size=1, max_size=4).map("/".join),
    max_size=12,
)


@settings(deadline=None, max_examples=60)
@given(_NAMES, _NAMES)
def test_a_scan_finds_exactly_the_difference(
    tmp_path_factory: pytest.TempPathFactory, before: list[str], after: list[str]
) -> None:
    base = tmp_path_factory.mktemp("scan")
    root = base / "root"
    root.mkdir()
    tree, ledger = Tree(root), Ledger.open(base / "ledger.db", member="ams", groups=(GROUP,))
    try:
        there = _make(root, before)
        assert set(settle(tree, ledger)) == there
        for path in sorted(there, reverse=True):
            whole = os.fsencode(root) + b"/" + path
            os.rmdir(whole) if os.path.isdir(whole) else os.unlink(whole)
        now = _make(root, after)
        found = list(scan(tree, ledger, GROUP))
        assert len(found) == len(set(found))
        assert set(found) >= (there ^ now)
        assert set(found) <= (there | now)
        new = [path for path in found if path in now]
        gone = found[len(new) :]
        assert all(path not in now for path in gone)
        assert new == sorted(new)
        assert gone == sorted(gone, reverse=True)
        settle(tree, ledger)
        assert {path for path, _ in ledger.locals_below(GROUP, b"")} == now
    finally:
        tree.close()
        ledger.close()


def _make(root: Path, names: list[str]) -> set[bytes]:
    for name in names:
        try:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            if not (root / name).exists():
                (root / name).write_bytes(name.encode("utf-8", "surrogateescape"))
        except (FileExistsError, NotADirectoryError):
            continue
    return {os.fsencode(path.relative_to(root)) for path in root.rglob("*") if ".anycastle" not in path.parts}
