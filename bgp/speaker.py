"""Puts routes on the wire: runs ExaBGP, talks to it through the bridge, and knows what each router was told.

Law: what is said is `anycastle.bgp.conversation`'s; this sees to it that there is somebody to talk to. A prefix is
written down before it is told for the first time, so that the next run, and the dead man in the bridge, can take it
away.
"""

import asyncio
import logging
import socket
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from anycastle.bgp import exabgp
from anycastle.bgp.conversation import REPEAT_SECONDS, Conversation
from anycastle.bgp.link import LINE_BYTES_MAX, Link, LinkLostError, SilenceError
from anycastle.bgp.process import ExabgpProcess, program
from anycastle.bgp.route import BgpError, Wanted
from anycastle.bgp.rundir import CONFIGURATION, SOCKET, WITHDRAWS, RunDirectory, account
from anycastle.bgp.settings import BgpSettings, Prefix
from anycastle.bgp.status import PeerStatus
from anycastle.clock import Clock

log = logging.getLogger("anycastle.bgp.speaker")

DEAD_MAN_SECONDS = 5.0
"""The bridge withdraws routes when we are silent this long (`RouteRule.kept_while_hung`): near the term of a lease."""
SILENCES_MAX = 2
"""So many unanswered commands in a row mean that ExaBGP hangs and is killed."""
LINK_SECONDS = 15.0
"""ExaBGP without its bridge for this long is killed: nobody can tell it anything."""
SILENT_LINK_SECONDS = 3.0
"""So it is when the bridge had been there and said nothing more: one that lives is back in a tenth of a second."""
CLOSE_SECONDS = 3.0

_BRIDGE = Path(__file__).resolve().with_name("bridge.py")


class Speaker:
    """`set_routes` says what is wanted, `run` makes it so until `close`."""

    def __init__(
        self,
        settings: BgpSettings,
        *,
        clock: Clock,
        on_change: Callable[[], None] = lambda: None,
        dead_man_seconds: float = DEAD_MAN_SECONDS,
    ) -> None:
        """Raises `BgpError` for settings that ExaBGP cannot be given. `on_change` is called when `status` differs."""
        self._settings = settings
        self._clock = clock
        run_dir = settings.run_dir.absolute()
        bridge = (sys.executable, "-I", _BRIDGE, run_dir / SOCKET, run_dir / WITHDRAWS, f"{dead_man_seconds:g}")
        self._configuration = exabgp.configuration(settings, bridge)
        program()
        owner = account(settings.user)
        self._directory = RunDirectory(run_dir, owner)
        self.conversation = Conversation(settings, clock=clock, on_change=on_change)
        self._ever: frozenset[Prefix] = frozenset()
        self._written: frozenset[Prefix] | None = None
        self._stop = asyncio.Event()
        self._ended = asyncio.Event()
        self._running = False
        self._silences, self._answers = 0, 0
        """Unanswered commands in a row, and how many answers there were at the last one."""
        self._link_lost_at: float | None = None
        """Since when there is no bridge; None while there is."""
        self._link_seconds = LINK_SECONDS
        """For how long that is borne."""
        self.unanswered_commands = 0
        self.link_starts = 0
        self._process = ExabgpProcess(self._directory, owner, clock=clock, on_change=on_change)

    # ---- what others ask -------------------------------------------------------------------------------------------

    @property
    def exabgp_starts(self) -> int:
        return self._process.starts

    @property
    def exabgp_pid(self) -> int | None:
        """None while there is none."""
        return self._process.pid

    def set_routes(self, routes: tuple[Wanted, ...]) -> None:
        """From now on these; a known prefix that is missing here is withdrawn. Returns at once."""
        self._remember(route.prefix for route in routes)
        self.conversation.set_routes(routes)

    def change_routes(self, routes: tuple[Wanted, ...]) -> None:
        """From now on these, and all others as they were. Returns at once; costs what is changed."""
        self._remember(route.prefix for route in routes)
        self.conversation.change_routes(routes)

    def announced(self) -> frozenset[str]:
        """Prefixes acknowledged on at least one session that is up."""
        return self.conversation.announced()

    def settled(self) -> bool:
        """Every session that is up has acknowledged (or refused) everything wanted."""
        return self.conversation.settled()

    def status(self) -> tuple[PeerStatus, ...]:
        return tuple(map(self._with_process, self.conversation.status()))

    async def close(self, *, withdraw: bool = True) -> None:
        """Withdraws everything and waits for the acknowledgements, then ends ExaBGP and `run`. Bounded in time."""
        if withdraw and self._running:
            await self.conversation.withdraw_all(within_seconds=CLOSE_SECONDS)
        self._stop.set()
        if self._running:
            await self._ended.wait()

    # ---- the life of it --------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Announces until `close` or cancellation; raises `BgpError` when the run directory cannot be used."""
        with self._directory as directory:
            try:
                self._ever = directory.read_prefixes() | {rule.prefix for rule in self._settings.rules}
                directory.write(CONFIGURATION, self._configuration)
                listener = directory.listen()
            except OSError as error:
                raise BgpError(f"{directory.path} cannot be used, expected a folder we may write: {error}") from None
            self._running = True
            self._remember(self.conversation.wanted())
            self.conversation.know(self._ever)
            try:
                with listener:
                    await self._work(listener)
            finally:
                self._running = False
                self.conversation.end("ExaBGP was ended")
                self._ended.set()

    async def _work(self, listener: socket.socket) -> None:
        async with asyncio.TaskGroup() as group:
            # Without a router there is nothing to run: ExaBGP would refuse to start without neighbours.
            lives = (self._meet_bridges(listener), self._process.run(), self._watch()) if self._settings.peers else ()
            tasks = [group.create_task(life) for life in lives]
            await self._stop.wait()
            for task in tasks:
                task.cancel()

    async def _watch(self) -> None:
        """Timers: repetition, ExaBGP without a bridge, the size of its log."""
        repeated_at = self._clock.now()
        while True:
            await asyncio.sleep(1.0)
            now = self._clock.now()
            self._directory.bound_log()
            if now - repeated_at >= REPEAT_SECONDS:
                repeated_at = now
                self.conversation.repeat()
            if (
                self._link_lost_at is not None
                and now - max(self._link_lost_at, self._process.started_at) > self._link_seconds
            ):
                self._process.kill(f"its bridge has not connected for {self._link_seconds:g} s")
                self._link_seconds = LINK_SECONDS

    async def _meet_bridges(self, listener: socket.socket) -> None:
        """One bridge after the other: a new one appears when ExaBGP or the old bridge died, or when we hung."""
        loop = asyncio.get_running_loop()
        self._link_lost_at = self._clock.now()
        while True:
            connection, _ = await loop.sock_accept(listener)
            reader, writer = await asyncio.open_unix_connection(sock=connection, limit=LINE_BYTES_MAX)
            self._link_lost_at, self._link_seconds = None, LINK_SECONDS
            self.link_starts += 1
            self.conversation.begin()
            try:
                await Link(reader, writer, self.conversation.hear).run(self.conversation.talk)
            except* SilenceError as lost:
                self._count_silence(lost)
            except* (LinkLostError, OSError) as lost:
                log.info("conversation with ExaBGP ended: %s", lost.exceptions[0])
            finally:
                self._link_lost_at = self._clock.now()
                self.conversation.end("ExaBGP cannot be asked")
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise asyncio.CancelledError  # It came together with an error of the link, which hid it.

    def _count_silence(self, lost: BaseExceptionGroup[SilenceError]) -> None:
        self.unanswered_commands += 1
        self._link_seconds = SILENT_LINK_SECONDS
        self._silences = 1 if self.conversation.answers > self._answers else self._silences + 1
        self._answers = self.conversation.answers
        log.warning("conversation with ExaBGP ended: %s", lost.exceptions[0])
        if self._silences >= SILENCES_MAX:
            self._silences = 0
            self._process.kill(f"{SILENCES_MAX} commands in a row got no answer")

    # ---- bookkeeping -----------------------------------------------------------------------------------------------

    def _remember(self, prefixes: Iterable[Prefix]) -> None:
        """Before a prefix is announced for the first time it is written down, and how the dead man withdraws it."""
        new = frozenset(prefixes)
        if not self._running or (self._written is not None and new <= self._written):
            return
        self._ever |= new
        keep = {rule.prefix for rule in self._settings.rules if rule.kept_while_hung}
        lines = [
            exabgp.withdraw(peer, prefix).text
            for prefix in sorted(self._ever - keep, key=str)
            for peer in self._settings.peers
            if exabgp.carries(peer, prefix)
        ]
        try:
            self._directory.write_prefixes(self._ever)
            self._directory.write(WITHDRAWS, "".join(line + "\n" for line in lines))
            self._written = self._ever
        except OSError as error:
            # Going on is safer than stopping: ExaBGP dies with us, the lists help only when we hang.
            log.error("%s cannot be written: %s", self._directory.path, error)

    def _with_process(self, status: PeerStatus) -> PeerStatus:
        if status.state != "unknown" or self._process.pid is not None:
            return status
        return msgspec.structs.replace(status, reason=f"{status.reason}: {self._process.reason}")
