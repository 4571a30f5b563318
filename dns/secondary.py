"""What secondaries ask: transfers, and any query that is signed.

Law: a zone goes only to whom its `transfer` names: the address and, where one is configured, the key. Everybody else
is REFUSED and learns nothing. A signed query is answered as any other, and the answer is signed (RFC 8945
section 5.3). No packet raises; a fault of ours becomes SERVFAIL and a count, as in `respond`.
"""

import ipaddress
from collections.abc import Callable, Iterator

from anycastle.dns.decider import Decider
from anycastle.dns.edns import PROHIBITED, ExtendedError
from anycastle.dns.reply import Answer, render, reply_bytes_max
from anycastle.dns.respond import respond, respond_truncated
from anycastle.dns.rrset import CLASS_IN
from anycastle.dns.settings import TransferSettings
from anycastle.dns.tables import Tables
from anycastle.dns.transfer import AXFR, IXFR, axfr, ixfr
from anycastle.dns.tsig import MARK, Signature, verify
from anycastle.dns.wire import HEADER_BYTES, Query, Rcode, parse_query

COUNTERS = ("transfers", "transfers_refused", "signed", "signatures_refused")

_TRANSFERS = (b"\x00\xfb\x00\x01", b"\x00\xfc\x00\x01")
"""IXFR and AXFR, class IN."""

Wall = Callable[[], float]
"""Seconds since 1970, now: signatures carry the time of day."""


def concerns(packet: bytes) -> bool:
    """Whether this module must look at the packet; true of some others too, which is harmless."""
    return MARK in packet or _TRANSFERS[0] in packet or _TRANSFERS[1] in packet


def respond_secondary(
    packet: bytes,
    *,
    source: bytes,
    tcp: bool,
    tables: Tables,
    decider: Decider | None,
    now: float,
    wall: Wall,
    counters: dict[str, int],
) -> bytes | Iterator[bytes] | None:
    """One answer, or the messages of a transfer, or None for silence. `counters` are those of `respond` and `COUNTERS`.

    Never raises, but what iterates over a transfer may get an exception of ours.
    """
    query = parse_query(packet)
    if decider is None or not isinstance(query, Query):
        return respond(
            packet, source=source, tcp=tcp, tables=tables, decider=decider, now=now, wall=wall(), counters=counters
        )
    signature: Signature | None = None
    try:
        verified = verify(packet, query, tables.keys, wall=wall())
        if isinstance(verified, bytes):
            counters["queries"] += 1
            counters["queries_tcp"] += tcp
            counters["signatures_refused"] += 1
            counters[f"rcode_{Rcode(verified[3] & 0xF).name.lower()}"] += 1
            return verified
        plain, signature = verified
        counters["signed"] += signature is not None
        if query.rrtype in (AXFR, IXFR) and query.rrclass == CLASS_IN:
            counters["queries"] += 1
            counters["queries_tcp"] += tcp
            found = _transfer(query, plain, source, signature, tcp, tables, decider, now)
            if not isinstance(found, Rcode):
                counters["transfers"] += 1
                counters["rcode_noerror"] += 1
                if tcp:
                    return _signed(found, signature, wall)
                reply = next(found)
            else:
                counters["transfers_refused"] += 1
                counters[f"rcode_{found.name.lower()}"] += 1
                reply = _error(query, found, tables)
        else:
            told = respond(
                plain, source=source, tcp=tcp, tables=tables, decider=decider, now=now, wall=wall(), counters=counters
            )
            if told is None:
                return None
            reply = told
        if signature is None:
            return reply
        room = reply_bytes_max(query, tcp=tcp, payload_bytes_max=tables.udp_payload_bytes_max)
        if len(reply) + signature.size_bytes() > room:  # RFC 8945 section 5.3: rather truncated than unsigned
            reply = respond_truncated(plain, source, tables, wall=wall()) or reply
        return signature.sign(reply, wall=wall())
    except Exception:
        counters["faults"] += 1
        counters["rcode_servfail"] += 1
        return packet[:2] + bytes((0x80 | packet[2] & 0x79, Rcode.SERVFAIL)) + bytes(8)


def _transfer(
    query: Query,
    packet: bytes,
    source: bytes,
    signature: Signature | None,
    tcp: bool,
    tables: Tables,
    decider: Decider,
    now: float,
) -> Iterator[bytes] | Rcode:
    zone = tables.zones.get(query.name)
    allowed = tables.transfers.get(query.name)
    if zone is None or allowed is None or not may_transfer(allowed, source, signature.name if signature else b""):
        return Rcode.REFUSED
    payload_bytes = tables.udp_payload_bytes_max
    if query.rrtype == AXFR:
        if not tcp:  # RFC 5936 section 4.2: AXFR by UDP is not defined
            return Rcode.REFUSED
        return axfr(query, zone, decider, now=now, payload_bytes=payload_bytes)
    room = None
    if not tcp:
        room = reply_bytes_max(query, tcp=False, payload_bytes_max=payload_bytes)
        room -= signature.size_bytes() if signature is not None else 0
    history = tables.histories.get(query.name, ())
    found = ixfr(query, packet, zone, decider, history, room=room, now=now, payload_bytes=payload_bytes)
    return Rcode.FORMERR if found is None else found


def may_transfer(allowed: TransferSettings, source: bytes, key_name: bytes) -> bool:
    """Whether the address may have the zone, with the key (wire form; empty for none) that it proved to hold."""
    address = ipaddress.ip_address(source)
    if not any(address in network for network in allowed.to):
        return False
    return allowed.key is None or key_wire_name(allowed.key) == key_name


def key_wire_name(name: str) -> bytes:
    """The configuration's name of a key (plain ASCII labels) in wire form."""
    return b"".join(bytes((len(label),)) + label for label in name.lower().encode().split(b".")) + b"\0"


def _error(query: Query, rcode: Rcode, tables: Tables) -> bytes:
    prohibited = ExtendedError(PROHIBITED) if rcode is Rcode.REFUSED else None
    answer = Answer(rcode=rcode, authoritative=False, error=prohibited)
    limit = HEADER_BYTES + 4096
    return render(query, answer, bytes_max=limit, payload_bytes=tables.udp_payload_bytes_max)


def _signed(messages: Iterator[bytes], signature: Signature | None, wall: Wall) -> Iterator[bytes]:
    if signature is None:
        return messages
    return (signature.sign(message, wall=wall()) for message in messages)
