"""A change on the disk becomes one durable entry, and a barrier has everything that changed before it."""

import asyncio
import os
import random
import shutil
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from anycastle.replicator import look, settle, sight
from anycastle.replicator.entry import Entry, Kind
from anycastle.replicator.observation import Change
from anycastle.replicator.watch_event import Overflow, Renamed
from tests.replicator.cluster import GROUP, Site, cluster, journaled, tmpfs
from tests.replicator.members import until


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with cluster(tmp_path, ("ams",), exclude=("cache/",)) as (made,):
        yield made


def journal(site: Site) -> list[Entry]:
    return list(site.ledger.entries(GROUP, site.name, 0, 100_000))


def told(site: Site, after: int = 0) -> list[tuple[str, Kind]]:
    return [(os.fsdecode(entry.path), entry.kind) for entry in journal(site)[after:]]


async def barrier(site: Site) -> int:
    async with asyncio.timeout(10):
        return await site.content.settle.barrier()


async def test_each_change_becomes_one_entry(site: Site) -> None:
    (site.root / "a").write_bytes(b"one")
    await barrier(site)
    (site.root / "a").write_bytes(b"two")
    os.utime(site.root / "a", (1, 1))
    await barrier(site)
    (site.root / "a").chmod(0o600)
    await barrier(site)
    (site.root / "a").unlink()
    head = await barrier(site)
    assert told(site) == [("a", Kind.FILE)] * 3 + [("a", Kind.ABSENT)]
    assert head == 4
    assert await barrier(site) == 4, "nothing changed since"


async def test_a_touch_that_changes_nothing_announces_nothing(site: Site) -> None:
    (site.root / "a").write_bytes(b"one")
    before = (site.root / "a").stat()
    head = await barrier(site)
    os.utime(site.root / "a", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert await barrier(site) == head


async def test_what_is_excluded_is_neither_journaled_nor_waited_for(site: Site) -> None:
    (site.root / "cache").mkdir()
    (site.root / "cache/x").write_bytes(b"x")
    assert await barrier(site) == 0
    verdict = await site.admit("cache/x")
    assert type(verdict).__name__ == "Serve", verdict


async def test_a_barrier_covers_every_write_before_it(site: Site) -> None:
    """A thread writes without rest; at each barrier everything it had finished by then is in the journal."""
    written: list[str] = []
    stop = False
    dice = random.Random(1)

    def write() -> None:
        for number in range(3000):
            if stop:
                return
            folder = site.root / f"f{dice.randrange(5)}"
            folder.mkdir(exist_ok=True)
            path = folder / f"{number}"
            match dice.randrange(4):
                case 0:
                    temp = site.root / "temp"
                    temp.write_bytes(b"%d" % number)
                    temp.rename(path)
                case 1:
                    path.symlink_to("nowhere")
                case 2:
                    path.mkdir()
                case _:
                    path.write_bytes(b"%d" % number)
            written.append(str(path.relative_to(site.root)))

    async with asyncio.TaskGroup() as tasks:
        writing = tasks.create_task(asyncio.to_thread(write))
        checked = 0
        while not writing.done() and checked < 1500:
            before = len(written)
            head = await barrier(site)
            known = {os.fsdecode(entry.path) for entry in site.ledger.entries(GROUP, "ams", 0, head)}
            assert set(written[:before]) <= known
            checked = before
        stop = True
    assert checked > 100


async def test_held_open_for_writing_does_not_hold_up_the_barrier(site: Site) -> None:
    with (site.root / "log").open("wb", buffering=0) as held:
        held.write(b"half")
        (site.root / "other").write_bytes(b"x")
        await barrier(site)
        assert ("other", Kind.FILE) in told(site)
        await until(lambda: b"log" in site.content.settle.still_written, "the open file is known to be written")
        held.write(b" and half")
    await barrier(site)
    assert [entry.size for entry in journal(site) if entry.path == b"log"][-1] == len(b"half and half")
    assert site.content.settle.still_written == ()


async def test_truncate_and_utime_are_covered_at_once(site: Site) -> None:
    (site.root / "a").write_bytes(b"12345678")
    (site.root / "b").write_bytes(b"x")
    head = await barrier(site)
    os.truncate(site.root / "a", 3)
    os.utime(site.root / "b", (1_000_000, 1_000_000))
    await barrier(site)
    assert {(entry.path, entry.size) for entry in journal(site)[head:]} == {(b"a", 3), (b"b", 1)}


async def test_a_writer_that_never_closes_is_looked_at_when_it_rests(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settle, "REST_SECONDS", 0.2)
    with (site.root / "log").open("wb", buffering=0) as held:
        held.write(b"line")
        await until(lambda: ("log", Kind.FILE) in told(site), "the open file is journaled")


async def test_a_file_that_changes_while_it_is_read_is_journaled_at_last(site: Site) -> None:
    path = site.root / "big"
    with path.open("wb") as file:
        file.truncate(200_000_000)
    for size in range(200_000_000, 200_000_005):
        os.truncate(path, size)
        await asyncio.sleep(0.01)
    await barrier(site)
    assert journal(site)[-1].size == 200_000_004


def grow(folder: Path) -> None:
    (folder / "in/ner").mkdir(parents=True)
    for name in ("a", "in/b", "in/ner/c"):
        (folder / name).write_bytes(name.encode())


ALL = {"", "/a", "/in", "/in/b", "/in/ner", "/in/ner/c"}


async def test_folder_renamed_with_its_content(site: Site) -> None:
    grow(site.root / "old")
    head = await barrier(site)
    (site.root / "old").rename(site.root / "new")
    await barrier(site)
    after = told(site, head)
    assert {path for path, kind in after if kind is not Kind.ABSENT} == {f"new{end}" for end in ALL}
    assert {path for path, kind in after if kind is Kind.ABSENT} == {f"old{end}" for end in ALL}
    assert len(after) == 2 * len(ALL)
    first_delete = next(at for at, (_, kind) in enumerate(after) if kind is Kind.ABSENT)
    assert first_delete == len(ALL), "elsewhere the content is copied before it goes"
    assert after[-1][0] == "old", "what is in it goes before a folder"


async def test_folder_moved_out_and_another_one_in(site: Site, tmp_path: Path) -> None:
    grow(tmp_path / "outside")
    (tmp_path / "outside").rename(site.root / "x")
    head = await barrier(site)
    assert {path for path, _ in told(site)} == {f"x{end}" for end in ALL}
    (tmp_path / "other").mkdir()
    (tmp_path / "other/z").write_bytes(b"z")
    # Before anybody looks, another folder stands at the name.
    (site.root / "x").rename(tmp_path / "away")
    (tmp_path / "other").rename(site.root / "x")
    await barrier(site)
    after = told(site, head)
    assert ("x/z", Kind.FILE) in after
    assert {path for path, kind in after if kind is Kind.ABSENT} == {f"x{end}" for end in ALL - {""}}
    (site.root / "x").rename(tmp_path / "again")
    await barrier(site)
    assert told(site)[-2:] == [("x/z", Kind.ABSENT), ("x", Kind.ABSENT)]


async def test_folder_deleted_with_its_content(site: Site) -> None:
    grow(site.root / "x")
    head = await barrier(site)
    shutil.rmtree(site.root / "x")
    await barrier(site)
    after = told(site, head)
    assert {path for path, _ in after} == {f"x{end}" for end in ALL}
    assert {kind for _, kind in after} == {Kind.ABSENT}


async def test_a_folder_made_again_with_its_inode_number_is_not_taken_for_full(site: Site) -> None:
    """Filesystems give numbers again at once; events of what was in the former folder name nothing any more."""
    grow(site.root / "x")
    await barrier(site)
    for inside in (site.root / "x").iterdir():
        shutil.rmtree(inside) if inside.is_dir() else inside.unlink()
    seen = site.content.settle.looks.observe([b"x"])
    assert set(seen.more[b"x"]) == {os.fsencode(f"x{end}") for end in ALL if end.count("/") == 1}


async def test_what_was_deleted_while_down_is_a_delete(site: Site) -> None:
    grow(site.root / "x")
    (site.root / "kept").write_bytes(b"kept")
    head = await barrier(site)
    await site.stop()
    shutil.rmtree(site.root / "x")
    (site.root / "kept").write_bytes(b"changed")
    (site.root / "new").write_bytes(b"new")
    await site.start()
    await site.ready()
    after = told(site, head)
    assert {path for path, kind in after if kind is Kind.ABSENT} == {f"x{end}" for end in ALL}
    assert sorted(path for path, kind in after if kind is Kind.FILE) == ["kept", "new"]
    assert after[-1][0] == "x" or after.index(("x", Kind.ABSENT)) > after.index(("x/a", Kind.ABSENT))


async def test_an_overflow_leads_to_a_scan(tmp_path: Path) -> None:
    """Changes that no event tells of are found, before any cookie that follows."""
    async with cluster(tmp_path, ("ams",)) as (site,):
        settling = site.content.settle
        await settling.sight._see(Overflow("a test"))
        hidden = site.root / ".anycastle/tmp/hidden"
        hidden.mkdir()
        (hidden / "a").write_bytes(b"a")
        await barrier(site)
        (hidden / "a").rename(site.root / "a")  # from where nothing is told
        await settling.sight._see(Overflow("a test"))
        await barrier(site)
        assert told(site) == [("a", Kind.FILE)]


async def test_a_modification_time_beyond_all_bounds_is_a_failure_of_that_path_only(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "small") as mounted:
        async with cluster(tmp_path, ("ams",), root=mounted / "root") as (site,):
            (site.root / "odd").write_bytes(b"x")
            os.utime(site.root / "odd", (2**40, 2**40))
            (site.root / "good").write_bytes(b"x")
            await barrier(site)
            assert site.ledger.newest(GROUP, b"good") is not None
            assert "modification time" in site.content.settle.looks.failed[b"odd"]
            (site.root / "odd").touch()
            await barrier(site)
            assert site.ledger.newest(GROUP, b"odd") is not None
            assert site.content.settle.looks.failed == {}


async def test_a_link_that_no_frame_takes_is_a_failure_of_that_path_only(site: Site) -> None:
    (site.root / "long").symlink_to("x/" * 2000)
    (site.root / "good").symlink_to("x/" * 1900)
    await barrier(site)
    assert told(site) == [("good", Kind.SYMLINK)]
    assert "link target of 4000 bytes" in site.content.settle.looks.failed[b"long"]
    (site.root / "long").unlink()
    await barrier(site)
    assert site.content.settle.looks.failed == {}


async def test_abandoned_barriers_leave_nothing_behind(site: Site) -> None:
    (site.root / "a").write_bytes(b"x" * 50_000_000)
    for _ in range(20):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await site.content.settle.barrier()
    await barrier(site)
    assert site.content.settle._cookies == {}
    assert site.content.settle._barriers == []


async def test_what_is_being_landed_is_looked_at_once_when_that_is_over(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands of files come along at the same time; each look in vain would be paid by all of them."""
    looks: list[bytes] = []
    observe = look.Look._observe

    def counted(self: look.Look, path: bytes, *rest: Any, **named: Any) -> None:
        looks.append(path)
        observe(self, path, *rest, **named)

    monkeypatch.setattr(look.Look, "_observe", counted)
    async with asyncio.TaskGroup() as tasks:
        with site.content.landing.holding(b"landed"):
            (site.root / "landed").write_bytes(b"x")
            for number in range(5):
                (site.root / f"other{number}").write_bytes(b"x")
                await journaled(site, f"other{number}")
            tasks.create_task(barrier(site))
            await until(lambda: site.content.settle.waiting_for().startswith("b'landed'"), "nothing else is left")
            assert b"landed" not in looks
    assert looks.count(b"landed") == 1
    assert told(site)[-1] == ("landed", Kind.FILE)


async def test_a_folder_that_is_renamed_at_the_last_moment_is_no_fault(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The watcher is told to end like all the others, and may have an event to hand over first."""
    await site.stop()
    run = sight.Sight.run

    async def to_the_last(self: sight.Sight) -> None:
        try:
            await run(self)
        finally:
            await site.content.settle._take(Renamed(b"before", b"after", True))

    monkeypatch.setattr(sight.Sight, "run", to_the_last)
    (site.root / "after").mkdir()
    await site.start()
    await journaled(site, "after")
    await site.stop()


async def test_half_a_file_is_not_announced_however_one_came_to_look(tmp_path: Path) -> None:
    async with cluster(tmp_path, ("ams",)) as (ams,):
        (ams.root / "a").write_bytes(b"whole")
        assert await ams.fence() is None
        with (ams.root / "a").open("wb") as writer:
            ams.content.settle.look((b"a",))  # such as for a reader who waits
            await asyncio.sleep(0.3)
            newest = ams.ledger.newest(GROUP, b"a")
            assert newest is not None
            assert newest.size == 5, "the file is empty just now, and nobody meant that"
            writer.write(b"whole again")
        assert await ams.fence() is None
        newest = ams.ledger.newest(GROUP, b"a")
        assert newest is not None
        assert newest.size == 11
        assert ams.ledger.head(GROUP) == 2


async def test_a_write_through_one_name_of_a_hard_link_changes_all_of_them(site: Site) -> None:
    (site.root / "d").mkdir()
    (site.root / "one").write_bytes(b"before")
    os.link(site.root / "one", site.root / "d/other")
    head = await barrier(site)
    with (site.root / "d/other").open("r+b") as file:
        file.write(b"after!")
    await barrier(site)
    await until(lambda: len(told(site, head)) == 2, "both names are told")
    assert {path for path, _ in told(site, head)} == {"one", "d/other"}
    assert len({entry.digest for entry in journal(site)[head:]}) == 1


async def test_the_names_of_a_hard_link_stay_known_as_they_are_when_one_goes(site: Site) -> None:
    """Making and removing a name moves ctime: the gate must not find the other names changed for ever."""
    (site.root / "one").write_bytes(b"x")
    await barrier(site)
    os.link(site.root / "one", site.root / "other")
    await barrier(site)

    def as_known() -> bool:
        local = site.ledger.local(GROUP, b"one")
        return local is not None and local.fingerprint == site.content.tree.fingerprint(b"one")

    await until(as_known, "its new ctime is known")
    (site.root / "other").unlink()
    head = await barrier(site)
    await until(as_known, "again")
    assert head == 3, "nothing was told of the name that stayed"


async def test_a_tree_that_comes_whole_is_told_folders_first_and_gone_folders_last(site: Site) -> None:
    outside = site.root.parent / "outside"
    (outside / "a/b/c").mkdir(parents=True)
    (outside / "a/b/c/file").write_bytes(b"x")
    outside.rename(site.root / "tree")
    head = await barrier(site)
    assert [path for path, _ in told(site)] == sorted(path for path, _ in told(site))
    assert head == 5
    (site.root / "tree").rename(outside)
    await barrier(site)
    assert [path for path, _ in told(site, head)] == sorted((path for path, _ in told(site)[:head]), reverse=True)


async def test_a_tree_that_comes_whole_is_scanned_once(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look at a file in it would scan it all again, were the folder not told by the scan before its content."""
    scanned: list[bytes] = []

    def counted(*given: object, below: bytes) -> Iterator[bytes]:
        scanned.append(below)
        return iter(())

    monkeypatch.setattr(look, "scan", counted)
    for number in range(2500):
        (tmp_path / f"outside/d{number % 3}").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"outside/d{number % 3}/{number}").write_bytes(b"x")
    assert await barrier(site) == 0, "what was told of the files outside is over"
    (tmp_path / "outside").rename(site.root / "inside")
    assert await barrier(site) == 2504
    assert scanned == []


async def test_a_folder_that_is_back_before_its_going_is_journaled_is_there(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scan that its coming back causes finds disk and ledger equal; only then does the ledger hear that it went."""
    (site.root / "d/e").mkdir(parents=True)
    (site.root / "d/e/file").write_bytes(b"x")
    await barrier(site)
    settling, real = site.content.settle, site.ledger.journal
    over = threading.Event()
    walk = settling.survey.walk

    def walked(below: bytes) -> Coroutine[None, None, None]:
        work = walk(below)

        async def noted() -> None:
            await work
            if below == b"d":
                over.set()

        return noted()

    def journal(group: str, changes: Sequence[Change], *more: frozenset[bytes]) -> tuple[Entry, ...]:
        if any(change.path == b"d" and change.kind is Kind.ABSENT for change in changes) and not over.is_set():
            (site.root / "away").rename(site.root / "d")
            assert over.wait(10)
        return real(group, changes, *more)

    monkeypatch.setattr(settling.survey, "walk", walked)
    monkeypatch.setattr(site.ledger, "journal", journal)
    (site.root / "d").rename(site.root / "away")
    await barrier(site)
    assert over.is_set()
    await barrier(site)
    assert [os.fsdecode(path) for path, _ in site.ledger.locals_below(GROUP, b"")] == ["d", "d/e", "d/e/file"]


async def test_a_folder_that_was_outside_for_a_moment_is_looked_through(site: Site) -> None:
    """What changed in it there was told by nothing, and it is the same folder as before."""
    (site.root / "d").mkdir()
    (site.root / "d/goes").write_bytes(b"x")
    (site.root / "d/stays").write_bytes(b"x")
    head = await barrier(site)
    outside = site.root.parent / "outside"
    (site.root / "d").rename(outside)
    (outside / "goes").unlink()
    (outside / "comes").write_bytes(b"new")
    outside.rename(site.root / "d")
    await barrier(site)
    assert set(told(site, head)) >= {("d/goes", Kind.ABSENT), ("d/comes", Kind.FILE)}
    assert {os.fsdecode(path) for path, _ in site.ledger.locals_below(GROUP, b"")} == {"d", "d/stays", "d/comes"}


async def test_what_is_still_written_is_named_with_its_age(site: Site) -> None:
    with (site.root / "slower").open("wb") as slower, (site.root / "slow").open("wb"):
        await until(lambda: len(site.content.settle.still_written) == 2, "both are known")
        assert site.content.settle.still_written[0] == b"slower"
        since = site.content.settle.written_since(b"slower")
        assert since is not None
        for _ in range(5):
            slower.write(b"more")
            slower.flush()
            await barrier(site)
        assert site.content.settle.written_since(b"slower") == since, "writing on makes it no younger"
    await barrier(site)
    assert site.content.settle.still_written == ()
