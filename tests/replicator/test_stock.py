"""Bodies that a site gives away, wherever they still are."""

import os
from pathlib import Path

from blake3 import blake3

from anycastle.replicator.stock import INLINE_BYTES_MAX
from tests.replicator.cluster import GROUP, Site, cluster
from tests.replicator.tree_values import file_entry


def body_of(site: Site, content: bytes) -> bytes | None:
    descriptor, _ = site.content.stock.open(blake3(content).digest())
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
        assert site.content.stock.small(entries[b"small"]) == b"small"
        assert site.content.stock.small(entries[b"big"]) is None
        assert site.content.stock.small(entries[b"empty"]) is None
        assert site.content.stock.small(file_entry(b"small", b"Small")) is None, "it is something else by now"
        assert site.content.stock.small(file_entry(b"gone")) is None
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
        assert site.content.stock.open(digest)[1] == [first.encode(), second.encode(), third.encode()], "worth a look"


async def test_whoever_asks_for_a_body_that_is_not_here_makes_its_places_be_looked_at(tmp_path: Path) -> None:
    async with cluster(tmp_path, ("ams",)) as (site,):
        (site.root / "gone").write_bytes(b"was here")
        assert await site.fence() is None
        looked: list[bytes] = []
        site.content.settle.look = looked.extend  # type: ignore[method-assign]
        (site.root / "gone").unlink()
        assert await site.replica.body(GROUP, blake3(b"was here").digest()) is None
        assert b"gone" in looked
