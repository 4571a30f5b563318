"""The announcer as a process that somebody else's ExaBGP runs (`process … { run anycastle announce --as-process … }`).

Law: ExaBGP and its neighbours belong to somebody else, so they are asked for, never configured: `show neighbor summary`
says who they are, again every few seconds, and each is addressed by its name. Standard input is always read, since
ExaBGP stops altogether when it is not; after a silence nothing is said until ExaBGP has been quiet for long enough that
no late answer is taken for that of another command. This never ends by itself while ExaBGP lives: six ends in a minute
would end ExaBGP.
"""

import asyncio
import contextlib
import logging
import sys
from collections.abc import Callable
from dataclasses import replace

from anycastle.bgp import exabgp
from anycastle.bgp.conversation import REPEAT_SECONDS, Conversation
from anycastle.bgp.link import LINE_BYTES_MAX, Link, LinkLostError, SilenceError
from anycastle.bgp.route import Wanted
from anycastle.bgp.settings import Address, BgpSettings, Peer
from anycastle.bgp.status import PeerStatus
from anycastle.clock import Clock

log = logging.getLogger("anycastle.bgp.api_process")

QUIET_SECONDS = 10.0
"""Of ExaBGP after an unanswered command, before the next."""
CLOSE_SECONDS = 3.0


class ApiProcess:
    """Speaks to the ExaBGP at the other end of standard input and output."""

    def __init__(
        self,
        settings: BgpSettings,
        *,
        clock: Clock,
        neighbors: frozenset[Address] = frozenset(),
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        """`neighbors` are the only ones that are told; none means all that ExaBGP has."""
        self._settings = replace(settings, peers=())
        self._only = neighbors
        self.conversation = Conversation(self._settings, clock=clock, on_change=on_change)
        self._stop = asyncio.Event()
        self._ended = asyncio.Event()
        self._running = False
        self.unanswered_commands = 0

    def change_routes(self, routes: tuple[Wanted, ...]) -> None:
        self.conversation.change_routes(routes)

    def announced(self) -> frozenset[str]:
        return self.conversation.announced()

    def status(self) -> tuple[PeerStatus, ...]:
        return self.conversation.status()

    async def close(self, *, withdraw: bool = True) -> None:
        """Withdraws, waits for the acknowledgements (bounded); `run` returns. ExaBGP goes on."""
        if withdraw and self._running:
            await self.conversation.withdraw_all(within_seconds=CLOSE_SECONDS)
        self._stop.set()
        if self._running:
            await self._ended.wait()

    async def run(self) -> None:
        """Until `close`, or until ExaBGP is gone."""
        reader, writer = await _standard_streams()
        self._running = True
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._converse(reader, writer)), group.create_task(self._repeat())]
                await self._stop.wait()
                for task in tasks:
                    task.cancel()
        finally:
            self._running = False
            self._ended.set()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not reader.at_eof():
            self.conversation.begin()
            try:
                await Link(reader, writer, self._hear, beats=False).run(self.conversation.talk)
            except* SilenceError as lost:
                self.unanswered_commands += 1
                log.warning("%s; expected exabgp.api.ack = true, which is its default", lost.exceptions[0])
            except* (LinkLostError, OSError) as lost:
                log.info("conversation with ExaBGP ended: %s", lost.exceptions[0])
            finally:
                self.conversation.end("ExaBGP does not answer")
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise asyncio.CancelledError  # It came together with an error of the link, which hid it.
            await _quiet(reader)
        log.info("ExaBGP is gone")
        self._stop.set()

    async def _repeat(self) -> None:
        while True:
            await asyncio.sleep(REPEAT_SECONDS)
            self.conversation.repeat()

    def _hear(self, answer: exabgp.Answer) -> None:
        if isinstance(answer, exabgp.Sessions):
            self._meet(answer.neighbors)
        self.conversation.hear(answer)

    def _meet(self, neighbors: tuple[exabgp.Neighbor, ...]) -> None:
        """The neighbours are new or others: all is told anew."""
        ours = [each for each in neighbors if not self._only or each.address in self._only]
        systems = {each.local_as for each in ours}
        if len(systems) > 1:
            # Its number stands in the paths that we prepend; to guess which would be to lie to a router.
            log.error("neighbours of several local AS numbers %s: expected one, see --neighbor", sorted(systems))
            ours = []
        peers = tuple(Peer(address=each.address, asn=each.asn, local_address=each.local_address) for each in ours)
        if peers != self._settings.peers:
            log.info("ExaBGP has %d of our neighbours: %s", len(peers), ", ".join(str(p.address) for p in peers))
            local_as = ours[0].local_as if ours else self._settings.local_as
            self._settings = replace(self._settings, peers=peers, local_as=local_as)
            self.conversation.meet(self._settings)


async def _standard_streams() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=LINE_BYTES_MAX)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    transport, protocol = await loop.connect_write_pipe(lambda: asyncio.streams.FlowControlMixin(loop=loop), sys.stdout)
    return reader, asyncio.StreamWriter(transport, protocol, None, loop)


async def _quiet(reader: asyncio.StreamReader) -> None:
    """Reads and forgets until nothing has come for a while."""
    with contextlib.suppress(TimeoutError):
        while not reader.at_eof():
            async with asyncio.timeout(QUIET_SECONDS):
                await reader.read(LINE_BYTES_MAX)
