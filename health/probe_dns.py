"""The dns probe: one question over UDP, no retry, for rise and fall count losses."""

import asyncio
from dataclasses import dataclass

import dns.exception
import dns.flags
import dns.message
import dns.rcode

from anycastle.health.lookup import Lookup
from anycastle.health.probe_seen import ProbeFailed, Seen
from anycastle.health.settings import DnsCheck

UDP_PAYLOAD_BYTES_MAX = 1232
RECORDS_SHOWN_MAX = 3


@dataclass(frozen=True, slots=True)
class Answer:
    """What a probe wants to know of a DNS answer."""

    rcode: str
    authoritative: bool
    truncated: bool
    records: tuple[str, ...]
    """Data of the records of the type asked for, in master-file text."""


async def look_dns(check: DnsCheck, lookup: Lookup) -> Seen:
    addresses = await lookup.addresses(check.host, check.port)
    answer = await ask(addresses[0], check)
    if answer.rcode != check.rcode or (check.authoritative and not answer.authoritative):
        authority = "authoritative" if answer.authoritative else "not authoritative"
        article = "an authoritative" if check.authoritative else "a"
        raise ProbeFailed(f"answered {answer.rcode}, {authority}; expected {article} {check.rcode}")
    missing = sorted(check.answer.difference(answer.records))
    if missing:
        has = ", ".join(sorted(answer.records)[:RECORDS_SHOWN_MAX]) or "no such record"
        cut = " in an answer cut short" if answer.truncated else ""
        raise ProbeFailed(f"answered {has}{cut}; expected {', '.join(missing[:RECORDS_SHOWN_MAX])}")
    return Seen(f"answered {answer.rcode}" + (" with what is expected" if check.answer else ""))


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
            self.answer.set_result(_read(message, self._query))

    def error_received(self, exc: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(exc)


def _read(message: dns.message.Message, query: dns.message.Message) -> Answer:
    kind = query.question[0].rdtype
    return Answer(
        rcode=dns.rcode.to_text(message.rcode()),
        authoritative=bool(message.flags & dns.flags.AA),
        truncated=bool(message.flags & dns.flags.TC),
        records=tuple(data.to_text() for rrset in message.answer if rrset.rdtype == kind for data in rrset),
    )


async def ask(address: str, check: DnsCheck) -> Answer:
    """Raises OSError; waits for ever if nobody answers."""
    query = dns.message.make_query(check.name, check.type, use_edns=0, payload=UDP_PAYLOAD_BYTES_MAX)
    if check.authoritative:
        query.flags &= ~dns.flags.RD
    loop = asyncio.get_running_loop()
    transport, exchange = await loop.create_datagram_endpoint(
        lambda: _Exchange(query), remote_addr=(address, check.port)
    )
    try:
        transport.sendto(query.to_wire())
        return await exchange.answer
    finally:
        transport.close()
