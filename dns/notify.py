"""NOTIFY (RFC 1996): secondaries are told of a new serial until they answer, a bounded number of times.

Law: nobody is told before the workers answer with the new serial, for a secondary comes back at once. A newer serial
takes the place of an older one that is still being told. Any answer ends it (RFC 1996 section 3.6).
"""

import asyncio
import ipaddress
import logging
from collections.abc import Callable

import dns.asyncquery
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.query
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.tsig

from anycastle.dns.settings import TsigKey
from anycastle.dns.tables import Tables
from anycastle.dns.zone import serial_of, show_name, soa_of

ANSWER_SECONDS_MAX = 3.0
RETRY_SECONDS_MIN = 1.0
RETRY_SECONDS_MAX = 60.0
TRIES_MAX = 10
"""About five minutes in all; afterwards the secondary's own refresh timer finds the change."""
IN_FORCE_SECONDS_MAX = 30.0
POLL_SECONDS = 0.1

_log = logging.getLogger("anycastle.dns.notify")

Endpoint = tuple[str, int]


class Notifier:
    """`want` says what is served now; `run` tells it."""

    def __init__(self, sources: tuple[str, ...], in_force: Callable[[], bool]) -> None:
        self._sources = {6 if ":" in source else 4: source for source in reversed(sources)}
        """Secondaries know us by the address that they ask."""
        self._in_force = in_force
        self._tables: Tables | None = None
        self._wanted: dict[tuple[bytes, Endpoint], int] = {}
        """The newest serial for each secondary of each zone."""
        self._new: asyncio.Queue[tuple[bytes, Endpoint, int]] = asyncio.Queue()
        self.counters = {"notifies": 0, "notifies_answered": 0, "notifies_given_up": 0}

    def want(self, tables: Tables) -> None:
        """Whoever does not know these serials is told of them."""
        self._tables = tables
        wanted = {
            (origin, endpoint): serial_of(tables.zones[origin])
            for origin, endpoints in tables.notify.items()
            for endpoint in endpoints
        }
        before, self._wanted = self._wanted, wanted
        for (origin, endpoint), serial in wanted.items():
            if before.get((origin, endpoint)) != serial:
                self._new.put_nowait((origin, endpoint, serial))

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                origin, endpoint, serial = await self._new.get()
                group.create_task(self._tell(origin, endpoint, serial))

    async def _tell(self, origin: bytes, endpoint: Endpoint, serial: int) -> None:
        await self._until_in_force()
        pause = RETRY_SECONDS_MIN
        for _ in range(TRIES_MAX):
            if self._wanted.get((origin, endpoint)) != serial:
                return
            self.counters["notifies"] += 1
            problem = await self._ask(origin, endpoint)
            if not problem:
                self.counters["notifies_answered"] += 1
                _log.info("event=notified zone=%s serial=%d to=%s:%d", show_name(origin), serial, *endpoint)
                return
            await asyncio.sleep(pause)
            pause = min(2 * pause, RETRY_SECONDS_MAX)
        self.counters["notifies_given_up"] += 1
        _log.warning("event=notify-given-up zone=%s to=%s:%d reason=%s", show_name(origin), *endpoint, problem)

    async def _until_in_force(self) -> None:
        try:
            async with asyncio.timeout(IN_FORCE_SECONDS_MAX):
                while not self._in_force():  # noqa: ASYNC110 - workers report each second, and have no event to set
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            return

    async def _ask(self, origin: bytes, endpoint: Endpoint) -> str:
        """One NOTIFY; the empty string when it was answered, else what went wrong."""
        assert self._tables is not None
        address, port = endpoint
        transfer = self._tables.transfers.get(origin)
        keys = {key.name: key for key in self._tables.keys.values()}
        message = notify_message(self._tables, origin, keys.get(transfer.key) if transfer and transfer.key else None)
        source = self._sources.get(ipaddress.ip_address(address).version)
        try:
            await dns.asyncquery.udp(message, address, ANSWER_SECONDS_MAX, port, source, ignore_unexpected=True)
        except (dns.exception.DNSException, OSError) as error:
            return str(error) or type(error).__name__
        return ""


def notify_message(tables: Tables, origin: bytes, key: TsigKey | None) -> dns.message.QueryMessage:
    """RFC 1996 section 3.7: the zone in the question, AA set, and the SOA record as a hint."""
    name, _ = dns.name.from_wire(origin, 0)
    message = dns.message.QueryMessage()
    message.set_opcode(dns.opcode.NOTIFY)
    message.flags |= dns.flags.AA
    message.find_rrset(message.question, name, dns.rdataclass.IN, dns.rdatatype.SOA, create=True, force_unique=True)
    soa = soa_of(tables.zones[origin])
    wire = b"".join(soa.rdatas[0])
    rdata = dns.rdata.from_wire(dns.rdataclass.IN, dns.rdatatype.SOA, wire, 0, len(wire))
    message.find_rrset(message.answer, name, dns.rdataclass.IN, dns.rdatatype.SOA, create=True).add(rdata, soa.ttl)
    if key is not None:
        message.use_tsig(dns.tsig.Key(key.name, key.secret, key.algorithm))
    return message
