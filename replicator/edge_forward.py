"""What one member's edge asks of another's: the words between `edge` and `peer`.

Law: a request says which members it has passed; one that has hopped is not forwarded again, so no loop can form.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import quote_from_bytes

import aiohttp
from aiohttp.client_middlewares import ClientHandlerType
from multidict import CIMultiDict
from yarl import URL

from anycastle.errors import AnycastleError

HOP_HEADER = "X-Anycastle-Hop"
"""Members passed, in order. Believed only on the members' own TLS; taken off what comes from outside."""
FORWARD_PATH = "/edge"
"""Stands before the raw path of a forwarded request on the members' listener."""

_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))


class ForwardError(AnycastleError):
    """The other member did not answer. `sent` is False when it surely has seen nothing of the request."""

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardRequest:
    """A client's request on its way to another member."""

    method: str
    raw_path: str
    """As it stood on the request line, query included."""
    headers: CIMultiDict[str]
    """End to end ones, with the client's Host, X-Forwarded-For and the hop header."""
    body: AsyncIterator[bytes] | None
    silence_seconds_max: float
    """The other side may wait for a fence: longest time without a byte of its answer."""
    upgrade: bool = False
    """It asks to leave HTTP behind: the answer may be a 101, and the connection then the caller's."""


class BrokenOff(aiohttp.ClientError):
    """The other side hung up before its answer, which may be after it did what was asked."""


async def once(request: aiohttp.ClientRequest, handler: ClientHandlerType) -> aiohttp.ClientResponse:
    """A middleware: the client library would ask for PUT and DELETE again by itself when a connection breaks."""
    try:
        return await handler(request)
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
        raise  # nothing was sent, and the library knows it
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise BrokenOff(str(error)) from error


def raw_url(origin: URL, raw_path: str) -> URL:
    """The URL below `origin` whose request line is `raw_path`, character for character.

    But for two things that every server reads as the same: bytes beyond ASCII are escaped, a lone `?` at the end goes.
    """
    escaped = quote_from_bytes(raw_path.encode("utf-8", "surrogateescape"), safe=_PRINTABLE)
    return URL(f"{str(origin).rstrip('/')}{escaped}", encoded=True)
