"""One landing at a time within a line of folders."""

import asyncio

import pytest

from anycastle.replicator.landing_turns import Turns


async def is_free(turns: Turns, *paths: bytes) -> bool:
    """Whether the turn comes at once; it is given back then."""
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(turns.take(paths))
        await asyncio.sleep(0)
        free = task.done()
        task.cancel()
    if free:
        turns.give_back(paths)
    return free


@pytest.mark.parametrize(
    ("path", "free"),
    [
        (b"a/b/c", False),
        (b"a/b", False),
        (b"a", False),
        (b"a/b/c/d/e", False),
        (b"a/b/d", True),
        (b"a/b/cd", True),
        (b"b", True),
    ],
)
async def test_only_what_is_in_the_same_line_waits(path: bytes, free: bool) -> None:
    turns = Turns()
    await turns.take((b"a/b/c", b"x"))
    assert await is_free(turns, path) == free
    turns.give_back((b"a/b/c", b"x"))
    assert await is_free(turns, path)


async def test_paths_taken_together_may_lie_above_each_other_and_all_wait_for_one() -> None:
    turns = Turns()
    await turns.take((b"a", b"a/b", b"a/c"))
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(turns.take((b"q", b"a/b/d")))
        await asyncio.sleep(0)
        assert not waiting.done()
        assert await is_free(turns, b"q"), "who waits holds nothing"
        turns.give_back((b"a", b"a/b", b"a/c"))
    assert not await is_free(turns, b"a")
