"""What waits to go out on one link.

Laws: urgent frames overtake bulk ones, and inside each kind the order is kept; a bulk frame leaves in pieces, so an
urgent one waits for at most one piece; each kind is bounded in bytes, and what does not fit is the sender's to keep.
"""

import asyncio
from collections import deque

from anycastle.replicator.link_frame import LAST, PIECE, PIECE_BYTES, WHOLE


class Outbox:
    """Two queues of encoded frames for one peer."""

    def __init__(self, *, queue_bytes_max: int) -> None:
        self._queue_bytes_max = queue_bytes_max
        self._urgent: deque[bytes] = deque()
        self._bulk: deque[bytes] = deque()
        self._offset = 0  # of the first bulk frame: how much of it has left
        self._filled = asyncio.Event()
        self.urgent_bytes = 0
        self.bulk_bytes = 0

    def put(self, frame: bytes, *, urgent: bool) -> bool:
        """Queue one frame; False when its queue is full. An empty queue takes a frame of any length."""
        waiting = self.urgent_bytes if urgent else self.bulk_bytes
        if waiting and waiting + len(frame) > self._queue_bytes_max:
            return False
        if urgent:
            self._urgent.append(frame)
            self.urgent_bytes += len(frame)
        else:
            self._bulk.append(frame)
            self.bulk_bytes += len(frame)
        self._filled.set()
        return True

    def take(self) -> bytes | None:
        """The next WebSocket message to send; None when nothing waits."""
        if self._urgent:
            frame = self._urgent.popleft()
            self.urgent_bytes -= len(frame)
            return WHOLE + frame
        if not self._bulk:
            self._filled.clear()
            return None
        frame = self._bulk[0]
        piece = frame[self._offset : self._offset + PIECE_BYTES]
        self._offset += len(piece)
        self.bulk_bytes -= len(piece)
        if self._offset < len(frame):
            return PIECE + piece
        self._bulk.popleft()
        self._offset = 0
        return LAST + piece

    async def filled(self) -> None:
        """Wait until something may be there to take."""
        await self._filled.wait()
