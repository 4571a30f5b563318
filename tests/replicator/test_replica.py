"""Whole members together: verdicts, fences, copies, catching up, witnesses, and full ledgers."""

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from anycastle.replicator.gate import Forward, Refuse, Serve
from anycastle.replicator.schema import LedgerError
from tests.replicator.cluster import GROUP, Site, alike, cluster
from tests.replicator.members import until

BIG = bytes(range(256)) * 4096 * 2
THREE = ("ams", "nyc", "sgp")


def withhold(folder: Path) -> Callable[[str, bytes], object]:
    """A body source that gives nothing until `folder/open` exists."""

    async def none(group: str, digest: bytes) -> int | None:
        return None

    return none


@contextmanager
def withheld(site: Site, folder: Path) -> Iterator[None]:
    """Its bodies, while inside."""
    honest = site.links._bodies
    site.links._bodies = withhold(folder)  # type: ignore[assignment]
    try:
        yield
    finally:
        site.links._bodies = honest


async def test_verdicts_while_the_body_is_withheld(tmp_path: Path) -> None:
    async with cluster(tmp_path, THREE) as (one, other, third):
        with withheld(one, tmp_path):
            (one.root / "film").write_bytes(BIG)
            assert await one.fence() is None
            assert isinstance(await one.admit("film"), Serve)
            for site in (other, third):
                verdict = await site.admit("film")
                assert isinstance(verdict, Forward), verdict
                assert verdict.sites == ("ams",)
                assert isinstance(await site.admit("d/nothing-here"), Serve)
                assert site.replica.pending(site.name)[GROUP].keys() == {b"film/"}
            await until(lambda: one.replica.pending("nyc")[GROUP].keys() == {b"film/"}, "ams knows what nyc lacks")
        await alike(one, other, third)
        for site in (one, other, third):
            async with asyncio.timeout(5):
                while not isinstance(await site.admit("film"), Serve):  # noqa: ASYNC110 - polled with a deadline
                    await asyncio.sleep(0.01)
        await until(lambda: not any(s.replica.pending(n)[GROUP] for s in (one, other, third) for n in THREE), "settled")


async def test_a_fence_returns_only_after_all_others_recorded(tmp_path: Path) -> None:
    async with cluster(tmp_path, THREE) as (one, other, third):
        for number in range(20):
            (one.root / f"{number}").write_bytes(b"%d" % number)
            assert await one.fence() is None
            for site in (other, third):
                assert site.ledger.newest(GROUP, b"%d" % number) is not None, "all were reachable"
                verdict = await site.admit(f"{number}")
                assert isinstance(verdict, Serve | Forward)


async def test_overwrites_are_never_served_old_after_success(tmp_path: Path) -> None:
    async with cluster(tmp_path, THREE) as sites:
        for number in range(15):
            origin = sites[number % 3]
            content = b"version %d" % number
            (origin.root / "page").write_bytes(content)
            assert await origin.fence() is None
            for site in sites:
                verdict = await site.admit("page")
                served = site if isinstance(verdict, Serve) else next(s for s in sites if s.name == verdict.sites[0])
                assert (served.root / "page").read_bytes() == content


async def test_a_fence_without_a_majority_names_whom_it_waits_for(tmp_path: Path) -> None:
    async with cluster(tmp_path, THREE, fence_timeout_seconds=0.5) as (one, other, third):
        await other.stop()
        await third.stop()
        (one.root / "a").write_bytes(b"a")
        refused = await one.fence()
        assert isinstance(refused, Refuse)
        assert "nyc" in refused.reason
        assert "sgp" in refused.reason
        await until(lambda: isinstance(one.replica.gate.may_write(GROUP), Refuse), "not current any more")
        assert one.reason()
        await other.start()
        await until(lambda: one.replica.controller.fenced(GROUP, "ams") >= one.ledger.head(GROUP), "fenced at last")
        await one.ready()


async def test_one_dead_member_costs_a_term_and_no_more(tmp_path: Path) -> None:
    async with cluster(tmp_path, THREE) as (one, other, third):
        await third.stop()
        (one.root / "a").write_bytes(b"a")
        assert await one.fence() is None
        assert isinstance(await other.admit("a"), Serve | Forward)


async def test_copies_are_waited_for(tmp_path: Path) -> None:
    async with cluster(tmp_path, THREE, copies=2) as (one, other, third):
        async with asyncio.TaskGroup() as tasks:
            with withheld(one, tmp_path):
                (one.root / "film").write_bytes(BIG)
                fence = tasks.create_task(one.fence())
                head = 1
                await until(lambda: one.replica.controller.fenced(GROUP, "ams") >= head, "fenced")
                assert not fence.done()
                assert one.content.copies(head) == 1
        assert fence.result() is None
        assert other.has_landed("film") or third.has_landed("film")


async def test_what_was_overwritten_before_it_landed_is_no_copy(tmp_path: Path) -> None:
    """The one site that had the older bytes has the newer ones now: if it burned down, neither would be anywhere."""
    async with cluster(tmp_path, THREE, copies=2) as (one, other, third):
        async with asyncio.TaskGroup() as tasks:
            with withheld(one, tmp_path):
                (one.root / "film").write_bytes(BIG)
                fence = tasks.create_task(one.fence())
                await until(lambda: one.replica.controller.fenced(GROUP, "ams") == 1, "fenced")
                (one.root / "film").write_bytes(BIG[::-1])
                for each in (other, third):
                    await until(lambda each=each: each.ledger.detailed()[GROUP].get("ams") == 2, "superseded there")
                    told = each.ledger.landed_upto(GROUP)["ams"]
                    await until(
                        lambda each=each, told=told: (
                            one.replica.controller.peer_landed(each.name, GROUP).get("ams") == told
                        ),
                        "and told",
                    )
                assert one.content.copies(1) == 1
                assert not fence.done()
        assert fence.result() is None
        assert other.has_landed("film") or third.has_landed("film")


async def test_copies_that_cannot_be_had_are_told(tmp_path: Path) -> None:
    async with cluster(tmp_path, THREE, copies=3, fence_timeout_seconds=3.0) as (one, _other, third):
        await third.stop()
        (one.root / "a").write_bytes(b"a")
        refused = await one.fence()
        assert isinstance(refused, Refuse)
        assert "landed at 2 of 3 sites" in refused.reason
        await until(
            lambda: one.replica.gate.may_write(GROUP) is not None, "and further writes are refused before they are done"
        )
        before = one.replica.gate.may_write(GROUP)
        assert isinstance(before, Refuse)
        assert before.reason == "a write needs 3 copies and only 2 sites can be reached: no link with sgp"
        await third.start()
        await until(lambda: one.replica.gate.may_write(GROUP) is None, "until enough can be reached again")
        assert await one.fence() is None


async def test_writes_go_to_the_first_that_is_current(tmp_path: Path) -> None:
    async with cluster(tmp_path, THREE, writes=("ams", "nyc")) as (one, other, third):
        assert one.replica.gate.may_write(GROUP) is None
        for site in (other, third):
            await until(lambda site=site: isinstance(site.replica.gate.may_write(GROUP), Forward), "forwards")
            verdict = site.replica.gate.may_write(GROUP)
            assert isinstance(verdict, Forward)
            assert verdict.sites[0] == "ams"
        await one.stop()
        await until(lambda: other.replica.gate.may_write(GROUP) is None, "nyc is the first now")


async def test_catching_up_after_a_restart(tmp_path: Path) -> None:
    async with cluster(tmp_path, THREE) as (one, other, third):
        (one.root / "old").write_bytes(b"old")
        assert await one.fence() is None
        await alike(one, other, third)
        await third.stop()
        for number in range(30):
            (one.root / f"{number}").write_bytes(b"%d" % number)
        (one.root / "old").unlink()
        (one.root / "film").write_bytes(BIG)
        assert await one.fence() is None
        honest = {site.name: site.links._bodies for site in (one, other)}
        for site in (one, other):
            site.links._bodies = withhold(tmp_path)  # type: ignore[assignment]
        await third.start()
        reasons: set[str] = set()
        try:
            await until(lambda: reasons.add(third.reason()) or "catching up: 1 " in third.reason(), "all but the film")
        except AssertionError:
            raise AssertionError(f"never waited for the film alone, but: {sorted(reasons)}") from None
        assert isinstance(await third.admit("old"), Serve | Forward)
        for site in (one, other):
            site.links._bodies = honest[site.name]
        await third.ready()
        assert third.has_landed("film")
        await alike(one, other, third)


async def test_a_restarted_member_learns_what_others_lack(tmp_path: Path) -> None:
    async with cluster(tmp_path, THREE) as (one, other, third):
        await third.stop()
        one.links._bodies = other.links._bodies = withhold(tmp_path)  # type: ignore[assignment]
        (one.root / "d").mkdir()
        (one.root / "d/film").write_bytes(BIG)
        assert await one.fence() is None
        await one.stop()
        await one.start()
        one.links._bodies = withhold(tmp_path)  # type: ignore[assignment]
        await until(lambda: one.replica.pending("nyc")[GROUP].keys() == {b"d/"}, "learnt, by its path")


async def test_a_witness_votes_and_records_and_holds_nothing(tmp_path: Path) -> None:
    async with cluster(tmp_path, ("ams", "nyc", "wit"), sites=("ams", "nyc")) as (one, other, witness):
        assert witness.replica.standing(now=witness.clock.now()) == {}
        (one.root / "a").write_bytes(b"a")
        assert await one.fence() is None
        await until(lambda: witness.ledger.detailed()[GROUP].get("ams") == 1, "recorded")
        await other.stop()
        (one.root / "b").write_bytes(b"b")
        assert await one.fence() is None, "one site and the witness are a majority"
        await until(lambda: not one.reason(), "current")
        assert witness.ledger.detailed()[GROUP]["ams"] == 2
        assert list(witness.root.iterdir()) == []
        # What only the witness remembers reaches the other site.
        await one.stop()
        await other.start()
        await until(lambda: other.ledger.newest(GROUP, b"b"), "told by the witness")
        await one.start()
        await alike(one, other)


async def test_a_ledger_that_takes_nothing_withholds_and_heals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The very error of a full disk, at every write of one member's ledger for a while."""
    async with cluster(tmp_path, THREE) as (one, other, third):
        full = True
        writing = other.ledger._store.writing

        def refuse(*, durable: bool = True) -> object:
            if full:
                raise LedgerError(f"ledger {other.ledger.path}: the disk is full")
            return writing(durable=durable)

        monkeypatch.setattr(other.ledger._store, "writing", refuse)
        (other.root / "here").write_bytes(b"here")
        (one.root / "there").write_bytes(b"there")
        assert await one.fence() is None
        await until(lambda: "the disk is full" in other.reason(), "told")
        assert not isinstance(await other.admit("here"), Serve)
        full = False
        await other.ready()
        assert await other.fence() is None
        await alike(one, other, third)


async def test_nothing_is_left_running_at_the_end(tmp_path: Path) -> None:
    before = {thread.name for thread in threading.enumerate()}
    async with cluster(tmp_path, ("ams", "nyc")) as (one, other):
        (one.root / "film").write_bytes(BIG * 4)
        for number in range(200):
            (one.root / f"{number}").write_bytes(os.urandom(1000))
        await until(lambda: other.ledger.detailed()[GROUP].get("ams", 0) > 10, "under way")
    ours = {thread.name for thread in threading.enumerate()} - before
    assert not {name for name in ours if name.split("_")[0] in ("disk", "hash", "read", "ledger")}
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_name_too_long_for_any_file_is_refused_not_a_crash(tmp_path: Path) -> None:
    async with cluster(tmp_path, ("ams",)) as (one,):
        assert isinstance(await one.admit("x" * 300), Refuse)


async def test_a_clock_that_jumped_costs_the_leases_before_the_next_answer(tmp_path: Path) -> None:
    async with cluster(tmp_path) as (ams, *_):
        (ams.root / "a").write_bytes(b"a")
        assert await ams.fence() is None
        assert isinstance(await ams.admit("a"), Serve)
        ams.clock.wall_offset = 10.0
        assert isinstance(await ams.admit("a"), Forward), "it may have slept: the others know better"
        ams.clock.wall_offset = 20.0
        assert isinstance(ams.replica.gate.may_write(GROUP), Forward)
        await ams.ready()
        assert isinstance(await ams.admit("a"), Serve)


async def test_a_write_waits_until_what_was_known_before_is_here(tmp_path: Path) -> None:
    """Software reads before it writes: over an older file it would undo what others were told is safe."""
    async with cluster(tmp_path, wait_max_seconds=1.0) as (ams, nyc, _):
        assert await nyc.replica.gate.before_write(GROUP, b"alice/") is None
        held = asyncio.Event()
        body, ams.links._bodies = ams.links._bodies, lambda group, digest: _after(held, group, digest)
        (ams.root / "alice").mkdir()
        (ams.root / "alice/big").write_bytes(os.urandom(400_000))
        assert await ams.fence() is None
        await until(lambda: nyc.ledger.newest(GROUP, b"alice/big"), "nyc knows of it")
        assert await nyc.replica.gate.before_write(GROUP, b"bob/") is None, (
            "another customer's writes are not disturbed"
        )
        verdict = await nyc.replica.gate.before_write(GROUP, b"alice/")
        assert isinstance(verdict, Forward)
        assert verdict.sites == ("ams",)
        ams.links._bodies = body
        held.set()
        await until(lambda: nyc.has_landed("alice/big"), "it has landed")
        assert await nyc.replica.gate.before_write(GROUP, b"alice/") is None


async def _after(held: asyncio.Event, group: str, digest: bytes) -> None:
    """Where there is no body to be had until it is allowed."""
    await held.wait()


async def test_work_that_comes_to_threads_of_a_member_that_stops_is_no_failure(tmp_path: Path) -> None:
    async with cluster(tmp_path) as (ams, nyc, _):
        nyc.replica._disk_threads.stop()
        (ams.root / "late").write_bytes(b"late")
        await until(lambda: nyc.replica._hash_threads.stopping, "it has ended")
        assert not (nyc.root / "late").exists()
