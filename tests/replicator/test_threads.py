"""What a thread has begun is seen to its end."""

import asyncio
import threading

import pytest

from anycastle.replicator.threads import Stopped, Threads


async def test_results_and_errors_come_back() -> None:
    threads = Threads(1, "test")
    assert await threads.do(int, "7") == 7
    with pytest.raises(ValueError, match="invalid literal"):
        await threads.do(int, "x")
    threads.close()


async def test_a_cancelled_caller_waits_for_what_has_begun() -> None:
    threads = Threads(1, "test")
    begun, go, steps = threading.Event(), threading.Event(), []

    def work() -> None:
        begun.set()
        go.wait()
        steps.append("worked")

    async def caller() -> None:
        try:
            await threads.do(work)
        finally:
            steps.append("left")

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(caller())
        await asyncio.to_thread(begun.wait)
        task.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert steps == []
        go.set()
    assert steps == ["worked", "left"]
    threads.close()


async def test_what_has_not_begun_is_taken_back() -> None:
    threads = Threads(1, "test")
    go, ran = threading.Event(), []
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(threads.do(go.wait))
        await asyncio.sleep(0)
        waiting = tasks.create_task(threads.do(ran.append, 1))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        go.set()
    threads.close()
    assert ran == []


async def test_after_the_end_nothing_is_begun() -> None:
    threads = Threads(1, "test")
    threads.close()
    threads.close()
    with pytest.raises(Stopped):
        await threads.do(int)
