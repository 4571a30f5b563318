"""Runs the configured probes for ever and hands on each result; what a result means is `judge`'s business.

Laws: a probe looks as a client would (TLS verified, content read) on a new connection each time; a slow probe never
delays another, for each has its own loop, timeout and resolver thread, as long as no more than `concurrency_max` are
under way; no redirect is followed, for then another server than the asked one would be judged.
"""

import asyncio
import os
import random
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import assert_never

import aiohttp

from anycastle.clock import Clock
from anycastle.health import command
from anycastle.health.lookup import Lookup, ask
from anycastle.health.observe import Result
from anycastle.health.settings import CommandCheck, DnsCheck, HealthSettings, HttpCheck, Probe, TcpCheck

FIRST_ROUNDS_PAUSE_SECONDS = 0.1
"""Between the rounds that decide a probe for the first time, so that a start does not take `fall` intervals."""
BODY_BYTES_MAX = 256 * 1024
"""Read of a body in search of `match`; a health page is small."""
REASON_CHARACTERS_MAX = 200


class ProbeFailed(Exception):
    """The target answered, but not as a healthy one does. Never leaves this module."""


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
        self._probes = settings.probes
        self._clock = clock
        self._on_result = on_result
        self._tls = tls or ssl.create_default_context()
        self._slots = asyncio.Semaphore(settings.concurrency_max)
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
        # A lookup that hangs in the C library cannot be stopped: a thread for each probe, so that it holds up no other.
        threads = ThreadPoolExecutor(max(1, len(self._probes)), thread_name_prefix="probe-lookup")
        try:
            async with asyncio.TaskGroup() as tasks:
                for probe in self._probes:
                    tasks.create_task(self._repeat(probe, threads), name=f"probe {probe.site} {probe.name}")
        finally:
            threads.shutdown(wait=False, cancel_futures=True)

    async def _repeat(self, probe: Probe, threads: ThreadPoolExecutor) -> None:
        address = probe.check.address if isinstance(probe.check, HttpCheck) else None
        lookup = Lookup(threads, address=address)
        # Closed after every request: a kept connection would hide that no new one can be made.
        connector = aiohttp.TCPConnector(ssl=self._tls, resolver=lookup, force_close=True, use_dns_cache=False)
        async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
            await self._decide(probe, session, lookup)
            while True:
                started = self._clock.now()
                await self._round(probe, session, lookup)
                # The module's generator will do: this spreads load and keeps no secret.
                pause = probe.interval_seconds * (1.0 + random.uniform(0.0, probe.jitter))
                await asyncio.sleep(max(0.0, started + pause - self._clock.now()))

    async def _decide(self, probe: Probe, session: aiohttp.ClientSession, lookup: Lookup) -> None:
        """The first rounds, in quick succession, until `rise` or `fall` in a row."""
        successes = failures = 0
        pause = min(FIRST_ROUNDS_PAUSE_SECONDS, probe.interval_seconds)
        for _ in range(probe.rise + probe.fall):
            ok = await self._round(probe, session, lookup)
            successes, failures = (successes + 1, 0) if ok else (0, failures + 1)
            if successes >= probe.rise or failures >= probe.fall:
                break
            await asyncio.sleep(pause)
        self._undecided -= 1
        if not self._undecided:
            self._first_round.set()
        await asyncio.sleep(probe.interval_seconds)

    async def _round(self, probe: Probe, session: aiohttp.ClientSession, lookup: Lookup) -> bool:
        async with self._slots:
            started = self._clock.now()
            try:
                async with asyncio.timeout(probe.timeout_seconds):
                    ok, reason = True, await _check(probe, session, lookup)
            except (ProbeFailed, OSError, aiohttp.ClientError) as error:  # TimeoutError is an OSError
                ok, reason = False, _plain(error, probe)
            took_seconds = self._clock.now() - started
        self.rounds += 1
        self.failures += not ok
        self._on_result(Result(site=probe.site, probe=probe.name, ok=ok, reason=reason, took_seconds=took_seconds))
        return ok


async def _check(probe: Probe, session: aiohttp.ClientSession, lookup: Lookup) -> str:
    """One look; returns what a healthy target did, raises for any other."""
    match probe.check:
        case HttpCheck() as check:
            return await _check_http(check, session)
        case TcpCheck(host=host, port=port):
            return await _check_tcp(await lookup.addresses(host, port), port)
        case DnsCheck() as check:
            return await _check_dns(check, lookup)
        case CommandCheck(command=line):
            return await _check_command(line)
        case never:
            assert_never(never)


async def _check_http(check: HttpCheck, session: aiohttp.ClientSession) -> str:
    # `identity`: the text is searched as it comes, and no small body can unpack into a huge one.
    headers = {"User-Agent": "anycastle-probe", "Accept-Encoding": "identity", "Cache-Control": "no-cache"}
    async with session.get(check.url, headers=headers, allow_redirects=False) as response:
        if response.status not in check.statuses:
            expected = " or ".join(str(status) for status in sorted(check.statuses))
            raise ProbeFailed(f"status {response.status}, expected {expected}")
        if check.match is None:
            return f"status {response.status}"
        if check.match.encode() not in await _beginning(response.content):
            raise ProbeFailed(f"status {response.status} without the text {check.match!r}")
        return f"status {response.status} with the expected text"


async def _beginning(content: aiohttp.StreamReader) -> bytes:
    body = bytearray()
    while len(body) < BODY_BYTES_MAX:
        chunk = await content.read(BODY_BYTES_MAX - len(body))
        if not chunk:
            break
        body += chunk
    return bytes(body)


async def _check_tcp(addresses: list[str], port: int) -> str:
    refused: OSError = OSError("no address")
    for address in addresses:
        try:
            _, writer = await asyncio.open_connection(address, port)
        except OSError as error:
            refused = error
            continue
        writer.transport.abort()  # nothing was said, so there is nothing to wait for
        return "connected"
    raise refused


async def _check_dns(check: DnsCheck, lookup: Lookup) -> str:
    addresses = await lookup.addresses(check.host, check.port)
    answer = await ask(addresses[0], check.port, name=check.name, type=check.type)
    if answer.rcode != "NOERROR" or not answer.authoritative:
        authority = "authoritative" if answer.authoritative else "not authoritative"
        raise ProbeFailed(f"answered {answer.rcode}, {authority}; expected an authoritative NOERROR")
    return "answered NOERROR"


async def _check_command(line: str) -> str:
    status, said = await command.run(line)
    if status != 0:
        ended = f"ended by signal {-status}" if status < 0 else f"status {status}"
        raise ProbeFailed(f"{ended}: {said}" if said else ended)
    return "status 0"


def _plain(error: Exception, probe: Probe) -> str:
    """One line for people, the same each time for the same fault."""
    match error:
        case TimeoutError():
            text = f"no answer within {probe.timeout_seconds:g} s"
        case aiohttp.ClientConnectorCertificateError():
            text = f"certificate not trusted: {error.certificate_error}"
        case aiohttp.ClientSSLError(os_error=cause):  # its errno is not one of the system's
            text = f"no TLS: {cause.strerror or cause}"
        case aiohttp.ClientConnectorError(os_error=OSError() as cause) | (OSError() as cause) if cause.errno:
            text = os.strerror(cause.errno).lower() if cause.errno > 0 else str(cause.strerror)
        case _:
            text = str(error) or type(error).__name__
    return " ".join(text.split())[:REASON_CHARACTERS_MAX]
