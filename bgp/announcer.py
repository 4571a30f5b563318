"""The announcer as the app sees it: views in, routes on the wire.

Law: every step from a view to the wire is one straight line: `route.wanted` → `damp.damp` → `route.plan` → `Speaker`.
Time alone changes decisions too (lag grows, hold-downs end), so the line is also walked at a steady pace.
"""

import asyncio
import logging
from collections.abc import Callable

from anycastle.bgp import damp, route
from anycastle.bgp.route import BgpError, Change, Refusal, RouteState, Wanted
from anycastle.bgp.settings import BgpSettings
from anycastle.bgp.speaker import DEAD_MAN_SECONDS, Speaker
from anycastle.bgp.status import PeerStatus
from anycastle.clock import Clock
from anycastle.health.view import View

log = logging.getLogger("anycastle.bgp.announcer")

DECIDE_SECONDS = 0.5


class Announcer:
    """`update` with every new view, `run` for as long as the member lives, `close` to leave in order."""

    def __init__(
        self,
        settings: BgpSettings,
        clock: Clock,
        *,
        on_change: Callable[[], None] = lambda: None,
        dead_man_seconds: float = DEAD_MAN_SECONDS,
    ) -> None:
        """Raises `BgpError` for rules or peers that cannot be used together."""
        self._settings = settings
        self._clock = clock
        everything = [Wanted(prefix=r.prefix, state=RouteState.NORMAL, reason="") for r in settings.rules]
        refused = route.plan((), everything, routes_max=settings.routes_max)
        if isinstance(refused, Refusal):
            raise BgpError(refused.message)
        self.speaker = Speaker(settings, clock=clock, on_change=on_change, dead_man_seconds=dead_man_seconds)
        self._hold_down_seconds = {rule.prefix: rule.hold_down_seconds for rule in settings.rules}
        self._view: View | None = None
        self._nameserver_reason = "not heard of yet"
        self._memory = route.NO_MEMORY
        self._damping = damp.NO_MEMORY
        self._decisions: tuple[Wanted, ...] = ()
        self._closing = False
        self.announcements = 0
        self.withdrawals = 0

    def update(self, view: View, nameserver_reason: str) -> None:
        """The newest snapshot, and why the local DNS server is unwell (empty: it is well). Decides at once."""
        self._view, self._nameserver_reason = view, nameserver_reason
        self._decide()

    def plan(self, view: View, nameserver_reason: str) -> tuple[Change, ...]:
        """What `update` would change; the dry run, which changes nothing."""
        shown, _, _ = self._walk(view, nameserver_reason)
        return self._plan(shown)

    def decisions(self) -> tuple[Wanted, ...]:
        """What is told to the routers, for every rule, with the reason; empty before the first view."""
        return self._decisions

    def announced(self) -> frozenset[str]:
        """For `SiteView.announced`: prefixes acknowledged on at least one session that is up."""
        return self.speaker.announced()

    def status(self) -> tuple[PeerStatus, ...]:
        return self.speaker.status()

    async def run(self) -> None:
        """Until `close` or cancellation."""
        async with asyncio.TaskGroup() as group:
            pace = group.create_task(self._keep_deciding())
            await self.speaker.run()
            pace.cancel()

    async def close(self, *, withdraw: bool = True) -> None:
        """Withdraws, waits for the acknowledgements (bounded), ends ExaBGP; `run` returns."""
        self._closing = True
        await self.speaker.close(withdraw=withdraw)

    async def _keep_deciding(self) -> None:
        while True:
            await asyncio.sleep(DECIDE_SECONDS)
            self._decide()

    def _decide(self) -> None:
        if self._view is None or self._closing:
            return
        shown, self._memory, self._damping = self._walk(self._view, self._nameserver_reason)
        changes = self._plan(shown)
        differs = shown != self._decisions
        self._decisions = shown
        for change in changes:
            log.info("%s", change)
            self.announcements += change.kind is route.ChangeKind.ANNOUNCE
            self.withdrawals += change.kind is route.ChangeKind.WITHDRAW
        if differs:
            self.speaker.set_routes(shown)

    def _walk(self, view: View, nameserver_reason: str) -> tuple[tuple[Wanted, ...], route.Memory, damp.Memory]:
        now, rules = self._clock.now(), self._settings.rules
        wanted, memory = route.wanted(view, rules, self._settings.member, nameserver_reason, self._memory, now=now)
        shown, damping = damp.damp(wanted, self._damping, self._hold_down_seconds, now=now)
        return shown, route.remember_announced(memory, shown), damping

    def _plan(self, shown: tuple[Wanted, ...]) -> tuple[Change, ...]:
        changes = route.plan(self._decisions, shown, routes_max=self._settings.routes_max)
        assert not isinstance(changes, Refusal), "all rules together were accepted at the start"
        return changes
