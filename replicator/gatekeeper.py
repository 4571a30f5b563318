"""The gate at one member: verdicts on requests, and what waits for a better one (`edge_gate.GatePort`).

Law: a verdict is from this moment; whoever waits asks again when something moved, within the group's bounds.
"""

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable, Iterator, Mapping

from anycastle.clock import Clock
from anycastle.errors import AnycastleError
from anycastle.replicator.as_of import AsOf
from anycastle.replicator.content import Content
from anycastle.replicator.controller import Controller
from anycastle.replicator.event import Event, FenceWanted
from anycastle.replicator.fault_point import Point, reach
from anycastle.replicator.gate import Forward, Refuse, Serve, Verdict, Wait
from anycastle.replicator.ledger import Ledger
from anycastle.replicator.settings import ReplicaSettings
from anycastle.replicator.watch import WatchError

LOOK_SECONDS = 0.05
"""A lapse of time moves nothing: whoever waits looks again that often."""
WRITE_WAIT_SECONDS = 0.25
"""What is small lands within that; then another site that has it takes the write."""
WANT_AGAIN_SECONDS = 0.5
"""A request that waits says so, and again when that did not help."""


class Gatekeeper:
    """For all groups of a member."""

    def __init__(
        self,
        settings: ReplicaSettings,
        ledger: Ledger,
        controller: Controller,
        contents: Mapping[str, Content],
        *,
        clock: Clock,
        heed_clock: Callable[[], None],
        unlinked: Mapping[str, float],
        moved: Callable[[float], Awaitable[None]],
        feed: Callable[[Event], None],
        news: Callable[[str], None],
    ) -> None:
        """`unlinked`: sites without a link with us -> since when. `moved` waits until something may have changed, at
        most so many seconds. `news`: as `Replica.on_news`.
        """
        self.fit: Callable[[str, str], bool] = lambda site, group: True
        """(site, group): users are not kept away from it; set by the app."""
        self._settings = settings
        self._ledger = ledger
        self._controller = controller
        self._contents = contents
        self._clock = clock
        self._heed_clock = heed_clock
        self._unlinked = unlinked
        self._moved = moved
        self._feed = feed
        self._news = news

    def judge(self, group: str, path: bytes | None, prefix: bytes) -> Verdict:
        """Rule 5 for one request, at this moment."""
        self._heed_clock()
        return self._judge(self._contents[group], path, prefix, now=self._clock.now())

    def _judge(
        self, content: Content, path: bytes | None, prefix: bytes, *, now: float, as_of: AsOf | None = None
    ) -> Verdict:
        try:
            return content.verdict(path, prefix, self._settings.distance, now=now, as_of=as_of)
        except AnycastleError as error:  # the disk or the ledger cannot be read
            return Refuse(str(error), 1)

    async def admit(
        self, group: str, path: bytes | None, prefix: bytes, *, meanwhile: bool = True
    ) -> Serve | Forward | Refuse:
        """As `judge`; `Wait` is waited for here, at most `wait_max`.

        Without `meanwhile`, what is judged by its prefix waits for what is known now and not for what comes meanwhile,
        which a busy group would never let it see the end of: for those who ask again when they have the answer.
        """
        self._heed_clock()
        content = self._contents[group]
        now = self._clock.now()
        deadline, want_at = now + content.settings.wait_max_seconds, now
        as_of = None if meanwhile else content.as_of_now(prefix)
        while True:
            verdict = self._judge(content, path, prefix, now=now, as_of=as_of)
            if not isinstance(verdict, Wait):
                return verdict
            if now >= deadline:
                return Refuse(verdict.reason, 1)
            if now >= want_at:
                content.want(path, prefix)
                want_at = now + WANT_AGAIN_SECONDS
            await self._moved(min(deadline - now, LOOK_SECONDS))
            now = self._clock.now()

    def clear_until(self, group: str) -> float:
        """Until when (BOOTTIME) all of a group may be served if nothing is heard of it meanwhile; -inf if not now."""
        content, now = self._contents[group], self._clock.now()
        clear = isinstance(self.judge(group, None, b""), Serve) and not content.scrub.damaged and not content.writing
        return self._controller.currency_until(group, now=now) if clear else -math.inf

    @contextlib.contextmanager
    def writing(self, group: str) -> Iterator[None]:
        """As `GatePort.writing`."""
        content = self._contents[group]
        content.writing += 1
        self._news(group)
        try:
            yield
        finally:
            content.writing -= 1

    def may_write(self, group: str) -> Forward | Refuse | None:
        """Rules 6 and 7; None when the write may be done here."""
        self._heed_clock()
        content, now = self._contents[group], self._clock.now()
        unfit = [site for site in self._settings.sites if not self.fit(site, group)]
        return content.write_verdict(self._settings.distance, unfit, now=now) or self._too_few(content, now=now)

    def others(self, group: str) -> tuple[str, ...]:
        """As `GatePort.others`."""
        found = self._contents[group].current_elsewhere(self._settings.distance, now=self._clock.now())
        return tuple(sorted(found, key=lambda site: not self.fit(site, group)))

    def _too_few(self, content: Content, *, now: float) -> Refuse | None:
        """A write that cannot reach `copies` sites is refused before the application does it, not afterwards."""
        away = [
            site
            for site in content.flight.sites
            if now - self._unlinked.get(site, now) >= self._settings.lease.term_seconds
        ]
        left, wanted = len(content.flight.sites) - len(away), content.settings.copies
        if left >= wanted:
            return None
        return Refuse(
            f"a write needs {wanted} copies and only {left} sites can be reached: no link with {', '.join(away)}", 1
        )

    async def before_write(self, group: str, prefix: bytes) -> Forward | Refuse | None:
        """Software reads before it writes: what is known below the prefix must be here first, or the write goes there.

        It waits for what is known now and not for what comes meanwhile, so a busy group never keeps a writer out.
        """
        content, member = self._contents[group], self._settings.member
        heads = content.flight.heads_lacking(member, prefix)
        began = self._clock.now()
        while content.flight.lacks_up_to(member, prefix, heads):
            now = self._clock.now()
            if now - began >= WRITE_WAIT_SECONDS:
                reason = "what was written before below the prefix has not landed here"
                if sites := content.writers_with(prefix, heads, self._settings.distance, now=now):
                    return Forward(sites, reason)
                if now - began >= content.settings.wait_max_seconds:
                    return Refuse(reason, 1)
            content.want(None, prefix)
            await self._moved(LOOK_SECONDS)
        return None

    async def fence(self, group: str) -> Refuse | None:
        """Rule 6: everything changed so far is fenced, and landed at `copies` sites; bounded by `fence_timeout`."""
        content = self._contents[group]
        try:
            async with asyncio.timeout(content.settings.fence_timeout_seconds):
                return await self._fence(content)
        except WatchError as error:
            return Refuse(str(error), 1)
        except TimeoutError:
            return Refuse(f"the change is not fenced yet: {self.waiting_for(group)}", 1)

    async def _fence(self, content: Content) -> Refuse | None:
        group, member = content.settings.name, self._settings.member
        looks = content.settle.looks
        failures = looks.failures
        head = await content.settle.barrier()
        if looks.failures != failures:
            return Refuse(f"a change cannot be replicated: {looks.last_failure}", 1)
        self._feed(FenceWanted(group, member, head))
        while self._controller.fenced(group, member) < head:
            await self._moved(LOOK_SECONDS)
        while content.copies(head) < content.settings.copies:
            await self._moved(LOOK_SECONDS)
        reach(Point.FENCED)
        return None

    def waiting_for(self, group: str) -> str:
        """Why a fence takes so long, for people."""
        content, member = self._contents[group], self._settings.member
        head = self._ledger.head(group)
        return (
            content.settle.waiting_for()
            or self._controller.waiting_for(group, member, head, now=self._clock.now())
            or f"it has landed at {content.copies(head)} of {content.settings.copies} sites"
        )
