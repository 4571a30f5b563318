"""What was announced elsewhere gets into place here: whole, checked, and never over what nobody announced."""

import asyncio
import contextlib
import math
import os
import shutil
import threading
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from anycastle.replicator import land, landing_queue
from anycastle.replicator.entry import Entry
from anycastle.replicator.fault_point import Point
from anycastle.replicator.look import Seen
from anycastle.replicator.observation import Conflict, Fingerprint
from anycastle.replicator.schema import LedgerError
from tests.replicator.cluster import GROUP, Site, alike, cluster, conflicts_kept, temps, tmpfs
from tests.replicator.members import until
from tests.replicator.watching import exchange

BIG = bytes(range(256)) * 4096 * 3
"""3 MiB: pulled."""


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[tuple[Site, ...]]:
    async with cluster(tmp_path, ("ams", "nyc")) as sites:
        yield sites


async def test_everything_of_a_tree_is_equal_at_the_other_site(pair: tuple[Site, ...]) -> None:
    one, other = pair
    (one.root / "d/e").mkdir(parents=True)
    (one.root / "d").chmod(0o751)
    (one.root / "small").write_bytes(b"small")
    (one.root / "empty").write_bytes(b"")
    (one.root / "d/big").write_bytes(BIG)
    (one.root / "d/e/copy").write_bytes(BIG)
    (one.root / "d/link").symlink_to("../small")
    (one.root / "dangling").symlink_to("/nowhere/at/all")
    (one.root / "small").chmod(0o4640)
    os.chown(one.root / "small", 33, 44)
    os.utime(one.root / "small", ns=(1, 1_234_567_890_123_456_789))
    os.setxattr(one.root / "small", "user.note", b"\x00\xff")
    os.mkfifo(one.root / "pipe")
    (one.root / os.fsdecode(b"odd \xff\n name")).write_bytes(b"odd")
    assert await one.fence() is None
    (one.root / "pipe").unlink()
    tree = await alike(one, other)
    assert len(tree) == 9
    assert os.getxattr(other.root / "small", "user.note") == b"\x00\xff"
    assert other.content.landing.pulls.fetched_bytes in (len(BIG), 2 * len(BIG))
    assert temps(other.root) == []
    assert other.content.landing.failed == {}


async def test_own_landings_announce_nothing(pair: tuple[Site, ...]) -> None:
    one, other = pair
    for number in range(50):
        (one.root / f"{number}").write_bytes(b"%d" % number)
    assert await one.fence() is None
    await alike(one, other)
    assert await other.fence() is None
    assert other.ledger.head(GROUP) == 0


async def test_content_that_is_here_already_is_not_pulled_again(pair: tuple[Site, ...]) -> None:
    one, other = pair
    (one.root / "d").mkdir()
    (one.root / "d/big").write_bytes(BIG)
    assert await one.fence() is None
    await alike(one, other)
    (one.root / "d").rename(one.root / "e")
    assert await one.fence() is None
    await alike(one, other)
    shutil.copyfile(one.root / "e/big", one.root / "copy")
    assert await one.fence() is None
    await alike(one, other)
    assert other.content.landing.pulls.fetched_bytes == len(BIG)


async def test_what_nobody_had_is_tried_again_when_a_link_comes_up(
    pair: tuple[Site, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Members that come and go would else be asked at the wrong moments, ever less often."""
    one, other = pair
    waiting = other.content.landing._far
    with monkeypatch.context() as alone:
        alone.setattr(other.replica, "holders", lambda entry: ())
        (one.root / "big").write_bytes(BIG)
        await until(lambda: b"big" in waiting.later, "nobody has it")
    waiting.later[b"big"] = (math.inf, waiting.later[b"big"][1])
    await one.stop()
    await one.start()
    await alike(one, other)


async def test_folders_go_with_their_content(pair: tuple[Site, ...]) -> None:
    one, other = pair
    (one.root / "d/e/f").mkdir(parents=True)
    for number in range(30):
        (one.root / "d/e/f" / str(number)).write_bytes(b"x%d" % number)
    assert await one.fence() is None
    await alike(one, other)
    shutil.rmtree(one.root / "d")
    assert await one.fence() is None
    assert await alike(one, other) == {}


async def test_file_replaced_by_folder_and_back(pair: tuple[Site, ...]) -> None:
    one, other = pair
    thing = one.root / "thing"
    thing.write_bytes(b"file")
    assert await one.fence() is None
    await alike(one, other)
    thing.unlink()
    (thing / "in").mkdir(parents=True)
    (thing / "in/side").write_bytes(b"side")
    assert await one.fence() is None
    await alike(one, other)
    shutil.rmtree(thing)
    thing.write_bytes(b"file again")
    assert await one.fence() is None
    assert (await alike(one, other))["thing"][-1] == b"file again"
    thing.unlink()
    thing.symlink_to("elsewhere")
    assert await one.fence() is None
    assert (await alike(one, other))["thing"][-1] == "elsewhere"


async def test_local_edit_that_nobody_announced_is_a_conflict_not_a_casualty(pair: tuple[Site, ...]) -> None:
    one, other = pair
    (one.root / "page").write_bytes(b"first")
    assert await one.fence() is None
    await alike(one, other)
    # Both edit in the same moment: neither has heard of the other's edit.
    (one.root / "page").write_bytes(b"from ams")
    (other.root / "page").write_bytes(b"from nyc, longer")
    await asyncio.gather(one.fence(), other.fence())
    tree = await alike(one, other)
    won = tree["page"][-1]
    lost = ({b"from ams", b"from nyc, longer"} - {won}).pop()
    kept = conflicts_kept(one.root) + conflicts_kept(other.root)
    assert kept == [lost]
    conflicts: tuple[Conflict, ...] = (*one.ledger.conflicts(), *other.ledger.conflicts())
    assert len(conflicts) == 1
    assert conflicts[0].path == b"page"


async def conflicting(one: Site, other: Site, path: str) -> set[bytes]:
    """Both edit in the same moment: neither has heard of the other's edit. Returns both contents."""
    edits = {site.root / path: f"from {site.name}".encode() for site in (one, other)}
    for file, content in edits.items():
        file.write_bytes(content)
    await asyncio.gather(one.fence(), other.fence())
    return set(edits.values())


async def test_the_loser_is_kept_though_another_folder_stood_in_its_place_for_a_moment(
    pair: tuple[Site, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = pair
    for folder in ("d", "e"):
        (one.root / folder).mkdir()
        (one.root / folder / "page").write_bytes(folder.encode())
    assert await one.fence() is None
    await alike(one, other)
    met = []
    for site in pair:
        keep = site.content.tree.keep_conflict

        def swapped(path: bytes, *more: Any, root: Path = site.root, keep: Any = keep) -> bytes:
            if not met:
                met.append(path)
                exchange(root / "d", root / "e")
                try:
                    return keep(path, *more)
                finally:
                    exchange(root / "d", root / "e")
            return keep(path, *more)

        monkeypatch.setattr(site.content.tree, "keep_conflict", swapped)
    both = await conflicting(one, other, "d/page")
    tree = await alike(one, other)
    assert met == [b"d/page"]
    assert conflicts_kept(one.root) + conflicts_kept(other.root) == list(both - {tree["d/page"][-1]})
    assert tree["e/page"][-1] == b"e"


async def test_what_was_written_over_the_loser_is_announced_and_never_kept_in_its_stead(
    pair: tuple[Site, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = pair
    (one.root / "page").write_bytes(b"first")
    assert await one.fence() is None
    await alike(one, other)
    met = []
    for site in pair:
        keep = site.content.tree.keep_conflict

        def overwritten(path: bytes, *more: Any, file: Path = site.root / "page", keep: Any = keep) -> bytes:
            if not met:
                met.append(path)
                file.write_bytes(b"third")
            return keep(path, *more)

        monkeypatch.setattr(site.content.tree, "keep_conflict", overwritten)
    both = await conflicting(one, other, "page")
    tree = await alike(one, other)
    assert met == [b"page"]
    assert tree["page"][-1] == b"third"
    assert set(conflicts_kept(one.root) + conflicts_kept(other.root)) < both, "the other's edit, and it alone"


async def test_what_landed_in_a_folder_that_was_just_exchanged_is_noticed(
    pair: tuple[Site, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that the kernel tells of that landing bears the folder's new name, and the ledger knows of it too late."""
    one, other = pair
    (one.root / "d").mkdir()
    (one.root / "other").mkdir()
    assert await one.fence() is None
    await alike(one, other)
    settling, walk, real = other.content.settle, other.content.settle.survey.walk, other.ledger.landed
    exchanged, scanned, looked = threading.Event(), threading.Event(), threading.Event()

    def reached(point: Point) -> None:
        if point is Point.SYNCED and not exchanged.is_set():
            exchanged.set()
            exchange(other.root / "d", other.root / "other")

    def walked(below: bytes) -> Coroutine[None, None, None]:
        work = walk(below)

        async def noted() -> None:
            await work
            if below == b"d":
                scanned.set()

        return noted()

    def landed(group: str, items: Sequence[tuple[Entry, Fingerprint | None]]) -> None:
        if not looked.is_set():
            raise LedgerError("full")
        real(group, items)

    monkeypatch.setattr(land, "reach", reached)
    monkeypatch.setattr(other.ledger, "landed", landed)
    monkeypatch.setattr(settling.survey, "walk", walked)
    (one.root / "d/file").write_bytes(b"x")
    await until(scanned.is_set, "scanned")
    await until(lambda: not settling.survey.underway and not settling.unsettled(b""), "looked at all")
    looked.set()
    await until(lambda: not (one.root / "d/file").exists(), "gone at the first site too")
    assert (await alike(one, other))["other/file"][-1] == b"x"


@pytest.mark.parametrize("thing", ["file", "symlink"])
async def test_what_stands_in_the_place_of_a_folder_unnoticed_is_looked_at(
    pair: tuple[Site, ...], monkeypatch: pytest.MonkeyPatch, thing: str
) -> None:
    one, other = pair
    (one.root / "b").mkdir()
    assert await one.fence() is None
    await alike(one, other)
    looks, observe = other.content.settle.looks, other.content.settle.looks.observe
    missed = threading.Event()

    def blind(paths: Sequence[bytes]) -> Seen:
        if b"b" in paths:
            missed.set()
        return observe([path for path in paths if path != b"b"])

    with monkeypatch.context() as patch:
        patch.setattr(looks, "observe", blind)
        (other.root / "b").rmdir()
        if thing == "file":
            (other.root / "b").write_bytes(b"x")
        else:
            (other.root / "b").symlink_to("elsewhere")
        await other.content.settle.barrier()
    assert missed.is_set()
    (one.root / "b/d3").mkdir()
    await until(lambda: other.has_landed("b/d3") and (other.root / "b/d3").is_dir(), "landed")
    assert sorted(await alike(one, other)) == ["b", "b/d3"]


async def test_two_sites_cut_off_from_each_other_keep_both_versions(tmp_path: Path) -> None:
    async with cluster(tmp_path, ("ams", "nyc", "sgp")) as (one, other, third):
        (one.root / "page").write_bytes(b"first")
        assert await one.fence() is None
        await alike(one, other, third)
        await other.stop()
        await third.stop()
        (one.root / "page").write_bytes(b"made at ams meanwhile")
        (one.root / "only-ams").write_bytes(b"a")
        await until(lambda: one.ledger.newest(GROUP, b"only-ams"), "journaled alone")
        await one.stop()
        await other.start()
        await third.start()
        await other.ready()
        (other.root / "page").write_bytes(b"made at nyc")
        assert await other.fence() is None
        await one.start()
        tree = await alike(one, other, third)
        assert tree["page"][-1] in (b"made at nyc", b"made at ams meanwhile")
        lost = {b"made at nyc", b"made at ams meanwhile"} - {tree["page"][-1]}
        kept = {content for site in (one, other, third) for content in conflicts_kept(site.root)}
        assert kept == lost
        assert tree["only-ams"][-1] == b"a"


async def test_a_pull_goes_on_at_another_holder_when_one_breaks_off(tmp_path: Path) -> None:
    content = os.urandom(6_000_000)
    limits = {"link": {"body_bytes_per_second": 3_000_000}}
    async with cluster(tmp_path, ("ams", "nyc", "sgp"), **limits) as (one, other, late):
        await late.stop()
        (one.root / "film").write_bytes(content)
        assert await one.fence() is None
        await until(lambda: other.has_landed("film"), "landed at nyc")
        await late.start()
        pulls = late.content.landing.pulls
        await until(lambda: pulls.fetched_bytes > 500_000, "the pull is under way")
        holder = late.replica.holders(late.ledger.entries(GROUP, "ams", 0, 1)[0])[0]
        await {"ams": one, "nyc": other}[holder].stop()
        await until(lambda: late.has_landed("film"), "landed at sgp")
        assert (late.root / "film").read_bytes() == content
        assert pulls.fetched_bytes < len(content) + 1_000_000, "it went on where the other broke off"
        assert temps(late.root) == []


async def test_what_is_small_or_asked_for_does_not_wait_behind_what_is_large(tmp_path: Path) -> None:
    limits = {"link": {"body_bytes_per_second": 5_000_000}}
    async with cluster(tmp_path, ("ams", "nyc", "sgp"), **limits) as (one, other, late):
        await late.stop()
        for number in range(8):
            (one.root / f"large{number}").write_bytes(os.urandom(2_500_000))
        assert await one.fence() is None
        (one.root / "asked").write_bytes(os.urandom(2_000_000))
        (one.root / "small").write_bytes(os.urandom(300_000))
        assert await one.fence() is None
        await other.stop()
        await late.start()
        await until(lambda: late.ledger.newest(GROUP, b"asked"), "announced")
        late.content.want(b"asked", b"")
        await until(lambda: late.has_landed("asked") and late.has_landed("small"), "both have landed")
        assert sum(late.has_landed(f"large{number}") for number in range(8)) <= 4, "20 MB take four seconds"


async def test_wrong_bytes_are_refused_counted_and_asked_of_the_next_holder(tmp_path: Path) -> None:
    async with cluster(tmp_path, ("ams", "nyc", "sgp")) as (one, other, late):
        await late.stop()
        (one.root / "film").write_bytes(BIG)
        assert await one.fence() is None
        await alike(one, other)
        forged = tmp_path / "forged"
        forged.write_bytes(b"!" * len(BIG))

        async def lie(group: str, digest: bytes) -> int:
            return os.open(forged, os.O_RDONLY)

        async def nothing(group: str, digest: bytes) -> None:
            return None

        honest = {site.name: site.links._bodies for site in (one, other)}
        one.links._bodies = other.links._bodies = nothing
        await late.start()
        await until(lambda: late.ledger.entries(GROUP, "ams", 0, 1), "announced")
        entry = late.ledger.entries(GROUP, "ams", 0, 1)[0]
        await until(lambda: len(late.replica.holders(entry)) == 2, "both are known to hold it")
        first, second = late.replica.holders(entry)
        by_name = {"ams": one, "nyc": other}
        by_name[first].links._bodies = by_name[second].links._bodies = lie
        await until(lambda: late.replica.counters()["bodies_refused"] >= 1, "a lie is refused")
        by_name[second].links._bodies = honest[second]
        await until(lambda: late.has_landed("film"), "landed from the honest one")
        assert (late.root / "film").read_bytes() == BIG
        assert late.replica.counters()["bodies_refused"] >= 1
        assert temps(late.root) == []


async def test_only_wrong_bytes_land_nothing_and_heal(tmp_path: Path) -> None:
    async with cluster(tmp_path, ("ams", "nyc")) as (one, other):
        honest = one.links._bodies
        forged = tmp_path / "forged"
        forged.write_bytes(b"!" * len(BIG))

        async def lie(group: str, digest: bytes) -> int:
            return os.open(forged, os.O_RDONLY)

        one.links._bodies = lie
        (one.root / "film").write_bytes(BIG)
        assert await one.fence() is None
        await until(lambda: b"film" in other.content.landing.failed, "refused")
        assert blake3(BIG).hexdigest() in other.content.landing.failed[b"film"]
        assert not (other.root / "film").exists()
        one.links._bodies = honest
        await alike(one, other)
        assert other.content.landing.failed == {}
        assert temps(other.root) == []


async def test_a_full_disk_says_so_and_heals(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "small", size="4m") as mounted:
        async with cluster(
            tmp_path, ("ams", "nyc"), each=lambda name: {"root": mounted / "root"} if name == "nyc" else {}
        ) as (one, other):
            (mounted / "ballast").write_bytes(b"x" * 2_500_000)
            (one.root / "big").write_bytes(BIG)
            (one.root / "small").write_bytes(b"y" * 200_000)
            assert await one.fence() is None
            await until(lambda: "ENOSPC" in other.content.landing.failed.get(b"big", ""), "the cause is told")
            await until(lambda: other.has_landed("small"), "what fits is landed")
            assert "catching" not in other.reason()
            assert other.replica.pending("nyc")[GROUP].keys() == {b"big/"}
            (mounted / "ballast").unlink()
            other.content.landing.want(b"big")
            await alike(one, other)
            assert temps(other.root) == []


async def test_what_is_excluded_here_counts_as_landed(tmp_path: Path) -> None:
    """One site's configuration is ahead of the other's: nothing may wait there for ever."""
    async with cluster(
        tmp_path, ("ams", "nyc"), each=lambda name: {"exclude": ("*.tmp", "cache/")} if name == "nyc" else {}
    ) as (one, other):
        (one.root / "cache").mkdir()
        (one.root / "cache/a").write_bytes(b"a")
        (one.root / "x.tmp").write_bytes(BIG)
        (one.root / "y").write_bytes(b"y")
        (other.root / "x.tmp").write_bytes(b"other's own")
        assert await one.fence() is None
        await until(lambda: other.has_landed("y") and not list(other.ledger.unlanded(GROUP)), "nothing waits")
        await until(lambda: not one.replica.pending("nyc")[GROUP], "ams knows")
        assert sorted(os.listdir(other.root)) == [".anycastle", "x.tmp", "y"]
        assert (other.root / "x.tmp").read_bytes() == b"other's own"
        assert other.content.landing.pulls.fetched_bytes == 0
        await other.stop()
        await other.start()
        await other.ready()
        assert other.ledger.head(GROUP) == 0, "what is absent because it is excluded is no delete"


async def test_superseded_failures_are_forgotten(pair: tuple[Site, ...]) -> None:
    one, other = pair
    (other.root / "d").mkdir()
    os.mkfifo(other.root / "d/p")
    (one.root / "d").mkdir()
    (one.root / "d/p").write_bytes(b"in the way")
    assert await one.fence() is None
    await until(lambda: b"d/p" in other.content.landing.failed, "a pipe is in the way")
    (one.root / "d/p").unlink()
    assert await one.fence() is None
    (other.root / "d/p").unlink()
    await alike(one, other)
    await until(lambda: other.content.landing.failed == {}, "forgotten")


async def test_many_small_files_with_their_folders(pair: tuple[Site, ...]) -> None:
    one, other = pair
    for number in range(600):
        folder = one.root / f"d{number % 40}/e"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}").write_bytes(b"%d" % number * 50)
    assert await one.fence() is None
    failures: list[dict[bytes, str]] = []
    while not all(other.has_landed(f"d{number % 40}/e/{number}") for number in range(600)):
        failures.append({path: why for path, why in other.content.landing.failed.items() if "ENOENT" in why})
        await asyncio.sleep(0.01)
    await alike(one, other)
    assert not any(failures), "making a folder never races with putting something in it"
    with contextlib.suppress(IndexError):
        assert other.ledger.head(GROUP) == 0


async def test_many_small_bodies_that_did_not_come_along_are_pulled_together(
    pair: tuple[Site, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a restart, or where there was no room for them: a round trip for each would take minutes."""
    one, other = pair
    monkeypatch.setattr(landing_queue, "BODIES_BYTES_MAX", 0)
    asked: list[int] = []
    fetch_small = other.links.fetch_small

    async def counted(member: str, group: str, digests: Sequence[bytes]) -> dict[bytes, bytes]:
        asked.append(len(digests))
        found = await fetch_small(member, group, digests)
        return {digest: b"!" if number == 3 else body for number, (digest, body) in enumerate(found.items())}

    monkeypatch.setattr(other.links, "fetch_small", counted)
    (one.root / "d").mkdir()
    for number in range(500):
        (one.root / f"d/{number}").write_bytes(b"%d" % number * 50)
    assert await one.fence() is None
    await alike(one, other)
    assert sum(asked) > 400
    assert len(asked) < 60
    assert other.content.landing.bad_bodies > 0, "a wrong body among them was refused, and pulled by itself"
    assert temps(other.root) == []


async def test_what_is_not_excluded_any_more_is_fetched(tmp_path: Path) -> None:
    def left_out(name: str) -> dict[str, Any]:
        return {"exclude": ("*.log",)} if name == "nyc" else {}

    async with cluster(tmp_path, ("ams", "nyc"), each=left_out) as (ams, nyc):
        (ams.root / "a.log").write_bytes(b"log")
        (ams.root / "b.log").write_bytes(b"log too")
        assert await ams.fence() is None
        await until(lambda: not list(nyc.ledger.unlanded(GROUP)) and nyc.ledger.newest(GROUP, b"b.log"), "left out")
        assert not (nyc.root / "a.log").exists()
        await nyc.stop()
        (group,) = nyc.settings.groups
        nyc.settings = replace(nyc.settings, groups=(replace(group, exclude=("b.*",)),))
        await nyc.start()
        await until(lambda: (nyc.root / "a.log").exists(), "fetched")
        await until(lambda: not list(nyc.ledger.unlanded(GROUP)), "nothing waits")
        assert not (nyc.root / "b.log").exists()
        assert (ams.root / "b.log").exists()
