"""The tcp probe: a connection that opens, and what is said on it."""

import asyncio

from anycastle.health.lookup import Lookup
from anycastle.health.probe_seen import ProbeFailed, Seen
from anycastle.health.settings import TcpCheck

EXPECT_BYTES_MAX = 4096
"""Searched for `expect`; a greeting is a line."""


async def look_tcp(check: TcpCheck, lookup: Lookup) -> Seen:
    reader, writer = await _connected(await lookup.addresses(check.host, check.port), check.port)
    try:
        if check.send:
            writer.write(check.send)
        if check.expect:
            await _expect(reader, check.expect)
    finally:
        writer.transport.abort()  # whatever it still has to say, we have seen enough
    return Seen("connected, and it says what is expected" if check.expect else "connected")


async def _connected(addresses: list[str], port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    refused: OSError = OSError("no address")
    for address in addresses:
        try:
            return await asyncio.open_connection(address, port)
        except OSError as error:
            refused = error
    raise refused


async def _expect(reader: asyncio.StreamReader, text: bytes) -> None:
    said = b""
    while text not in said:
        if len(said) >= EXPECT_BYTES_MAX:
            raise ProbeFailed(f"did not say {text!r} in its first {EXPECT_BYTES_MAX} bytes")
        more = await reader.read(EXPECT_BYTES_MAX - len(said))
        if not more:
            raise ProbeFailed(f"closed before it said {text!r}; it said {said[:60]!r}")
        said += more
