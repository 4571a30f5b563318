"""The http probe: one request, as a browser would make it, on a new connection.

Laws: no redirect is followed, for then another server than the asked one would be judged; of a body no more than
`BODY_BYTES_MAX` is read; an operator's pattern that takes for ever on some page is given up and counts as a failure.
"""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import regex

from anycastle.clock import Clock
from anycastle.health.lookup import Lookup
from anycastle.health.probe_seen import Look, ProbeFailed, Seen
from anycastle.health.probe_tls import ProbeTls, verified, warning
from anycastle.health.settings import HttpCheck

BODY_BYTES_MAX = 256 * 1024
"""Read of a body in search of `match`; a health page is small."""
PATTERN_SECONDS_MAX = 0.05
"""The event loop stands still for so long at most."""
HEADERS = {"User-Agent": "anycastle-probe", "Accept-Encoding": "identity", "Cache-Control": "no-cache"}
"""`identity`: the text is searched as it comes, and no small body can unpack into a huge one."""


@asynccontextmanager
async def http_look(
    check: HttpCheck, lookup: Lookup, *, clock: Clock, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Look]:
    """`tls` instead of a context of its own."""
    # Closed after every request: a kept connection would hide that no new one can be made.
    connector = aiohttp.TCPConnector(resolver=lookup, force_close=True, use_dns_cache=False)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield _HttpLook(check, session, clock, tls)


class _HttpLook:
    def __init__(
        self, check: HttpCheck, session: aiohttp.ClientSession, clock: Clock, tls: ssl.SSLContext | None
    ) -> None:
        self._check = check
        self._session = session
        self._clock = clock
        self._tls = tls
        self._headers = _headers(check)
        self._pattern = regex.compile(check.pattern.encode()) if check.pattern is not None else None

    async def __call__(self) -> Seen:
        check = self._check
        if self._tls is None:  # here, so that an authority's file may come later
            self._tls = verified(check.authority)
        request = self._session.request(
            check.method,
            check.url,
            headers=self._headers,
            allow_redirects=False,
            ssl=self._tls,
            server_hostname=check.server_name,
        )
        async with request as response:
            if response.status not in check.statuses:
                expected = " or ".join(str(status) for status in sorted(check.statuses))
                raise ProbeFailed(f"status {response.status}, expected {expected}")
            text = f"status {response.status}"
            if check.match is not None or self._pattern is not None:
                self._search(await _beginning(response.content), text)
                text += " with the expected text"
        return Seen(text, self._warning())

    def _search(self, body: bytes, status: str) -> None:
        match = self._check.match
        if match is not None and match.encode() not in body:
            raise ProbeFailed(f"{status} without the text {match!r}")
        if self._pattern is None:
            return
        try:
            found = self._pattern.search(body, timeout=PATTERN_SECONDS_MAX)
        except TimeoutError as error:
            raise ProbeFailed(f"{status}; the pattern took longer than {PATTERN_SECONDS_MAX:g} s on it") from error
        if found is None:
            raise ProbeFailed(f"{status} without a match for {self._check.pattern!r}")

    def _warning(self) -> str:
        if not isinstance(self._tls, ProbeTls):
            return ""
        return warning(self._tls.ends(), before_seconds=self._check.warn_before_seconds, wall=self._clock.wall())


def _headers(check: HttpCheck) -> dict[str, str]:
    given = {name.lower() for name, _ in check.headers}
    return {name: value for name, value in HEADERS.items() if name.lower() not in given} | dict(check.headers)


async def _beginning(content: aiohttp.StreamReader) -> bytes:
    body = bytearray()
    while len(body) < BODY_BYTES_MAX:
        chunk = await content.read(BODY_BYTES_MAX - len(body))
        if not chunk:
            break
        body += chunk
    return bytes(body)
