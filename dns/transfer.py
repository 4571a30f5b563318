"""A zone as a stream of messages (AXFR, RFC 5936; IXFR, RFC 1995), made of one immutable zone as it is sent.

Law: the SOA record first and last, every other record between them once, glue too. A steered name is its current
default answer: the decision for a client of whom nothing is known, with the smallest TTL of the name; a wildcard stays
a wildcard. IXFR is answered with the differences since the client's version, which leave steered names alone; else in
the style of AXFR; with the SOA alone when the client has nothing to fetch.
"""

import itertools
import struct
from collections.abc import Iterable, Iterator

from anycastle.dns.decider import Decider
from anycastle.dns.difference import Difference, chain_from
from anycastle.dns.reply import MESSAGE_BYTES_MAX, Answer, render
from anycastle.dns.rrset import AAAA, FIXED, SOA, A, RRset, make_rrset
from anycastle.dns.serial import is_newer
from anycastle.dns.settings import Address
from anycastle.dns.steer import Match, Steering
from anycastle.dns.wire import HEADER_BYTES, TRUNCATED, Query, labels_of
from anycastle.dns.zone import Zone, serial_of, soa_of

IXFR, AXFR = 251, 252
BATCH_BYTES = 16000
"""Records of one message, before compression: most of it within reach of pointers, and far below 64 KiB."""

_STAR = b"*"
_SOA_NUMBERS_BYTES = 20


def axfr(query: Query, zone: Zone, decider: Decider, *, now: float, payload_bytes: int) -> Iterator[bytes]:
    """The whole zone (RFC 5936 section 2.2)."""
    for batch in _batches(_rrsets(zone, decider, now)):
        yield _message(query, batch, payload_bytes)


def ixfr(
    query: Query,
    packet: bytes,
    zone: Zone,
    decider: Decider,
    history: tuple[Difference, ...] = (),
    *,
    room: int | None,
    now: float,
    payload_bytes: int,
) -> Iterator[bytes] | None:
    """What is new since the client's version; None when it does not say which version that is.

    `room` is how large the answer may be by UDP, None by TCP. RFC 1995 section 2: what is larger is the SOA alone, as
    if to say "ask again by TCP". Section 4: the whole zone where the version is not known or that is smaller.
    """
    serial = client_serial(query, packet)
    if serial is None:
        return None
    soa = soa_of(zone)
    alone = _message(query, [soa], payload_bytes)
    if not is_newer(serial_of(zone), serial):
        return iter((alone,))
    chain = chain_from(history, serial)
    rrsets = (soa, *itertools.chain.from_iterable(each.rrsets() for each in chain), soa)
    if room is not None:
        whole = render(query, Answer(answer=rrsets), bytes_max=room, payload_bytes=payload_bytes)
        return iter((whole if chain and not whole[2] & TRUNCATED >> 8 else alone,))
    if not chain or sum(each.size_bytes for each in chain) >= zone.nodes.size_bytes():
        return axfr(query, zone, decider, now=now, payload_bytes=payload_bytes)
    return (_message(query, batch, payload_bytes) for batch in _batches(rrsets))


def client_serial(query: Query, packet: bytes) -> int | None:
    """The serial of the SOA record in the authority section of an IXFR query; None when there is none."""
    if packet[8:10] != b"\0\1":
        return None
    position = HEADER_BYTES + len(query.question)
    while (length := packet[position]) and length < 0xC0:
        position += length + 1
    position += 2 if length else 1
    rrtype, _, _, size = FIXED.unpack_from(packet, position)
    if rrtype != SOA or size < _SOA_NUMBERS_BYTES + 2:
        return None
    (serial,) = struct.unpack_from("!I", packet, position + FIXED.size + size - _SOA_NUMBERS_BYTES)
    return int(serial)


def _message(query: Query, rrsets: Iterable[RRset], payload_bytes: int) -> bytes:
    return render(query, Answer(answer=tuple(rrsets)), bytes_max=MESSAGE_BYTES_MAX, payload_bytes=payload_bytes)


def _rrsets(zone: Zone, decider: Decider, now: float) -> Iterator[RRset]:
    soa = soa_of(zone)
    yield soa
    for name, node in zone.nodes.items():
        for rrtype, rrset in node.rrsets.items():
            if rrtype != SOA and not (node.steered and rrtype in (A, AAAA)):
                yield rrset
        if node.steered:
            yield from _default_answer(name, decider, now)
    yield soa


def _default_answer(name: bytes, decider: Decider, now: float) -> Iterator[RRset]:
    """What a steered name says to a client of whom nothing is known; nothing where its policy gives no address."""
    match = _match(decider.steering, name)
    if match is None:
        return
    addresses = decider.decide(match, b"", 0, now=now).decision.addresses
    for version, rrtype in ((4, A), (6, AAAA)):
        packed = tuple((address.packed,) for address in _of(version, addresses))
        if packed:
            yield make_rrset(name, rrtype, match.rule.ttl_min_seconds, packed)


def _of(version: int, addresses: Iterable[Address]) -> Iterator[Address]:
    return (address for address in addresses if address.version == version)


def _match(steering: Steering, name: bytes) -> Match | None:
    """The rule; for a wildcard as such, about all of the content that a star may lead to."""
    labels = labels_of(name)
    if labels[0] != _STAR:
        return steering.match(labels)
    rule = steering.wildcards.get(labels[1:])
    if rule is None:
        return None
    return Match(rule, ("*",), rule.content.partition("{1}")[0].encode())


def _batches(rrsets: Iterable[RRset]) -> Iterator[list[RRset]]:
    batch: list[RRset] = []
    size = 0
    for rrset in rrsets:
        for piece, piece_bytes in _pieces(rrset):
            if batch and size + piece_bytes > BATCH_BYTES:
                yield batch
                batch, size = [], 0
            batch.append(piece)
            size += piece_bytes
    yield batch


def _pieces(rrset: RRset) -> Iterator[tuple[RRset, int]]:
    """The set, in parts where it is larger than a message should be; and the size of each."""
    fixed_bytes = len(rrset.owner) + FIXED.size
    sizes = [fixed_bytes + sum(map(len, rdata)) for rdata in rrset.rdatas]
    if (total := sum(sizes)) <= BATCH_BYTES:
        yield rrset, total
        return
    for rdata, size in zip(rrset.rdatas, sizes, strict=True):
        yield RRset(rrset.owner, rrset.rrtype, rrset.ttl, (rdata,)), size
