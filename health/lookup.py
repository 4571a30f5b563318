"""The two things probes need of names: host name to addresses, and one DNS question over UDP.

Law: one lookup at a time for each probe. A hanging C library resolver holds one thread, not one more each second.
"""

import asyncio
import ipaddress
import socket
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import dns.exception
import dns.flags
import dns.message
import dns.rcode
from aiohttp.abc import AbstractResolver, ResolveResult

UDP_PAYLOAD_BYTES_MAX = 1232


class Lookup(AbstractResolver):
    """Host names of one probe; with `address` given, every name is there."""

    def __init__(self, threads: ThreadPoolExecutor, *, address: str | None = None) -> None:
        self._threads = threads
        self._address = address
        self._under_way: Future[list[str]] | None = None

    async def addresses(self, host: str, port: int) -> list[str]:
        """Literal addresses of `host`, at least one, in the system's order. Raises OSError."""
        if self._address is not None:
            return [self._address]
        if _is_address(host):
            return [host]
        if self._under_way is None or self._under_way.done():
            self._under_way = self._threads.submit(_getaddrinfo, host, port)
        # Not `wrap_future` alone: a timeout must leave the thread's result to the next round.
        return await asyncio.shield(asyncio.wrap_future(self._under_way))

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """aiohttp's way to ask the same."""
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in await self.addresses(host, port)
        ]

    async def close(self) -> None:
        """The threads belong to the prober."""


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _getaddrinfo(host: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise OSError(f"{host} is no host name") from error
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


@dataclass(frozen=True, slots=True)
class Answer:
    """What a probe wants to know of a DNS answer."""

    rcode: str
    authoritative: bool


class _Exchange(asyncio.DatagramProtocol):
    """Waits for the one datagram that answers `query`; anything else may be forged and is passed over."""

    def __init__(self, query: dns.message.Message) -> None:
        self._query = query
        self.answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: object) -> None:
        try:
            message = dns.message.from_wire(data)
        except (dns.exception.DNSException, ValueError):
            return
        if self._query.is_response(message) and not self.answer.done():
            rcode = dns.rcode.to_text(message.rcode())
            self.answer.set_result(Answer(rcode, bool(message.flags & dns.flags.AA)))

    def error_received(self, exc: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(exc)


async def ask(address: str, port: int, *, name: str, type: str) -> Answer:
    """One question over UDP, no retry: the caller counts losses. Raises OSError; waits for ever if nobody answers."""
    query = dns.message.make_query(name, type, use_edns=0, payload=UDP_PAYLOAD_BYTES_MAX)
    query.flags &= ~dns.flags.RD
    loop = asyncio.get_running_loop()
    transport, exchange = await loop.create_datagram_endpoint(lambda: _Exchange(query), remote_addr=(address, port))
    try:
        transport.sendto(query.to_wire())
        return await exchange.answer
    finally:
        transport.close()
