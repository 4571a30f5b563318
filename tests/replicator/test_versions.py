"""A rolling upgrade: members of two protocol versions in one cluster, replaced one after the other."""

import asyncio
from pathlib import Path

from tests.replicator.cluster import Site, alike, cluster
from tests.replicator.members import until

OLD, NEW, NEWEST = (1, 1), (1, 2), (2, 3)
SO_LONG = 2000
"""That its body follows in version 2, and comes along in version 1."""


async def write_everywhere(sites: tuple[Site, ...], what: str) -> None:
    """Each site writes, and its write is fenced and lands at all others."""
    for site in sites:
        (site.root / f"{what}-{site.name}").write_text(f"{what} at {site.name}" * SO_LONG)
        await site.fence()
    names = set(await alike(*sites))
    assert {f"{what}-{site.name}" for site in sites} <= names


async def replace(site: Site, speaks: tuple[int, int]) -> None:
    await site.stop()
    site.speaks = speaks
    await site.start()
    await site.ready()


def versions(sites: tuple[Site, ...]) -> dict[str, int]:
    return {
        f"{one.name}-{other.name}": one.links.version(other.name) for one in sites for other in sites if one != other
    }


async def test_members_are_replaced_one_at_a_time_and_replication_and_fences_go_on(tmp_path: Path) -> None:
    async with cluster(tmp_path, speaks=OLD) as sites:
        ams, nyc, sgp = sites
        await write_everywhere(sites, "old")
        await replace(ams, NEW)
        await write_everywhere(sites, "one")
        assert set(versions(sites).values()) == {1}
        await replace(nyc, NEW)
        await write_everywhere(sites, "two")
        found = versions(sites)
        assert (found["ams-nyc"], found["nyc-ams"]) == (2, 2)
        assert (found["ams-sgp"], found["sgp-ams"], found["nyc-sgp"], found["sgp-nyc"]) == (1, 1, 1, 1)
        await replace(sgp, NEW)
        await write_everywhere(sites, "three")
        assert set(versions(sites).values()) == {2}
        await replace(ams, NEWEST)
        await write_everywhere(sites, "next")
        assert {each for name, each in versions(sites).items() if "ams" in name} == {2}


async def test_a_step_that_is_left_out_is_refused_on_both_sides_and_harms_nobody_else(tmp_path: Path) -> None:
    async with cluster(tmp_path, speaks=OLD) as sites:
        ams, nyc, sgp = sites
        await replace(nyc, NEW)
        await replace(sgp, NEW)
        await ams.stop()
        ams.speaks = NEWEST
        await nyc.stop()
        nyc.speaks = OLD
        await nyc.start()
        await ams.start()
        line = "no common protocol version: nyc speaks 1, ams speaks 2 to 3; upgrade nyc"
        await until(lambda: ams.links.refusal("nyc").startswith(line), "ams says so")
        await until(lambda: nyc.links.refusal("ams").startswith(line), "nyc says so")
        assert ams.links.refused["protocol"] >= 1
        assert "nyc" not in ams.links.connected()
        await asyncio.gather(*(site.ready() for site in sites))
        (sgp.root / "still").write_text("here")
        await sgp.fence()
        await alike(*sites)
