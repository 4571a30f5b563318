"""One group at one site: bodies it gives away, verdicts on what is not replicated, roots it refuses."""

import os
import shutil
from pathlib import Path

import pytest
from blake3 import blake3

from anycastle.replicator.content import INLINE_BYTES_MAX, common_prefix
from anycastle.replicator.disk import TreeError
from anycastle.replicator.gate import Refuse, Serve
from tests.replicator.cluster import GROUP, Site, alike, cluster
from tests.replicator.members import until
from tests.replicator.tree_values import delete_entry, file_entry


def body_of(site: Site, content: bytes) -> bytes | None:
    descriptor, _ = site.content.open_body(blake3(content).digest())
    if descriptor is None:
        return None
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


async def test_bodies_are_given_by_digest_and_small_ones_travel(tmp_path: Path) -> None:
    async with cluster(tmp_path, ("ams",)) as (site,):
        big = b"b" * (INLINE_BYTES_MAX + 1)
        (site.root / "big").write_bytes(big)
        (site.root / "small").write_bytes(b"small")
        (site.root / "empty").write_bytes(b"")
        assert await site.fence() is None
        entries = {entry.path: entry for entry in site.ledger.entries(GROUP, "ams", 0, 10)}
        assert body_of(site, big) == big
        assert body_of(site, b"unknown") is None
        assert site.content.small_body(entries[b"small"]) == b"small"
        assert site.content.small_body(entries[b"big"]) is None
        assert site.content.small_body(entries[b"empty"]) is None
        assert site.content.small_body(file_entry(b"small", b"Small")) is None, "it is something else by now"
        assert site.content.small_body(file_entry(b"gone")) is None
        (site.root / "big").unlink()
        assert body_of(site, big) is None


async def test_a_body_is_found_wherever_it_still_is(tmp_path: Path) -> None:
    async with cluster(tmp_path, ("ams",)) as (site,):
        for name in ("1", "2", "3"):
            (site.root / name).write_bytes(b"same")
        assert await site.fence() is None
        digest = blake3(b"same").digest()
        first, second, third = (path.decode() for path, _ in site.ledger.with_digest(GROUP, digest, 9))
        site.content.settle.look = lambda paths: None  # type: ignore[method-assign]  # our events are not heard yet
        (site.root / first).unlink()
        assert body_of(site, b"same") == b"same"
        (site.root / second).write_bytes(b"else")
        assert body_of(site, b"same") == b"same"
        (site.root / third).rename(site.root / "moved")
        assert site.content.open_body(digest)[1] == [first.encode(), second.encode(), third.encode()], "worth a look"


async def test_whoever_asks_for_a_body_that_is_not_here_makes_its_places_be_looked_at(tmp_path: Path) -> None:
    async with cluster(tmp_path, ("ams",)) as (site,):
        (site.root / "gone").write_bytes(b"was here")
        assert await site.fence() is None
        looked: list[bytes] = []
        site.content.settle.look = looked.extend  # type: ignore[method-assign]
        (site.root / "gone").unlink()
        assert await site.replica.body(GROUP, blake3(b"was here").digest()) is None
        assert b"gone" in looked


async def test_content_that_is_here_is_copied_though_its_first_place_changed(tmp_path: Path) -> None:
    async with cluster(tmp_path, ("ams", "nyc")) as (one, other):
        big = b"b" * (INLINE_BYTES_MAX + 1)
        for name in ("1", "2"):
            (one.root / name).write_bytes(big)
        assert await one.fence() is None
        await alike(one, other)
        fetched = other.content.landing.pulls.fetched_bytes
        first = other.ledger.with_digest(GROUP, blake3(big).digest(), 9)[0][0].decode()
        other.content.settle.look = lambda paths: None  # type: ignore[method-assign]
        (other.root / first).write_bytes(b"else")
        (one.root / "3").write_bytes(big)
        assert await one.fence() is None
        await until(lambda: other.has_landed("3"), "the copy landed")
        assert (other.root / "3").read_bytes() == big
        assert other.content.landing.pulls.fetched_bytes == fetched, "nothing was transferred again"


async def test_what_nobody_announced_yet_is_waited_for_and_a_true_404_is_served(tmp_path: Path) -> None:
    async with cluster(tmp_path, ("ams",), wait_max_seconds=5.0) as (site,):
        (site.root / "d").mkdir()
        (site.root / "d/new").write_bytes(b"new")
        verdict = await site.admit("d/new")
        assert isinstance(verdict, Serve)
        assert site.ledger.newest(GROUP, b"d/new") is not None, "it was journaled before it was served"
        assert isinstance(await site.admit("d/never"), Serve)
        assert isinstance(await site.admit("d/" + "n" * 256), Refuse)


async def test_a_root_that_was_never_seen_is_refused_where_the_ledger_knows_files(tmp_path: Path) -> None:
    async with cluster(tmp_path, ("ams",)) as (site,):
        (site.root / "a").write_bytes(b"a")
        assert await site.fence() is None
        await site.stop()
        shutil.rmtree(site.root)
        site.root.mkdir()
        with pytest.raises(TreeError, match="expected its disk to be mounted"):
            site.open()
        assert list(site.root.iterdir()) == []
        site.ledger.close()


def test_the_common_prefix_of_entries() -> None:
    def prefix(*paths: bytes) -> bytes:
        return common_prefix([delete_entry(path) for path in paths])

    assert prefix(b"a/b/c") == b"a/b/"
    assert prefix(b"a/b/c", b"a/b/d", b"a/bb") == b"a/"
    assert prefix(b"a", b"b/c") == b""
