"""What is said to one ExaBGP, and what it says: routes in, commands out, sessions and acknowledgements known.

Law: `anycastle.bgp.reconcile` decides what is told next, this only carries it over whatever `Link` there is. An
acknowledgement means that ExaBGP queued the change for that session, not that the router has it; only the router can
say that. Whatever breaks (no answer, a new link, a new ExaBGP, a new session) leads to the same place: nothing is
known, everything is told again.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import assert_never

from anycastle.bgp import exabgp, silence
from anycastle.bgp.link import Link
from anycastle.bgp.reconcile import Order, Reconciler
from anycastle.bgp.route import RouteState, Wanted
from anycastle.bgp.settings import Address, BgpSettings, Peer, Prefix
from anycastle.bgp.status import PeerStatus, RouteStatus
from anycastle.clock import Clock

log = logging.getLogger("anycastle.bgp.conversation")

REPEAT_SECONDS = 30.0
SHOW_SECONDS = 10.0
"""How often ExaBGP is asked for its sessions: shows that it lives, and finds events that were lost."""
SILENT_SECONDS = 5.0
"""A router that has not answered for this long is worth an explanation; it may just be starting."""
SENT_SECONDS = 0.2
"""What was acknowledged is queued; on the wire it is some milliseconds later, 8 at most when nothing else was to do."""
NO_RULE = "no rule names it"


class Conversation:
    """`set_routes` says what is wanted, `talk` says it over a link for as long as that lives."""

    def __init__(self, settings: BgpSettings, *, clock: Clock, on_change: Callable[[], None] = lambda: None) -> None:
        """`on_change` is called when `status` differs."""
        self._settings = settings
        self._clock = clock
        self._started_at = clock.now()
        self._on_change = on_change
        self._known: frozenset[Prefix] = frozenset()
        self._reconciler = Reconciler(settings.peers, ())
        self._sessions: dict[Address, tuple[str, float, str]] = {}
        self._routes: dict[Prefix, Wanted] = {}
        self._since: dict[Prefix, float] = {}
        """When each route's wanted state last changed."""
        self._announced: tuple[frozenset[Prefix], frozenset[str]] = (frozenset(), frozenset())
        self._order: Order | None = None
        """The change in flight."""
        self._wake = asyncio.Event()
        self._progress = asyncio.Event()
        self.commands = 0
        self.refused_commands = 0
        self.answers = 0
        self.malformed_lines = 0
        self.session_ups = 0
        self.session_downs = 0
        self._all_sessions("ExaBGP is not started yet")

    # ---- what others ask -------------------------------------------------------------------------------------------

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
        self._reconciler.change({prefix: route.state for prefix, route in changed.items()})
        self._wake.set()

    def wanted(self) -> frozenset[Prefix]:
        """Prefixes of which something is wanted, if only that they stay away."""
        return frozenset(self._routes)

    def announced(self) -> frozenset[str]:
        """Prefixes acknowledged on at least one session that is up."""
        prefixes = self._reconciler.announced()
        if prefixes is not self._announced[0]:
            self._announced = prefixes, frozenset(map(str, prefixes))
        return self._announced[1]

    def settled(self) -> bool:
        """Every session that is up has acknowledged (or refused) everything wanted."""
        return self._order is None and not self._reconciler.busy()

    async def withdraw_all(self, *, within_seconds: float) -> None:
        """Returns when nothing is announced any more, as far as ExaBGP says in time."""
        self.set_routes(())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_seconds):
                await self.settle()

    async def settle(self) -> None:
        """Returns when `settled` and, as far as ExaBGP's habits go, sent."""
        while not self.settled():
            self._progress.clear()
            await self._progress.wait()
        await asyncio.sleep(SENT_SECONDS)

    def status(self) -> tuple[PeerStatus, ...]:
        return tuple(self._peer_status(peer) for peer in self._settings.peers)

    # ---- what the owner of the link says ---------------------------------------------------------------------------

    def know(self, prefixes: Iterable[Prefix]) -> None:
        """Routers may have these from earlier; those that are not wanted are withdrawn."""
        self._known = self._known.union(prefixes)
        self.meet(self._settings)

    def meet(self, settings: BgpSettings) -> None:
        """From now on with these routers; all that is wanted is told anew."""
        self._settings = settings
        self._reconciler = Reconciler(settings.peers, self._known)
        self._reconciler.change({prefix: route.state for prefix, route in self._routes.items()})
        self._order = None
        self._all_sessions("ExaBGP was not asked yet")
        self._wake.set()

    def begin(self) -> None:
        """A new link: nothing is known."""
        self._reconciler.forget()

    def end(self, reason: str) -> None:
        """The link is gone."""
        self._order = None
        self._reconciler.forget()
        self._all_sessions(reason)

    def repeat(self) -> None:
        """Withdrawals, and what was refused, are told again."""
        self._reconciler.repeat()
        self._wake.set()

    async def talk(self, link: Link) -> None:
        """For `Link.run`: says what is to be said until the link breaks."""
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
        self.answers += 1
        return done

    # ---- hearing ---------------------------------------------------------------------------------------------------

    def hear(self, answer: exabgp.Answer) -> None:
        """For `Link`: everything but the answers to commands."""
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
