"""Members in network namespaces on a bad line: 80 ms there and back, 1 % loss, 20 Mbit/s; it is cut and heals."""

import asyncio
import os
import time
from contextlib import AsyncExitStack
from pathlib import Path

from tests.replicator.cluster import picture
from tests.replicator.member_process import Remote, start
from tests.replicator.members import make_authority
from tests.replicator.watching import needs_root
from tests.wire import Wire, wired

pytestmark = needs_root
ADDRESSES = {"ams": "192.0.2.1", "nyc": "192.0.2.2", "sgp": "192.0.2.3"}
ROUND_TRIP_SECONDS = 0.08
REST_SECONDS_MAX = 40.0
PORT = 7777


async def test_nothing_acknowledged_is_lost_and_trees_are_equal_when_the_line_is_back(tmp_path: Path) -> None:
    pki = make_authority(tmp_path / "pki", tuple(ADDRESSES))
    line = wired(ADDRESSES, delay_seconds=ROUND_TRIP_SECONDS / 2, loss=0.01, bits_per_second=20e6)
    with line as wire:
        async with AsyncExitStack() as stack:
            members = {name: await stack.enter_async_context(_start(wire, name, tmp_path, pki)) for name in ADDRESSES}
            await _story(wire, members)
        assert wire.lost > 0, "a bad line"


def _start(wire: Wire, name: str, folder: Path, pki: Path):  # type: ignore[no-untyped-def]
    told = {"name": name, "addresses": ADDRESSES, "port": PORT, "pki": str(pki), "folder": str(folder)}
    return start(wire.inside(name), {**told, "group": {"fence_timeout_seconds": 4.0}})


async def _story(wire: Wire, members: dict[str, Remote]) -> None:
    ams, nyc, sgp = members.values()
    await asyncio.gather(*(_ready(member) for member in (ams, nyc, sgp)))
    acknowledged: dict[str, bytes] = {}
    for number in range(8):
        member = (ams, nyc, sgp)[number % 3]
        began = time.monotonic()
        assert await _upload(member, f"{number}.jpg", os.urandom(100_000), acknowledged)
        assert time.monotonic() - began > ROUND_TRIP_SECONDS, "the line is as long as it says"
    assert await _upload(ams, "film", os.urandom(1_000_000), acknowledged)

    wire.link("nyc", "down")
    assert not await _upload(nyc, "alone", b"written where nobody can vouch for it", {})
    for number in range(8, 12):
        assert await _upload(ams, f"{number}.jpg", os.urandom(50_000), acknowledged), "a majority is left"
    assert await _upload(ams, "0.jpg", b"overwritten meanwhile", acknowledged)
    (ams.root / "1.jpg").unlink()
    assert await ams.ask("fence") == ""
    del acknowledged["1.jpg"]

    wire.link("nyc", "up")
    tree = await _at_rest(ams, nyc, sgp)
    assert {name: tree[name][-1] for name in acknowledged} == acknowledged
    assert tree.keys() - acknowledged.keys() == {"alone"}, "nothing that nobody wrote, nor what was deleted"
    await _ready(nyc)


async def _ready(member: Remote) -> None:
    async with asyncio.timeout(30):
        while reason := await member.ask("reason"):
            assert reason
            await asyncio.sleep(0.05)


async def _upload(member: Remote, name: str, content: bytes, acknowledged: dict[str, bytes]) -> bool:
    """Whether its success may be shown."""
    (member.root / name).write_bytes(content)
    if await member.ask("fence"):
        return False
    acknowledged[name] = content
    return True


async def _at_rest(*members: Remote) -> dict[str, tuple[object, ...]]:
    began, why = time.monotonic(), "never looked"
    while time.monotonic() - began < REST_SECONDS_MAX:
        rests = [await member.ask("rest") for member in members]
        trees = [picture(member.root) for member in members]
        if all(rest == rests[0] and not rest["waiting"] for rest in rests) and all(tree == trees[0] for tree in trees):
            return trees[0]
        why = f"{rests}, {[sorted(tree) for tree in trees]}"
        await asyncio.sleep(0.2)
    raise AssertionError(f"not at rest after {REST_SECONDS_MAX:.0f} s: {why}")
