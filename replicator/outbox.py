"""What waits to go out on one link.

Laws: urgent frames overtake bulk ones, and inside each kind the order is kept; a bulk frame leaves in pieces, so an
urgent one waits for at most one piece; each kind is bounded in bytes, and what does not fit is the sender's to keep.
"""

import asyncio
from collections import deque

from anycastle.replicator.link_frame import LAST, LAST_PACKED, PIECE, PIECE_BYTES, WHOLE


class Outbox:
    """Two queues of encoded frames for one peer."""

    def __init__(self, *, queue_bytes_max: int) -> None:
        self._queue_bytes_max = queue_bytes_max
        self._urgent: deque[bytes] = deque()
        self._bulk: deque[tuple[bytes, bytes]] = deque()  # with the tag of its last piece
        self._offset = 0  # of the first bulk frame: how much of it has left
        self._filled = asyncio.Event()
        self.piece_bytes = PIECE_BYTES
        """How much of a bulk frame leaves at a time."""
        self.urgent_bytes = 0
        self.bulk_bytes = 0

    def put(self, frame: bytes, *, urgent: bool, packed: bool = False) -> bool:
        """Queue one frame; False when its queue is full. An empty queue takes a frame of any length."""
        if not self.has_room(len(frame), urgent=urgent):
            return False
        if urgent:
            self._urgent.append(frame)
            self.urgent_bytes += len(frame)
        else:
            self._bulk.append((frame, LAST_PACKED if packed else LAST))
            self.bulk_bytes += len(frame)
        self._filled.set()
        return True

    def has_room(self, count: int, *, urgent: bool = False) -> bool:
        """Whether `put` would take a frame so long."""
        waiting = self.urgent_bytes if urgent else self.bulk_bytes
        return not waiting or waiting + count <= self._queue_bytes_max

    def next_bulk_bytes(self) -> int:
        """How long the next piece is of what is bulky; 0 when nothing is there."""
        return min(self.piece_bytes, len(self._bulk[0][0]) - self._offset) if self._bulk else 0

    def take(self, *, bulk: bool = True) -> bytes | None:
        """The next WebSocket message to send; None when nothing waits that may go. Not `bulk`: only what is urgent."""
        if self._urgent:
            frame = self._urgent.popleft()
            self.urgent_bytes -= len(frame)
            return WHOLE + frame
        if not self._bulk or not bulk:
            self._filled.clear()
            return None
        frame, last = self._bulk[0]
        piece = frame[self._offset : self._offset + self.piece_bytes]
        self._offset += len(piece)
        self.bulk_bytes -= len(piece)
        if self._offset < len(frame):
            return PIECE + piece
        self._bulk.popleft()
        self._offset = 0
        return last + piece

    async def filled(self) -> None:
        """Wait until something may be there to take."""
        await self._filled.wait()
