"""Puts routes on the wire: runs ExaBGP, talks to it through the bridge, and knows what each router was told.

Law: `anycastle.bgp.reconcile` decides what is told next, this shell only carries it. An acknowledgement means that
ExaBGP queued the change for that session, not that the router has it; only the router can say that. Whatever breaks
(no answer, a new bridge, a new ExaBGP, a new session) leads to the same place: nothing is known, everything is told
again.
"""

import asyncio
import contextlib
import logging
import socket
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import assert_never

from anycastle.bgp import exabgp, silence
from anycastle.bgp.link import LINE_BYTES_MAX, Link, LinkLostError, SilenceError
from anycastle.bgp.process import ExabgpProcess, program
from anycastle.bgp.reconcile import Order, Reconciler
from anycastle.bgp.route import BgpError, RouteState, Wanted
from anycastle.bgp.rundir import CONFIGURATION, SOCKET, WITHDRAWS, RunDirectory, account
from anycastle.bgp.settings import Address, BgpSettings, Peer, Prefix
from anycastle.bgp.status import PeerStatus, RouteStatus
from anycastle.clock import Clock

log = logging.getLogger("anycastle.bgp.speaker")

DEAD_MAN_SECONDS = 5.0
"""The bridge withdraws content routes when we are silent this long: a few beats, and near the term of a lease."""
SILENCES_MAX = 2
"""So many unanswered commands in a row mean that ExaBGP hangs and is killed."""
LINK_SECONDS = 15.0
"""ExaBGP without its bridge for this long is killed: nobody can tell it anything."""
REPEAT_SECONDS = 30.0
SHOW_SECONDS = 10.0
"""How often ExaBGP is asked for its sessions: shows that it lives, and finds events that were lost."""
SILENT_SECONDS = 5.0
"""A router that has not answered for this long is worth an explanation; it may just be starting."""
CLOSE_SECONDS = 3.0
NO_RULE = "no rule names it"

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
        self._started_at = clock.now()
        self._on_change = on_change
        run_dir = settings.run_dir.absolute()
        bridge = (sys.executable, "-I", _BRIDGE, run_dir / SOCKET, run_dir / WITHDRAWS, f"{dead_man_seconds:g}")
        self._configuration = exabgp.configuration(settings, bridge)
        program()
        owner = account(settings.user)
        self._directory = RunDirectory(run_dir, owner)
        self._reconciler = Reconciler(settings.peers, ())
        self._sessions: dict[Address, tuple[str, float, str]] = {}
        self._routes: dict[Prefix, Wanted] = {}
        self._since: dict[Prefix, float] = {}
        """When each route's wanted state last changed."""
        self._ever: frozenset[Prefix] = frozenset()
        self._written: frozenset[Prefix] | None = None
        self._order: Order | None = None
        """The change in flight."""
        self._wake = asyncio.Event()
        self._progress = asyncio.Event()
        self._stop = asyncio.Event()
        self._ended = asyncio.Event()
        self._running = False
        self._silences = 0
        self._link_lost_at: float | None = None
        """Since when there is no bridge; None while there is."""
        self.commands = 0
        self.refused_commands = 0
        self.unanswered_commands = 0
        self.malformed_lines = 0
        self.link_starts = 0
        self.session_ups = 0
        self.session_downs = 0
        self._process = ExabgpProcess(self._directory, owner, clock=clock, on_change=self._changed)
        self._all_sessions("ExaBGP is not started yet")

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
        kept = {route.prefix for route in routes}
        gone = [route for prefix, route in self._routes.items() if prefix not in kept]
        self.change_routes((*(replace(r, state=RouteState.WITHDRAWN, reason=NO_RULE) for r in gone), *routes))

    def change_routes(self, routes: Iterable[Wanted]) -> None:
        """From now on these, and all others as they were. Returns at once; costs what is changed."""
        now, changed = self._clock.now(), {route.prefix: route for route in routes}
        for prefix, route in changed.items():
            if prefix not in self._routes or self._routes[prefix].state is not route.state:
                self._since[prefix] = now
        self._routes |= changed
        if self._running:
            self._remember(changed)
        self._reconciler.change({prefix: route.state for prefix, route in changed.items()})
        self._wake.set()

    def announced(self) -> frozenset[str]:
        """Prefixes acknowledged on at least one session that is up."""
        return frozenset(str(prefix) for prefix in self._reconciler.announced())

    def settled(self) -> bool:
        """Every session that is up has acknowledged (or refused) everything wanted."""
        return self._order is None and not self._reconciler.busy()

    def status(self) -> tuple[PeerStatus, ...]:
        return tuple(self._peer_status(peer) for peer in self._settings.peers)

    async def close(self, *, withdraw: bool = True) -> None:
        """Withdraws everything and waits for the acknowledgements, then ends ExaBGP and `run`. Bounded in time."""
        if withdraw and self._running:
            self.set_routes(())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    while not self.settled():
                        self._progress.clear()
                        await self._progress.wait()
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
            self._reconciler = Reconciler(self._settings.peers, self._ever)
            self._running = True
            self._remember(self._routes)
            self._reconciler.change({prefix: route.state for prefix, route in self._routes.items()})
            try:
                with listener:
                    await self._work(listener)
            finally:
                self._running = False
                self._reconciler.forget()
                self._all_sessions("ExaBGP was ended")
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
                self._reconciler.repeat()
                self._wake.set()
            if (
                self._link_lost_at is not None
                and now - max(self._link_lost_at, self._process.started_at) > LINK_SECONDS
            ):
                self._process.kill(f"its bridge has not connected for {LINK_SECONDS:g} s")

    async def _meet_bridges(self, listener: socket.socket) -> None:
        """One bridge after the other: a new one appears when ExaBGP or the old bridge died, or when we hung."""
        loop = asyncio.get_running_loop()
        self._link_lost_at = self._clock.now()
        while True:
            connection, _ = await loop.sock_accept(listener)
            reader, writer = await asyncio.open_unix_connection(sock=connection, limit=LINE_BYTES_MAX)
            self._link_lost_at = None
            self.link_starts += 1
            self._reconciler.forget()
            try:
                await Link(reader, writer, self._hear).run(self._tell_all)
            except* SilenceError as lost:
                self._count_silence(lost)
            except* (LinkLostError, OSError) as lost:
                log.info("conversation with ExaBGP ended: %s", lost.exceptions[0])
            finally:
                self._order = None
                self._link_lost_at = self._clock.now()
                self._reconciler.forget()
                self._all_sessions("ExaBGP cannot be asked")
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise asyncio.CancelledError  # It came together with an error of the link, which hid it.

    def _count_silence(self, lost: BaseExceptionGroup[SilenceError]) -> None:
        self.unanswered_commands += 1
        self._silences += 1
        log.warning("conversation with ExaBGP ended: %s", lost.exceptions[0])
        if self._silences >= SILENCES_MAX:
            self._silences = 0
            self._process.kill(f"{SILENCES_MAX} commands in a row got no answer")

    # ---- telling ---------------------------------------------------------------------------------------------------

    async def _tell_all(self, link: Link) -> None:
        asked_at = float("-inf")
        while True:
            if self._clock.now() - asked_at >= SHOW_SECONDS:
                asked_at = self._clock.now()
                await self._tell(link, exabgp.SHOW_SESSIONS)
                self._explain_silence()
            self._wake.clear()
            self._order = self._reconciler.next()
            if self._order is not None:
                await self._carry_out(link, self._order)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._wake.wait()

    async def _carry_out(self, link: Link, order: Order) -> None:
        if order.state is RouteState.WITHDRAWN:
            command = exabgp.withdraw(order.peer, order.prefix)
        else:
            command = exabgp.announce(self._settings, order.peer, order.prefix, order.state)
        if await self._tell(link, command):
            self._reconciler.acknowledge(order, now=self._clock.now())
        else:
            self._reconciler.refuse(order)
            self.refused_commands += 1
            log.warning("ExaBGP refused: %s", command.text)
        self._order = None
        self._changed()

    async def _tell(self, link: Link, command: exabgp.Command) -> bool:
        self.commands += 1
        done = await link.tell(command)
        self._silences = 0
        return done

    # ---- hearing ---------------------------------------------------------------------------------------------------

    def _hear(self, answer: exabgp.Answer) -> None:
        match answer:
            case exabgp.SessionEvent(peer, state, reason):
                self._session(peer, state, reason)
            case exabgp.Sessions(up):
                self._found(up)
            case exabgp.Malformed(why):
                self.malformed_lines += 1
                if self.malformed_lines == 1:
                    log.warning("ExaBGP said a line that cannot be read: %s", why)
            case exabgp.Ignored() | exabgp.Reply():
                pass
            case _:
                assert_never(answer)

    def _session(self, peer: Address, state: str, reason: str) -> None:
        """An event; "connected" is only a step on the way, of a second connection perhaps."""
        shown = self._sessions.get(peer)
        if shown is None or (state == "connected" and shown[0] == "up"):
            return
        if self._reconciler.session(peer, state == "up"):
            self.session_ups += state == "up"
            self.session_downs += state != "up"
            log.info("BGP session with %s is %s%s", peer, state, f": {reason}" if reason else "")
            self._wake.set()
        if shown[0] != state:
            # A connection that comes and goes is one outage.
            since = self._clock.now() if "up" in (state, shown[0]) or shown[0] == "unknown" else shown[1]
            self._sessions[peer] = (state, since, reason)
        self._changed()

    def _explain_silence(self) -> None:
        """Of sessions that have been away for a while: what the kernel knows of it says more than ExaBGP does."""
        for peer in self._settings.peers:
            state, since, _ = self._sessions[peer.address]
            silent = state in ("down", "connected") and self._clock.now() - since >= SILENT_SECONDS
            if silent and (why := silence.explain(peer, silence.look(peer))):
                self._sessions[peer.address] = (state, since, why)
                self._changed()

    def _found(self, up: frozenset[Address]) -> None:
        """ExaBGP was asked; only what differs from what its events said is news."""
        for peer, (state, _, _) in list(self._sessions.items()):
            if state == "unknown" or (state == "up") != (peer in up):
                self._session(peer, "up" if peer in up else "down", "found by asking")

    # ---- bookkeeping -----------------------------------------------------------------------------------------------

    def _remember(self, prefixes: Iterable[Prefix]) -> None:
        """Before a prefix is announced for the first time it is written down, and how the dead man withdraws it."""
        if self._written is not None and self._written.issuperset(prefixes):
            return
        self._ever = self._ever.union(prefixes)
        keep = {rule.prefix for rule in self._settings.rules if rule.nameserver}
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

    def _all_sessions(self, reason: str) -> None:
        self._sessions = {peer.address: ("unknown", self._clock.now(), reason) for peer in self._settings.peers}
        self._changed()

    def _changed(self) -> None:
        self._progress.set()
        self._on_change()

    def _peer_status(self, peer: Peer) -> PeerStatus:
        state, since, reason = self._sessions[peer.address]
        refused = self._reconciler.refused(peer.address)
        routes = tuple(
            RouteStatus(
                prefix=str(prefix),
                wanted=wanted.value,
                since=self._since.get(prefix, self._started_at),
                acknowledged="unknown" if told is None else told.state.value,
                acknowledged_since=None if told is None else told.since,
                reason=self._routes[prefix].reason if prefix in self._routes else NO_RULE,
                waits_for="" if told and told.state is wanted else self._waits_for(state, prefix in refused),
            )
            for prefix, wanted, told in self._reconciler.told(peer.address)
        )
        if state == "unknown" and self._process.pid is None:
            reason = f"{reason}: {self._process.reason}"
        gone = RouteState.WITHDRAWN.value
        return PeerStatus(
            peer=str(peer.address),
            asn=peer.asn,
            state=state,
            since=since,
            reason=reason,
            routes_wanted=sum(route.wanted != gone for route in routes),
            routes_acknowledged=sum(r.acknowledged not in (gone, "unknown") for r in routes) if state == "up" else 0,
            routes=routes,
        )

    def _waits_for(self, session: str, refused: bool) -> str:
        if refused:
            return f"ExaBGP refused it; tried again within {REPEAT_SECONDS:g} s"
        return "it is being told" if session == "up" else "the session is not up"
