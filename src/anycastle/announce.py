"""`anycastle announce`: probes of this machine's service in, routes out, and nothing else of a member.

Law: what decides is what decides at a site (`anycastle.bgp.decide`), with one site in the view and nobody beside it; so
damping, drains and refusals are the same. Nothing is told before the first round of probes is over.
"""

import asyncio
import contextlib
import logging
import os
import signal

from anycastle.announce_config import NAME, AnnounceSettings
from anycastle.bgp.announcer import Announcer
from anycastle.bgp.api_process import ApiProcess
from anycastle.bgp.loopback import problem
from anycastle.bgp.route import BgpError
from anycastle.clock import Clock
from anycastle.health.observe import Observer, Result
from anycastle.health.probe import Prober
from anycastle.health.view import ALL_GROUPS, SiteView, View

log = logging.getLogger("anycastle.announce")

LOOK_SECONDS = 0.2
"""How often the disable file is looked for."""


class Announce:
    """The whole program; `run` until `stop`."""

    def __init__(self, settings: AnnounceSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._observer = Observer(NAME, settings.health.probes)
        self._prober = Prober(settings.health, clock=clock, on_result=self._probed)
        speaker = ApiProcess(settings.bgp, clock=clock, neighbors=settings.neighbors) if settings.as_process else None
        self.announcer = Announcer(settings.bgp, clock, speaker=speaker)
        self._stop = asyncio.Event()
        self._seen: tuple[object, ...] | None = None
        """What the last view was made of; None before the first round is over."""
        self._known = False

    def stop(self) -> None:
        self._stop.set()

    async def run(self) -> None:
        """Until `stop`, or until an ExaBGP that runs us is gone; routes are withdrawn first."""
        async with asyncio.TaskGroup() as outer:
            announcing = outer.create_task(self.announcer.run())
            announcing.add_done_callback(lambda _: self.stop())
            try:
                async with asyncio.TaskGroup() as tasks:
                    background = [tasks.create_task(self._prober.run()), tasks.create_task(self._look())]
                    await self._stop.wait()
                    for task in background:
                        task.cancel()
            finally:
                await self.announcer.close()

    async def _look(self) -> None:
        await self._prober.first_round()
        self._known = True
        while True:
            self._update()
            await asyncio.sleep(LOOK_SECONDS)

    def _probed(self, result: Result) -> None:
        self._observer.observe(result, now=self._clock.now())
        if self._known:
            self._update()

    def _update(self) -> None:
        """A new view, when it says something new."""
        now = self._clock.now()
        observed = self._observer.observation(NAME, now=now)
        disabled = self._settings.disable_file is not None and self._settings.disable_file.exists()
        seen = (observed.health, observed.reason, disabled)
        if seen == self._seen:
            return
        self._seen = seen
        log.info("service is %s%s: %s", observed.health.value, ", disabled" if disabled else "", observed.reason)
        drained = frozenset({ALL_GROUPS} if disabled else ())
        site = SiteView(health=observed.health, reason=observed.reason, since=now, groups={}, drained=drained)
        self.announcer.update(View(member=NAME, generation=1, at=now, sites={NAME: site}), "")


async def announce(settings: AnnounceSettings, clock: Clock) -> None:
    """Until SIGTERM or SIGINT."""
    if settings.bgp.loopback is not None and (missing := problem(settings.bgp.loopback)):
        raise BgpError(missing)
    program = Announce(settings, clock)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, program.stop)
    if settings.as_process:
        log.info("as a process of ExaBGP (%d)", os.getppid())
    with contextlib.suppress(BrokenPipeError):
        await program.run()
