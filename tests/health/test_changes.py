"""No change is missed, whoever looks when."""

import asyncio

from anycastle.health.changes import Changes


async def test_a_change_before_the_wait_is_not_missed() -> None:
    changes = Changes()
    seen = changes.generation
    changes.bump()
    assert await changes.after(seen) == seen + 1


async def test_all_waiters_wake() -> None:
    changes = Changes()
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        waiters = [tasks.create_task(changes.after(0)) for _ in range(3)]
        await asyncio.sleep(0)
        assert not any(waiter.done() for waiter in waiters)
        changes.bump()
    assert [waiter.result() for waiter in waiters] == [1, 1, 1]
