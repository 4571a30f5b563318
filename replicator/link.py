"""One WebSocket between two members, from its Hello to its end.

Laws: nothing is believed before a Hello that agrees with the certificate and with our roster; frames go up in the
order in which they came; the first malformed frame ends the link; silence ends it too, so a dead peer is noticed within
`silence_seconds_max`, and a living one that has nothing to say is kept by pings.
"""

import asyncio
import contextlib
import math
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from weakref import WeakSet

import aiohttp
from aiohttp import web

from anycastle.clock import Clock, SystemClock
from anycastle.errors import AnycastleError
from anycastle.replicator.link_frame import (
    PIECE_BYTES,
    WHOLE,
    Assembler,
    FrameError,
    common_version,
    decode,
    encode,
    hello_fault,
    urgent,
    version_fault,
)
from anycastle.replicator.message import Bodies, Entries, Hello, Message
from anycastle.replicator.outbox import Outbox
from anycastle.replicator.pace import Pace
from anycastle.replicator.packing import ZSTANDARD, Packing
from anycastle.replicator.settings import LinkSettings

Socket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse

UNSENT_BYTES = 64 * 1024
"""What may sit in the kernel's queue, out of reach of urgent frames."""
QUICK_PIECE_BYTES = 64 * 1024
"""Of bulk, on a link that took the last piece in QUICK_SECONDS: each piece costs both sides some 100 µs. No more than
may sit in the kernel's queue: that of a thin line takes the first pieces quickly, too, and a lease waits for them.
"""
QUICK_SECONDS = 0.01
CLOSE_SECONDS = 1.0
PINGS_PER_SILENCE = 3


class LinkFault(AnycastleError):
    """The peer broke the rules; `kind` is one word for counters."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def message_bytes_max(settings: LinkSettings) -> int:
    """The limit to give to aiohttp, which refuses a WebSocket message of exactly its limit: tag, frame and one more."""
    return settings.frame_bytes_max + 2


class Link:
    """One link; made for a socket whose peer's certificate named `member`."""

    def __init__(
        self,
        member: str,
        websocket: Socket,
        settings: LinkSettings,
        pace: Pace | None = None,
        clock: Clock | None = None,
    ) -> None:
        """`pace` limits what is bulky; without it there is no limit."""
        self.member = member
        self.version = 0
        """That both speak, once it is open."""
        self.unknown = 0
        """Messages of kinds that only the peer knows."""
        self._peer_is_newer = False
        self.saved_bytes = 0
        """That packing did not have to send."""
        self._pace = pace or Pace(None)
        self._clock = clock or SystemClock()
        self._bulk_at: float | None = None
        """When the next piece may go; None when none has asked."""
        self._packs = False
        self._packings = {False: Packing(), True: Packing()}
        """With bodies and without: one pays as a rule, the other seldom."""
        self._websocket = websocket
        self._settings = settings
        self._outbox = Outbox(queue_bytes_max=settings.queue_bytes_max)
        self._assembler = Assembler(frame_bytes_max=settings.frame_bytes_max)
        self._closing = asyncio.Event()
        self._scopes: set[asyncio.Timeout] = set()
        self._answers: WeakSet[aiohttp.ClientResponse] = WeakSet()
        self._reason = ""

    @property
    def certificate(self) -> bytes | None:
        """The peer's, in DER; None without TLS."""
        return der_of(self._websocket)

    @property
    def queued_bytes(self) -> int:
        return self._outbox.urgent_bytes + self._outbox.bulk_bytes

    async def open(self, hello: Hello, compatible: Callable[[Hello], str]) -> Hello:
        """Exchange Hellos; returns the peer's. Raises LinkFault, also when none comes in time."""
        _keep_kernel_queue_short(self._websocket)
        try:
            async with asyncio.timeout(self._settings.hello_timeout_seconds):
                self._outbox.put(encode(hello, frame_bytes_max=self._settings.frame_bytes_max), urgent=True)
                await self._send_next()
                theirs = await self._receive()
        except TimeoutError:
            raise LinkFault("hello", f"said no Hello within {self._settings.hello_timeout_seconds} s") from None
        if theirs is None:
            raise LinkFault("closed", "closed the link before its Hello")
        if fault := hello_fault(theirs, certified=self.member):
            raise LinkFault("hello", fault)
        assert isinstance(theirs, Hello)
        if fault := version_fault(hello, theirs):
            raise LinkFault("protocol", fault)
        self.version = common_version(hello, theirs)
        self._peer_is_newer = theirs.speaks()[1] > hello.speaks()[1]
        if fault := compatible(theirs):
            raise LinkFault("roster", fault)
        self._packs = ZSTANDARD in hello.packing and ZSTANDARD in theirs.packing
        return theirs

    def send(self, message: Message) -> bool:
        """Queue a message; False when its queue is full. Raises FrameError when it is longer than a frame may be."""
        frame = encode(message, frame_bytes_max=self._settings.frame_bytes_max)
        if not self._packs or not isinstance(message, Entries | Bodies) or not self._outbox.has_room(len(frame)):
            return self._outbox.put(frame, urgent=urgent(message))
        packed = self._packings[bool(message.bodies)].pack(frame)
        self.saved_bytes += len(frame) - len(packed) if packed is not None else 0
        return self._outbox.put(packed or frame, urgent=False, packed=packed is not None)

    async def run(self, on_message: Callable[[Message], None]) -> str:
        """Speak until the link ends; returns why it ended. Raises LinkFault when the peer broke the rules."""
        faults: list[LinkFault] = []
        try:
            async with asyncio.TaskGroup() as group:
                ends = (self._send_all(), self._receive_all(on_message), self._closing.wait())
                tasks = [group.create_task(end) for end in ends]
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in tasks:
                    task.cancel()
        except* LinkFault as caught:
            faults.extend(fault for fault in caught.exceptions if isinstance(fault, LinkFault))
        if faults:
            raise faults[0]
        return self._reason or "closed by the peer"

    def close(self, reason: str) -> None:
        """End the link from our side: `run` returns soon."""
        self._reason = self._reason or reason
        self._closing.set()

    @asynccontextmanager
    async def while_open(self) -> AsyncIterator[None]:
        """Something that has a point only as long as the link is there. Raises TimeoutError when it is lost."""
        async with asyncio.timeout(None) as scope:
            self._scopes.add(scope)
            try:
                yield
            finally:
                self._scopes.discard(scope)

    def close_with(self, answer: aiohttp.ClientResponse) -> None:
        """An answer that the peer is still sending ends when the link is lost, for the rest would not come either."""
        self._answers.add(answer)

    def lost(self) -> None:
        """Give up what is done `while_open`."""
        for scope in self._scopes:
            scope.reschedule(0.0)
        for answer in tuple(self._answers):
            if not answer.closed:
                answer.close()

    async def shut(self, fault: str = "") -> None:
        """Close the WebSocket, telling the peer what it did wrong, if anything."""
        code = aiohttp.WSCloseCode.POLICY_VIOLATION if fault else aiohttp.WSCloseCode.GOING_AWAY
        with contextlib.suppress(OSError, aiohttp.ClientError, TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._websocket.close(code=code, message=fault.encode()[:100])

    async def _send_all(self) -> None:
        ping_seconds = self._settings.silence_seconds_max / PINGS_PER_SILENCE
        try:
            while True:
                if await self._send_next():
                    continue
                held = max(0.0, self._bulk_at - self._clock.now()) if self._bulk_at is not None else math.inf
                try:
                    async with asyncio.timeout(min(ping_seconds, held)):
                        await self._outbox.filled()
                except TimeoutError:
                    if held > ping_seconds:
                        await self._websocket.ping()
        except (OSError, aiohttp.ClientError) as error:
            self._reason = self._reason or f"sending failed: {error}"

    async def _send_next(self) -> bool:
        if self._bulk_at is None and (count := self._outbox.next_bulk_bytes()):
            now = self._clock.now()
            self._bulk_at = now + self._pace.delay_first(count, now=now)
        due = self._bulk_at is not None and self._bulk_at <= self._clock.now()
        data = self._outbox.take(bulk=due)
        if data is None:
            return False
        if data[:1] == WHOLE:
            await self._websocket.send_bytes(data)
            return True
        self._bulk_at, began = None, self._clock.now()
        await self._websocket.send_bytes(data)
        quick = self._clock.now() - began < QUICK_SECONDS and self._pace.rate is None
        self._outbox.piece_bytes = min(2 * self._outbox.piece_bytes, QUICK_PIECE_BYTES) if quick else PIECE_BYTES
        return True

    async def _receive_all(self, on_message: Callable[[Message], None]) -> None:
        try:
            while (message := await self._receive()) is not None:
                if isinstance(message, Hello):
                    raise LinkFault("frame", "said Hello twice")
                on_message(message)
        except TimeoutError:
            self._reason = self._reason or f"silent for {self._settings.silence_seconds_max} s"

    async def _receive(self) -> Message | None:
        """The next message; None when the peer is gone."""
        try:
            while True:
                data = await self._receive_data()
                if data is None:
                    return None
                frame = self._assembler.feed(data)
                if frame is None:
                    continue
                message = decode(frame, from_newer=self._peer_is_newer)
                if message is not None:
                    return message
                self.unknown += 1
        except FrameError as error:
            raise LinkFault("frame", f"sent a bad frame: {error}") from error

    async def _receive_data(self) -> bytes | None:
        try:
            got = await self._websocket.receive(timeout=self._settings.silence_seconds_max)
        except (aiohttp.ClientError, ConnectionError):
            return None  # aiohttp answers pings by itself, and a peer that is going may not take the answer.
        match got.type:
            case aiohttp.WSMsgType.BINARY:
                data: bytes = got.data
                return data
            case aiohttp.WSMsgType.TEXT:
                raise FrameError("text, expected binary")
            case aiohttp.WSMsgType.ERROR if isinstance(got.data, aiohttp.WebSocketError):
                raise FrameError(str(got.data))
            case _:
                return None


def der_of(connection: Socket | web.BaseRequest) -> bytes | None:
    """The certificate that the peer showed in its handshake."""
    tls: ssl.SSLObject | None = connection.get_extra_info("ssl_object")
    return tls.getpeercert(binary_form=True) if tls is not None else None


def _keep_kernel_queue_short(websocket: Socket) -> None:
    connection: socket.socket | None = websocket.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
