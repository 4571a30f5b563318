"""Two bounded queues: urgent before bulk, order kept, nothing lost."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from anycastle.replicator.link_frame import LAST, PIECE, PIECE_BYTES, WHOLE, Assembler
from anycastle.replicator.outbox import Outbox

FRAMES = st.lists(st.tuples(st.booleans(), st.integers(1, 3 * PIECE_BYTES), st.booleans()), max_size=20)


def drain(outbox: Outbox) -> list[bytes]:
    taken = []
    while (data := outbox.take()) is not None:
        taken.append(data)
    return taken


def test_urgent_waits_for_one_piece_at_most() -> None:
    outbox = Outbox(queue_bytes_max=10**6)
    bulk = bytes(range(256)) * 256
    assert outbox.put(bulk, urgent=False)
    first = outbox.take()
    assert outbox.put(b"lease", urgent=True)
    rest = drain(outbox)
    assert first == PIECE + bulk[:PIECE_BYTES]
    assert rest[0] == WHOLE + b"lease"
    assert rest[-1] == LAST + bulk[-PIECE_BYTES:]


def test_pieces_are_longer_where_the_link_is_quick() -> None:
    outbox = Outbox(queue_bytes_max=10**6)
    bulk = bytes(range(256)) * 256
    assert outbox.put(bulk, urgent=False)
    outbox.piece_bytes = 2 * PIECE_BYTES
    assert outbox.next_bulk_bytes() == 2 * PIECE_BYTES
    assert outbox.take() == PIECE + bulk[: 2 * PIECE_BYTES]
    outbox.piece_bytes = PIECE_BYTES
    assert outbox.take() == PIECE + bulk[2 * PIECE_BYTES : 3 * PIECE_BYTES]


def test_each_queue_is_bounded_on_its_own() -> None:
    outbox = Outbox(queue_bytes_max=100)
    assert outbox.put(b"x" * 500, urgent=False)  # alone in its queue, any length
    assert not outbox.put(b"y", urgent=False)
    assert outbox.put(b"z" * 60, urgent=True)
    assert not outbox.put(b"z" * 60, urgent=True)
    assert outbox.put(b"z" * 40, urgent=True)
    assert (outbox.bulk_bytes, outbox.urgent_bytes) == (500, 100)
    assert len(drain(outbox)) == 3
    assert (outbox.bulk_bytes, outbox.urgent_bytes) == (0, 0)
    assert outbox.put(b"y", urgent=False)


@given(FRAMES)
def test_everything_arrives_in_the_order_of_its_kind(frames: list[tuple[bool, int, bool]]) -> None:
    outbox = Outbox(queue_bytes_max=10**9)
    assembler = Assembler(frame_bytes_max=10**9)
    sent: dict[bool, list[bytes]] = {True: [], False: []}
    got: dict[bool, list[bytes]] = {True: [], False: []}

    def pass_on(data: bytes) -> None:
        frame = assembler.feed(data)
        if frame is not None:
            got[data[:1] == WHOLE].append(frame)

    for number, (urgent, length, take) in enumerate(frames):
        frame = (b"%04d" % number) * (length // 4 + 1)
        assert outbox.put(frame, urgent=urgent)
        sent[urgent].append(frame)
        if take:
            data = outbox.take()
            assert data is not None
            pass_on(data)
    for data in drain(outbox):
        pass_on(data)
    assert got == sent


async def test_filled_wakes() -> None:
    outbox = Outbox(queue_bytes_max=100)
    assert outbox.take() is None
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(outbox.filled())
        await asyncio.sleep(0)
        assert not waiting.done()
        outbox.put(b"x", urgent=True)
        await asyncio.wait_for(waiting, 5)
