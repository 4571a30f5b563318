"""Runs the configured probes for ever and hands on each result; what a result means is `judge`'s business.

Laws: a probe looks as a client would, on a new connection each time; no probe waits for a slow one: each has its own
loop and timeout, calls that may hang have threads of their own (`aside`), and of the places for looks under way those
that timed out at their last round have only their own, so that they cannot use up the others'.
"""

import asyncio
import os
import random
import ssl
from collections.abc import Callable, Mapping

import aiohttp

from anycastle.clock import Clock
from anycastle.health.observe import Result, Streak, pause_seconds
from anycastle.health.probe_look import looking
from anycastle.health.probe_seen import Look, ProbeFailed, one_line
from anycastle.health.settings import HealthSettings, Probe
from anycastle.health.view import Health

FIRST_ROUNDS_PAUSE_SECONDS = 0.1
"""Between the rounds that decide a probe for the first time, so that a start does not take `fall` intervals."""


class Prober:
    """All probes of one member."""

    def __init__(
        self,
        settings: HealthSettings,
        *,
        clock: Clock,
        on_result: Callable[[Result], None],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`tls` instead of what the http probes say."""
        self._member = settings.member
        self._probes = settings.probes
        self._clock = clock
        self._on_result = on_result
        self._tls = tls
        places = settings.concurrency_max
        self._places = {slow: asyncio.Semaphore(places) for slow in (False, True)}
        self._undecided = len(settings.probes)
        self._first_round = asyncio.Event()
        self.rounds = 0
        self.failures = 0
        if not settings.probes:
            self._first_round.set()

    async def first_round(self) -> None:
        """Returns when each probe had the results that decide it, or, wavering, `rise + fall` of them."""
        await self._first_round.wait()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for probe in self._probes:
                tasks.create_task(self._repeat(probe), name=f"probe {probe.site} {probe.name}")

    async def _repeat(self, probe: Probe) -> None:
        async with looking(probe, member=self._member, clock=self._clock, tls=self._tls) as look:
            rounds = _Rounds(probe, look, self._clock, self._places, self._done)
            await self._decide(rounds)
            while True:
                started = self._clock.now()
                streak = await rounds.next()
                # The module's generator will do: this spreads load and keeps no secret.
                pause = pause_seconds(probe, streak, stretch=random.random())
                await asyncio.sleep(max(0.0, started + pause - self._clock.now()))

    async def _decide(self, rounds: "_Rounds") -> None:
        """The first rounds, in quick succession, until `rise` or `fall` in a row."""
        probe = rounds.probe
        pause = min(FIRST_ROUNDS_PAUSE_SECONDS, probe.interval_seconds)
        for _ in range(probe.rise + probe.fall):
            streak = await rounds.next()
            if streak.health is not Health.UNKNOWN:
                break
            await asyncio.sleep(pause)
        self._undecided -= 1
        if not self._undecided:
            self._first_round.set()
        await asyncio.sleep(probe.interval_seconds)

    def _done(self, result: Result) -> None:
        self.rounds += 1
        self.failures += not result.ok
        self._on_result(result)


class _Rounds:
    """The rounds of one probe, one after the other."""

    def __init__(
        self,
        probe: Probe,
        look: Look,
        clock: Clock,
        places: Mapping[bool, asyncio.Semaphore],
        done: Callable[[Result], None],
    ) -> None:
        """`places` by whether the look before took all of its time."""
        self.probe = probe
        self._look = look
        self._clock = clock
        self._places = places
        self._done = done
        self._streak = Streak()
        self._slow = False

    async def next(self) -> Streak:
        """One look, its result handed on; what all of them come to."""
        probe = self.probe
        async with self._places[self._slow]:
            started = self._clock.now()
            ok, reason, warning = await self._seen()
            ended = self._clock.now()
        took = ended - started
        self._slow = took >= probe.timeout_seconds
        result = Result(site=probe.site, probe=probe.name, ok=ok, reason=reason, warning=warning, took_seconds=took)
        self._streak = self._streak.after(result, rise=probe.rise, fall=probe.fall, now=ended)
        self._done(result)
        return self._streak

    async def _seen(self) -> tuple[bool, str, str]:
        """Healthy or not, why, and what to see to."""
        try:
            async with asyncio.timeout(self.probe.timeout_seconds):
                seen = await self._look()
        except (ProbeFailed, OSError, aiohttp.ClientError) as error:  # TimeoutError is an OSError
            return False, _plain(error, self.probe), ""
        return True, seen.text, seen.warning


def _plain(error: Exception, probe: Probe) -> str:
    """One line for people, the same each time for the same fault."""
    match error:
        case TimeoutError():
            text = f"no answer within {probe.timeout_seconds:g} s"
        case aiohttp.ClientConnectorCertificateError():
            text = f"certificate not trusted: {error.certificate_error}"
        case ssl.SSLCertVerificationError():
            text = f"certificate not trusted: {error.verify_message}"
        case aiohttp.ClientSSLError(os_error=cause) | (ssl.SSLError() as cause):  # its errno is not one of the system's
            text = f"no TLS: {cause.strerror or cause}"
        case aiohttp.ClientConnectorError(os_error=OSError() as cause) | (OSError() as cause) if cause.errno:
            text = os.strerror(cause.errno).lower() if cause.errno > 0 else str(cause.strerror)
        case _:
            text = str(error) or type(error).__name__
    return one_line(text)
