"""The announcer as the app sees it: views in, routes on the wire.

Law: the way from a view to the wire is one straight line, `decide.step` → `Speaker`; the dry run is its first half.
Time alone changes decisions too (lag grows, hold-downs end), so the line is also walked at a steady pace.
"""

import asyncio
import dataclasses
import logging
from collections.abc import Callable
from typing import Protocol

from anycastle.bgp import decide, route
from anycastle.bgp.decide import State
from anycastle.bgp.loopback import Loopback
from anycastle.bgp.restrain import REASON_CHARACTERS_MAX, Freeze
from anycastle.bgp.route import BgpError, Plan, Refusal, RouteState, Wanted
from anycastle.bgp.settings import BgpSettings, Prefix
from anycastle.bgp.speaker import DEAD_MAN_SECONDS, Speaker
from anycastle.bgp.status import Hold, PeerStatus
from anycastle.clock import Clock
from anycastle.health.view import View

log = logging.getLogger("anycastle.bgp.announcer")

DECIDE_SECONDS = 0.5


class Speaks(Protocol):
    """Who puts routes on the wire: our own ExaBGP (`Speaker`), or somebody's (`ApiProcess`)."""

    def change_routes(self, routes: tuple[Wanted, ...]) -> None: ...
    def announced(self) -> frozenset[str]: ...
    def status(self) -> tuple[PeerStatus, ...]: ...
    async def run(self) -> None: ...
    async def close(self, *, withdraw: bool = True) -> None: ...


class Announcer:
    """`update` with every new view, `run` for as long as the member lives, `close` to leave in order."""

    def __init__(
        self,
        settings: BgpSettings,
        clock: Clock,
        *,
        freeze: Freeze | None = None,
        on_change: Callable[[], None] = lambda: None,
        dead_man_seconds: float = DEAD_MAN_SECONDS,
        speaker: Speaks | None = None,
    ) -> None:
        """`freeze` is what an operator said before a restart; `speaker` is used instead of an ExaBGP of our own.

        Raises `BgpError` for rules or peers that do not fit.
        """
        self._settings = settings
        self._clock = clock
        everything = [Wanted(prefix=r.prefix, state=RouteState.NORMAL, reason="") for r in settings.rules]
        refused = route.plan((), everything, routes_max=settings.routes_max)
        if isinstance(refused, Refusal):
            raise BgpError(refused.message)
        self.speaker: Speaks = speaker or Speaker(
            settings, clock=clock, on_change=on_change, dead_man_seconds=dead_man_seconds
        )
        self._addresses = {r.prefix: r.addresses for r in settings.rules if r.addresses and settings.loopback}
        self._loopback: Loopback | None = None
        if settings.loopback is not None:
            managed = (address for addresses in self._addresses.values() for address in addresses)
            self._loopback = Loopback(settings.loopback, managed, clock=clock, on_change=self._addresses_changed)
        self._waiting: frozenset[Prefix] = frozenset()
        """Prefixes that are not told because their addresses are missing."""
        self._looked: tuple[object, object] | None = None
        """What the addresses were last wanted for."""
        self._view: View | None = None
        self._nameserver_reason = "not heard of yet"
        self._state = State(freeze=freeze)
        self._closing = False
        self._sorted: tuple[frozenset[str], tuple[str, ...]] = (frozenset(), ())
        self.announcements = 0
        self.withdrawals = 0

    def update(self, view: View, nameserver_reason: str) -> None:
        """The newest snapshot, and why the local DNS server is unwell (empty: it is well). Decides at once."""
        self._view, self._nameserver_reason = view, nameserver_reason
        self._decide()

    def plan(self) -> Plan:
        """What would be told next; the dry run, which changes nothing. Raises `BgpError` before the first view."""
        if self._view is None:
            raise BgpError("nothing is known of this site yet: expected to be asked after the first round of probes")
        all_anew = dataclasses.replace(self._state, basis=None)
        return decide.step(self._settings, self._view, self._nameserver_reason, all_anew, now=self._clock.now())[1]

    def freeze(self, reason: str) -> Freeze:
        """Nothing changes from now on but by drains; the value is to be kept over restarts.

        Said again it replaces the reason only. Raises `BgpError` for a reason that is not one line, and before
        anything is told.
        """
        if not 0 < len(reason) <= REASON_CHARACTERS_MAX or not reason.isprintable():
            raise BgpError(
                f"expected a reason in one line of at most {REASON_CHARACTERS_MAX} characters, found {reason!r}"
            )
        if self._view is None:
            raise BgpError(
                "nothing is announced yet that could be frozen: expected the first round of probes to be over"
            )
        before = self._state.freeze
        freeze = Freeze(
            reason=reason,
            wall=before.wall if before else self._clock.wall(),
            states=before.states if before else {prefix: told.state for prefix, told in self._state.told.items()},
        )
        self._state = dataclasses.replace(self._state, freeze=freeze)
        self._decide()
        return freeze

    def thaw(self) -> None:
        """Decisions count again."""
        self._state = dataclasses.replace(self._state, freeze=None)
        self._decide()

    def accept(self) -> str:
        """Let happen what the limit refuses now; what that was, or empty when it refuses nothing."""
        message = self._state.limit.message
        if message:
            self._decide(accept=True)
        return message

    def holds(self) -> tuple[Hold, ...]:
        """What keeps decisions from the routers, besides damping."""
        found, freeze, limit = [], self._state.freeze, self._state.limit
        if freeze is not None:
            seconds = max(0.0, self._clock.wall() - freeze.wall)
            found.append(Hold(kind="frozen", reason=freeze.reason, seconds=seconds))
        if limit.refused_since is not None:
            found.append(Hold(kind="refused", reason=limit.message, seconds=self._clock.now() - limit.refused_since))
        return tuple(found)

    def decisions(self) -> tuple[Wanted, ...]:
        """What is told to the routers, for every rule, with the reason; empty before the first view."""
        return tuple(self._state.told.values())

    def announced(self) -> frozenset[str]:
        """For `SiteView.announced`: prefixes acknowledged on at least one session that is up."""
        return self.speaker.announced()

    def announced_in_order(self) -> tuple[str, ...]:
        """The same, sorted once for each time that it changes."""
        announced = self.announced()
        if announced is not self._sorted[0]:
            self._sorted = announced, tuple(sorted(announced))
        return self._sorted[1]

    def status(self) -> tuple[PeerStatus, ...]:
        return self.speaker.status()

    async def run(self) -> None:
        """Until `close` or cancellation."""
        async with asyncio.TaskGroup() as group:
            background = [group.create_task(self._keep_deciding())]
            if self._loopback is not None:
                background.append(group.create_task(self._loopback.run()))
            await self.speaker.run()
            for task in background:
                task.cancel()

    async def close(self, *, withdraw: bool = True) -> None:
        """Withdraws, waits for the acknowledgements (bounded), ends ExaBGP; `run` returns. Addresses go last."""
        self._closing = True
        await self.speaker.close(withdraw=withdraw)
        if self._loopback is not None:
            await self._loopback.release()

    async def _keep_deciding(self) -> None:
        while True:
            await asyncio.sleep(DECIDE_SECONDS)
            self._decide()

    def _decide(self, *, accept: bool = False) -> None:
        if self._view is None or self._closing:
            return
        before, now = self._state, self._clock.now()
        self._state, plan = decide.step(
            self._settings, self._view, self._nameserver_reason, before, accept=accept, now=now
        )
        if self._state.limit.message and not before.limit.message:
            log.warning("refused: %s", self._state.limit.message)
        for change in plan.changes:
            log.info("%s", change)
            self.announcements += change.kind is route.ChangeKind.ANNOUNCE
            self.withdrawals += change.kind is route.ChangeKind.WITHDRAW
        if self._state.news:
            self._tell(self._state.news)
        self._want_addresses()

    def _tell(self, news: tuple[Wanted, ...]) -> None:
        """To the routers, but for what leads to addresses that are not there."""
        if self._loopback is None:
            self.speaker.change_routes(news)
            return
        lacking = {}
        for decision in news:
            if decision.announced and (why := self._loopback.lacks(self._addresses.get(decision.prefix, ()))):
                lacking[decision.prefix] = dataclasses.replace(decision, state=RouteState.WITHDRAWN, reason=why)
        told = {decision.prefix for decision in news}
        self._waiting = (self._waiting - told) | lacking.keys()
        self.speaker.change_routes(tuple(lacking.get(decision.prefix, decision) for decision in news))

    def _want_addresses(self) -> None:
        """Those of routes that are to be told, or still are."""
        if self._loopback is None:
            return
        told, announced = self._state.told, self.speaker.announced()
        if self._looked is not None and told is self._looked[0] and announced is self._looked[1]:
            return
        self._looked = told, announced
        self._loopback.want(
            frozenset(
                address
                for prefix, addresses in self._addresses.items()
                if told[prefix].announced or str(prefix) in announced
                for address in addresses
            )
        )

    def _addresses_changed(self) -> None:
        """Some came, or somebody removed one: what leads to them is told again, or not any more."""
        assert self._loopback is not None
        again = [
            decision
            for prefix, addresses in self._addresses.items()
            if (decision := self._state.told.get(prefix)) is not None
            and decision.announced
            and (prefix in self._waiting or self._loopback.lacks(addresses))
        ]
        if again and not self._closing:
            self._tell(tuple(again))
