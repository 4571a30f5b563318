"""One job per path, the wanted first, the failed later, and bodies only so far as they fit."""

import asyncio
import math

from anycastle.replicator import landing_queue
from anycastle.replicator.landing_queue import Job, Queue
from tests.replicator.tree_values import file_entry


def job(path: bytes, seq: int = 1, body: bytes | None = None) -> Job:
    return Job(file_entry(path, seq=seq), body)


def taken(queue: Queue) -> list[tuple[bytes, int]]:
    jobs = iter(queue.take, None)
    return [(each.entry.path, each.entry.seq) for each in jobs]


def test_in_order_of_arrival_but_the_wanted_first() -> None:
    queue = Queue()
    for path in (b"a", b"b", b"c"):
        queue.put(job(path))
    queue.want(b"c")
    queue.want(b"never announced")
    assert queue.wanted == {b"c": None}, "wishes for nothing are not kept"
    assert taken(queue) == [(b"c", 1), (b"a", 1), (b"b", 1)]


def test_a_newer_entry_takes_the_place_of_an_older() -> None:
    queue = Queue()
    queue.put(job(b"a", 1))
    queue.put(job(b"a", 2))
    queue.put_back(job(b"a", 1), 5.0)
    assert taken(queue) == [(b"a", 2)]
    queue.put_back(job(b"a", 1), 5.0)
    queue.put(job(b"a", 3))
    queue.revive(now=9.0)
    assert taken(queue) == [(b"a", 3)]
    assert len(queue) == 0


def test_what_failed_waits_until_due_or_wanted() -> None:
    queue = Queue()
    queue.put_back(job(b"a"), 5.0)
    queue.put_back(job(b"b"), 6.0)
    queue.revive(now=4.0)
    assert taken(queue) == []
    queue.want(b"b")
    assert taken(queue) == [(b"b", 1)]
    queue.revive(now=5.0)
    assert taken(queue) == [(b"a", 1)]


def test_all_are_ready_at_once_and_wait_shortly_again() -> None:
    queue = Queue()
    failed = job(b"a", 1)
    failed.retry_seconds = landing_queue.RETRY_SECONDS_MAX
    queue.put_back(failed, math.inf)
    queue.hasten_all()
    assert failed.retry_seconds == landing_queue.RETRY_SECONDS_MIN
    assert taken(queue) == [(b"a", 1)]


def test_bodies_are_bounded_and_counted_out_again() -> None:
    queue = Queue()
    half = bytes(landing_queue.BODIES_BYTES_MAX // 2 + 1)
    queue.put(job(b"a", body=half))
    queue.put(job(b"b", body=half))
    assert queue.ready[b"b"].body is None, "it is fetched when its turn comes"
    queue.put(job(b"a", 2))
    assert queue.body_bytes == 0
    queue.put_back(job(b"c", body=half), 1.0)
    queue.revive(now=2.0)
    assert len(taken(queue)) == 3
    assert queue.body_bytes == 0


async def test_a_worker_for_the_wanted_takes_nothing_else() -> None:
    queue = Queue()
    async with asyncio.TaskGroup() as tasks:
        wanted = tasks.create_task(queue.next(wanted_only=True))
        await asyncio.sleep(0)
        queue.put(job(b"a"))
        queue.put(job(b"b"))
        await asyncio.sleep(0)
        assert not wanted.done()
        assert (await queue.next()).entry.path == b"a"
        queue.want(b"b")
    assert wanted.result().entry.path == b"b"


def test_what_follows_comes_along_up_to_the_first_that_needs_more_than_is_here() -> None:
    queue = Queue()
    for path in (b"a", b"b", b"c"):
        queue.put(job(path, body=b"x"))
    queue.put(job(b"far"))
    queue.put(job(b"d", body=b"x"))
    first = queue.take()
    assert first is not None
    assert [each.entry.path for each in queue.take_more(lambda each: each.light)] == [b"b", b"c"]
    assert queue.take_more(lambda each: each.light) == []
    assert taken(queue) == [(b"far", 1), (b"d", 1)]
    assert queue.body_bytes == 0


def test_a_batch_is_bounded_in_jobs_and_bytes_and_takes_the_wanted_first() -> None:
    queue = Queue()
    for number in range(2 * landing_queue.BATCH_JOBS_MAX):
        queue.put(job(b"%d" % number, body=b"x"))
    queue.want(b"77")
    more = queue.take_more(lambda each: each.light)
    assert len(more) == landing_queue.BATCH_JOBS_MAX - 1
    assert more[0].entry.path == b"77"
    large = bytes(landing_queue.BATCH_BYTES_MAX // 2)
    queue = Queue()
    for path in (b"a", b"b", b"c"):
        queue.put(Job(file_entry(path, large), large))
    assert len(queue.take_more(lambda each: each.light)) == 2


def test_the_smallest_first_and_the_oldest_every_fourth_time() -> None:
    queue = Queue(smallest_first=True)
    for size in (9, 5, 7, 1, 8, 2, 6, 3, 4):
        queue.put(Job(file_entry(b"%d" % size, bytes(size))))
    queue.want(b"8")
    assert [int(path) for path, _ in taken(queue)] == [8, 1, 2, 3, 9, 4, 5, 6, 7]


def test_a_newer_entry_has_its_own_size() -> None:
    queue = Queue(smallest_first=True)
    queue.put(Job(file_entry(b"a", bytes(1))))
    queue.put(Job(file_entry(b"b", bytes(5))))
    queue.put(Job(file_entry(b"a", bytes(9), seq=2)))
    assert taken(queue) == [(b"b", 1), (b"a", 2)]
    queue.put_back(Job(file_entry(b"c", bytes(3))), 5.0)
    queue.put(Job(file_entry(b"d", bytes(4))))
    queue.revive(now=5.0)
    assert taken(queue) == [(b"c", 1), (b"d", 1)]
