"""One worker process and the socketpair to it, from the control process's side.

Law: at most one newest view and one newest set of tables wait for the worker; writing is done by one task, so that
nobody else ever waits for a slow worker. A worker that is started anew first gets what is in force now, whole; later
views go to it as what is different from the one that it has.
"""

import asyncio
import contextlib
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from collections import Counter
from collections.abc import Callable

import msgspec

from anycastle.clock import Clock
from anycastle.dns.bind import WorkerSockets
from anycastle.dns.errors import DnsError
from anycastle.dns.frame import FrameBuffer, Kind, Report, Setup, encode_frame
from anycastle.dns.settings import DnsSettings
from anycastle.dns.view_change import difference
from anycastle.health.view import View

STOP_SECONDS_MAX = 2.0
"""A worker whose control socket closes answers what it was asked and ends; one that does not is killed."""
READ_BYTES = 65536
BEAT_SECONDS = 1.0
CONTROL_SILENCE_SECONDS_MAX = 5.0
"""Whoever has not been heard for so long hangs, and the edge, the same process, with it. Content routes go then too."""
PIECE_BYTES = 1 << 20
"""Sent in one go: a worker that takes piece after piece of large tables is alive."""

_GAUGES = frozenset({"tcp_connections"})
"""Counts of what is now: gone when the worker is."""


class WorkerLink:
    """What is wanted of one worker, and what it reports."""

    def __init__(self, number: int, sockets: WorkerSockets, settings: DnsSettings, *, clock: Clock) -> None:
        self.number = number
        self._clock = clock
        self._setup = Setup(
            number=number,
            udp_descriptors=tuple(sock.fileno() for sock in sockets.udp),
            tcp_descriptors=tuple(sock.fileno() for sock in sockets.tcp),
            tcp_connections_max=max(1, settings.tcp_connections_max // settings.workers),
            tcp_connections_per_client_max=-(-settings.tcp_connections_per_client_max // settings.workers),
            tcp_idle_seconds=settings.tcp_idle_seconds,
            responses_per_second_max=settings.responses_per_second_max,
            silence_seconds_max=CONTROL_SILENCE_SECONDS_MAX,
        )
        self._tables = b""
        self._view: View | None = None
        self._view_sent: View | None = None
        """What the present process has."""
        self._overlay = b""
        self._tables_sent = 0
        self._tables_taken = 0
        """Both of the present process."""
        self._unsent: dict[Kind, bytes] = {}
        """SETUP, TABLES and RTT."""
        self._wanted = asyncio.Event()
        self._process: Process | None = None
        self._control: socket.socket | None = None
        self._frames = FrameBuffer()
        self._reported_at: float | None = None
        self._taken_at = 0.0
        """When the worker last took a piece of what is sent."""
        self._counters: dict[str, int] = {}
        self._retired: Counter[str] = Counter()

    def want_tables(self, payload: bytes) -> None:
        self._tables = self._unsent[Kind.TABLES] = payload
        self._overlay = b""
        self._unsent.pop(Kind.RTT, None)  # it was made over the former map
        self._wanted.set()

    def want_overlay(self, payload: bytes) -> None:
        """What is measured, laid over the map of the tables last given."""
        self._overlay = self._unsent[Kind.RTT] = payload
        self._wanted.set()

    def want_view(self, view: View) -> None:
        self._view = view
        self._wanted.set()

    def in_force(self) -> bool:
        """The worker answers from the newest tables."""
        return Kind.TABLES not in self._unsent and self._tables_taken == self._tables_sent > 0

    def counters(self) -> Counter[str]:
        """Since the beginning, over all processes that this worker has had."""
        total = Counter(self._retired)
        total.update(self._counters)
        return total

    def healthy(self, silence_seconds_max: float, *, now: float) -> str:
        """The empty string, or what is wrong with this worker."""
        if self._process is None:
            return f"DNS worker {self.number} is not running"
        if self._process.returncode is not None:
            return f"DNS worker {self.number} ended with status {self._process.returncode}"
        if self._reported_at is None:
            return f"DNS worker {self.number} is starting"
        silent_seconds = now - self._reported_at
        if silent_seconds > silence_seconds_max:
            return f"DNS worker {self.number} has not reported for {silent_seconds:.1f} s"
        return ""

    async def start(self) -> None:
        """Starts the process; `wait_ready` or `serve` then talk to it. Raises OSError."""
        self._frames = FrameBuffer()
        self._reported_at = None
        self._tables_sent = self._tables_taken = 0
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        inherited = (theirs.fileno(), *self._setup.udp_descriptors, *self._setup.tcp_descriptors)
        try:
            # -P: a folder named `dns` in the working directory must not hide the one that is installed.
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "anycastle.dns.worker", str(theirs.fileno())),
                stdin=DEVNULL,
                pass_fds=inherited,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._control = ours
        self._unsent = {Kind.SETUP: msgspec.msgpack.encode(self._setup), Kind.TABLES: self._tables}
        if self._overlay:
            self._unsent[Kind.RTT] = self._overlay
        self._view_sent = None
        self._wanted.set()

    async def wait_ready(self, moved: Callable[[], None]) -> None:
        """Sends everything, telling of each piece that is taken, and waits for the first report.

        Raises DnsError when the process ends instead.
        """
        with contextlib.suppress(OSError):
            await self._send_unsent(moved)
        while self._reported_at is None:
            if not await self._receive():
                raise DnsError(f"DNS worker {self.number} ended while starting; its own message is in the log")

    async def serve(self, silence_seconds_max: float) -> str:
        """Talks to the worker until it ends or falls silent; returns what happened."""
        if self._control is None:
            return "could not be started"
        async with asyncio.TaskGroup() as group:
            sender = group.create_task(self._send_forever())
            try:
                while True:
                    try:
                        async with asyncio.timeout(silence_seconds_max):
                            if not await self._receive():
                                return "ended"
                    except TimeoutError:
                        if self._clock.now() - self._taken_at > silence_seconds_max:
                            return f"was silent for {silence_seconds_max:.0f} s"
            finally:
                sender.cancel()

    async def _send_forever(self) -> None:
        with contextlib.suppress(OSError):  # the worker is gone; the receiving side notices too
            while True:
                try:
                    async with asyncio.timeout(BEAT_SECONDS):
                        await self._wanted.wait()
                except TimeoutError:
                    await self._send(Kind.BEAT, b"", lambda: None)
                else:
                    await self._send_unsent()

    async def _send_unsent(self, moved: Callable[[], None] = lambda: None) -> None:
        self._wanted.clear()
        # Looked at anew each time: an overlay must not overtake tables that were wanted while others were sent.
        while kinds := [kind for kind in (Kind.SETUP, Kind.TABLES, Kind.RTT) if kind in self._unsent]:
            self._tables_sent += kinds[0] is Kind.TABLES
            await self._send(kinds[0], self._unsent.pop(kinds[0]), moved)
        view, sent = self._view, self._view_sent
        if view is not None and view is not sent:
            self._view_sent = view
            if sent is None:
                await self._send(Kind.VIEW, msgspec.msgpack.encode(view), moved)
            else:
                await self._send(Kind.CHANGE, msgspec.msgpack.encode(difference(sent, view)), moved)

    async def _send(self, kind: Kind, payload: bytes, moved: Callable[[], None]) -> None:
        """In pieces that are larger than what the kernel keeps: when one is gone, the worker has read."""
        frame = memoryview(encode_frame(kind, payload))
        for start in range(0, len(frame), PIECE_BYTES):
            if self._control is None:
                return
            await asyncio.get_running_loop().sock_sendall(self._control, frame[start : start + PIECE_BYTES])
            if start + PIECE_BYTES <= len(frame):
                self._taken_at = self._clock.now()
                moved()

    async def _receive(self) -> bool:
        """One read; False when the worker is gone."""
        assert self._control is not None
        try:
            data = await asyncio.get_running_loop().sock_recv(self._control, READ_BYTES)
        except OSError:
            data = b""
        for kind, payload in self._frames.feed(data):
            assert kind is Kind.REPORT, "workers only report"
            report = msgspec.msgpack.decode(payload, type=Report)
            self._counters, self._tables_taken = report.counters, report.tables_taken
            self._reported_at = self._clock.now()
        return bool(data)

    def hang_up(self) -> None:
        """Tells the worker to end."""
        if self._control is not None:
            self._control.close()
            self._control = None

    async def stop(self, seconds_max: float = STOP_SECONDS_MAX) -> None:
        """Ends the process, by force if it must be. May be called twice."""
        self.hang_up()
        self._retired.update({name: count for name, count in self._counters.items() if name not in _GAUGES})
        self._counters = {}
        process, self._process = self._process, None
        if process is None:
            return
        try:
            async with asyncio.timeout(seconds_max):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
