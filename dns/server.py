"""The nameserver as the control process sees it: sockets bound once, worker processes that read them, frames between.

Law: everything is bound before anything is started, and a failed start leaves nothing behind. The sockets belong to
the control process, so queries that come while a worker is restarted wait in the kernel. `publish` never waits: a slow
worker gets the newest view when it is ready for one, not all of them. Workers outlive `run`: they answer from what they
last knew until `close`, which is how the next process takes over the very same sockets without losing a query.

    start -> run (supervises, until cancelled) -> close
"""

import asyncio
import contextlib
import logging
import pickle
import socket
from collections import Counter

from anycastle.clock import Clock
from anycastle.dns.bind import Inherited, WorkerSockets, bind_all, none_inherited
from anycastle.dns.errors import DnsError
from anycastle.dns.link import STOP_SECONDS_MAX, WorkerLink
from anycastle.dns.notify import Notifier
from anycastle.dns.settings import DnsSettings
from anycastle.dns.tables import Tables
from anycastle.health.view import View

START_SECONDS_MAX = 30.0
"""For an interpreter to start on a busy machine; anew with each piece of the tables that a worker takes."""
HEARTBEAT_SECONDS_MAX = 4.0
"""Workers report each second; three may be lost before anybody is told."""
HUNG_SECONDS = 30.0
"""A worker that neither reports nor takes anything for this long is killed."""
RESTART_SECONDS_MIN = 0.1
RESTART_SECONDS_MAX = 5.0

_log = logging.getLogger("anycastle.dns.server")


class DnsServer:
    """UDP and TCP on all addresses of the settings."""

    def __init__(self, settings: DnsSettings, *, clock: Clock, inherited: Inherited = none_inherited) -> None:
        self._settings = settings
        self._inherited = inherited
        self._clock = clock
        self._addresses: tuple[tuple[str, int], ...] = ()
        self._sockets: tuple[WorkerSockets, ...] = ()
        self._links: tuple[WorkerLink, ...] = ()
        self._restarts = 0
        self._notifier = Notifier(
            tuple(address for address, _ in settings.listen), lambda: all(link.in_force() for link in self._links)
        )

    @property
    def addresses(self) -> tuple[tuple[str, int], ...]:
        """What is really listened on, in the order of the settings; empty before `start`."""
        return self._addresses

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """All that is listened on, for the process that comes after; empty before `start`."""
        return tuple(sock for each in self._sockets for sock in (*each.udp, *each.tcp))

    async def start(self, tables: Tables, view: View) -> None:
        """Binds, starts the workers, and returns when all of them answer. Raises DnsError with nothing left behind."""
        self._addresses, self._sockets = bind_all(self._settings.listen, self._settings.workers, self._inherited)
        self._links = tuple(
            WorkerLink(number, sockets, self._settings, clock=self._clock)
            for number, sockets in enumerate(self._sockets)
        )
        await self.replace(tables)
        self.publish(view)
        try:
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(START_SECONDS_MAX) as limit:
                for link in self._links:
                    await link.start()
                for link in self._links:
                    await link.wait_ready(lambda: limit.reschedule(loop.time() + START_SECONDS_MAX))
        except TimeoutError:
            await self.close()
            raise DnsError(f"the DNS workers did not begin to answer within {START_SECONDS_MAX:.0f} s") from None
        except OSError as error:
            await self.close()
            raise DnsError(f"cannot start a DNS worker: {error.strerror}") from None
        except BaseException:
            await self.close()
            raise

    def publish(self, view: View) -> None:
        """The next view, for all workers."""
        for link in self._links:
            link.want_view(view)

    def publish_measured(self, payload: bytes) -> None:
        """An overlay over the map of the tables last given, for all workers; `replace` takes it off."""
        for link in self._links:
            link.want_overlay(payload)

    async def replace(self, tables: Tables) -> None:
        """New tables (a reload), for all workers; then secondaries are told."""
        payload = await asyncio.to_thread(_pickled, tables)
        for link in self._links:
            link.want_tables(payload)
        self._notifier.want(tables)

    def healthy(self) -> str:
        """The empty string, or why this nameserver does not answer as it should."""
        if not self._links:
            return "the nameserver is not started"
        now = self._clock.now()
        for link in self._links:
            reason = link.healthy(HEARTBEAT_SECONDS_MAX, now=now)
            if reason:
                return reason
        return ""

    def counters(self) -> dict[str, int]:
        """Sums over all workers, those that died included; at most about a second old."""
        total: Counter[str] = Counter()
        for link in self._links:
            total.update(link.counters())
        total["worker_restarts"] = self._restarts
        total["udp_dropped"] = sum(sockets.udp_dropped() for sockets in self._sockets)
        total.update(self._notifier.counters)
        return dict(total)

    async def run(self) -> None:
        """Carries views and tables to the workers, and starts anew those that die. Ends only by cancellation."""
        async with asyncio.TaskGroup() as group:
            for link in self._links:
                group.create_task(self._supervise(link))
            group.create_task(self._notifier.run())

    async def _supervise(self, link: WorkerLink) -> None:
        pause = RESTART_SECONDS_MIN
        while True:
            began = self._clock.now()
            reason = await link.serve(HUNG_SECONDS)
            await link.stop()
            if self._clock.now() - began > HUNG_SECONDS:
                pause = RESTART_SECONDS_MIN
            self._restarts += 1
            _log.error("DNS worker %d %s; it is started anew in %.1f s", link.number, reason, pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, RESTART_SECONDS_MAX)
            with contextlib.suppress(OSError):  # out of processes or memory: tried again after the next pause
                await link.start()

    async def close(self, *, seconds_max: float = STOP_SECONDS_MAX) -> None:
        """Ends the workers, once they have answered, and gives the ports back. May be called twice.

        `seconds_max` is for clients over TCP that are slow, or in the middle of a transfer.
        """
        for link in self._links:
            link.hang_up()
        for link in self._links:
            await link.stop(seconds_max)
        for sockets in self._sockets:
            sockets.close()
        self._links = ()
        self._sockets = ()


class _Pieces:
    """A file for the pickler. Written in Python on purpose: between its calls other threads get their turn."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def write(self, piece: bytes) -> int:
        self.pieces.append(bytes(piece))
        return len(piece)


def _pickled(tables: Tables) -> bytes:
    """`pickle.dumps` would hold all threads for the seconds that a big zone takes."""
    file = _Pieces()
    pickle.Pickler(file, pickle.HIGHEST_PROTOCOL).dump(tables)
    return b"".join(file.pieces)
