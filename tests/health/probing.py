"""Runs real probes for a moment."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from anycastle.clock import SystemClock
from anycastle.health.observe import Result
from anycastle.health.probe import Prober
from anycastle.health.settings import Check, HealthSettings, Probe

DEADLINE_SECONDS = 30.0
PATIENCE_SECONDS = 10.0
"""What is to answer has the time that a busy machine needs."""


def probe(
    check: Check, name: str = "it", *, timeout_seconds: float = PATIENCE_SECONDS, interval_seconds: float = 0.05
) -> Probe:
    return Probe(
        site="ams",
        name=name,
        check=check,
        interval_seconds=interval_seconds,
        timeout_seconds=timeout_seconds,
        rise=1,
        fall=1,
    )


@asynccontextmanager
async def probing(
    *probes: Probe, tls: ssl.SSLContext | None = None, concurrency_max: int = 64
) -> AsyncIterator[list[Result]]:
    """Runs a prober up to its first round; the results so far."""
    results: list[Result] = []
    settings = HealthSettings(member="ams", sites=("ams",), probes=probes, concurrency_max=concurrency_max)
    prober = Prober(settings, clock=SystemClock(), on_result=results.append, tls=tls)
    async with asyncio.timeout(DEADLINE_SECONDS), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(prober.run())
        await prober.first_round()
        try:
            yield results
        finally:
            running.cancel()


async def look(
    check: Check, *, tls: ssl.SSLContext | None = None, timeout_seconds: float = PATIENCE_SECONDS
) -> tuple[bool, str]:
    async with probing(probe(check, timeout_seconds=timeout_seconds), tls=tls) as results:
        return results[0].ok, results[0].reason


def patience(reason: str) -> float:
    """The time limit for a probe of which that is expected, in seconds."""
    return 0.5 if reason == "no answer within 0.5 s" else PATIENCE_SECONDS


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():  # noqa: ASYNC110 - the world outside has no event to wait for
            await asyncio.sleep(0.01)
