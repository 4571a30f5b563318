"""Transaction signatures (RFC 8945): who asks, proven by a shared key, and answers signed for them.

Law: the strict codec accepted the packet before anything here looks at it. Key, MAC and time are checked in the RFC's
order, and each failure has its own answer: BADKEY and BADSIG unsigned, BADTIME signed with our time. The arithmetic
is dnspython's, loaded with the first signed message: a transfer is not the hot path.
"""

import struct
from typing import TYPE_CHECKING, Any

from anycastle.dns.settings import TsigKey
from anycastle.dns.wire import HEADER_BYTES, QR, RECURSION_DESIRED, Query, Rcode

if TYPE_CHECKING:
    import dns.rdtypes.ANY.TSIG
    import dns.tsig

MARK = b"\x00\xfa\x00\xff"
"""Type TSIG, class ANY: a packet without these bytes is not signed."""
TSIG = 250
BADSIG, BADKEY, BADTIME = 16, 17, 18
FUDGE_SECONDS = 300
MAC_BYTES_MIN = 10
"""RFC 8945 section 5.2.2.1: a MAC shorter than this is FORMERR."""

_RECORD = struct.Struct("!HHIH")
_COUNT = struct.Struct("!H")
_OPCODE = 0x7800


class Signature:
    """A request whose signature is right; signs what is answered to it, one message or a stream of them."""

    def __init__(self, key: "dns.tsig.Key", record: "dns.rdtypes.ANY.TSIG.TSIG") -> None:
        self.name = bytes(key.name.to_wire() or b"").lower()
        self._key = key
        self._record = record
        self._context: dns.tsig.HMACTSig | dns.tsig.GSSTSig | None = None

    def sign(self, message: bytes, *, wall: float, error: int = 0, other: bytes = b"") -> bytes:
        """The message with a TSIG record; each one of a stream covers the MAC before it (RFC 8945 section 5.3.1)."""
        import dns.tsig

        plain = self._record.replace(error=error, other=other, fudge=FUDGE_SECONDS)
        signed, self._context = dns.tsig.sign(  # type: ignore[no-untyped-call]
            message, self._key, plain, int(wall), self._record.mac, self._context, multi=True
        )
        return append(message, self.name, signed)

    def size_bytes(self) -> int:
        """What signing adds to a message."""
        return len(self.name) + _RECORD.size + len(self._record.to_wire() or b"")


def append(message: bytes, owner: bytes, record: Any) -> bytes:
    """The message with one more additional record."""
    rdata = bytes(record.to_wire() or b"")
    (count,) = _COUNT.unpack_from(message, 10)
    fixed = _RECORD.pack(TSIG, 255, 0, len(rdata))
    return message[:10] + _COUNT.pack(count + 1) + message[12:] + owner + fixed + rdata


def verify(
    packet: bytes, query: Query, keys: dict[bytes, TsigKey], *, wall: float
) -> tuple[bytes, Signature | None] | bytes:
    """The packet without its TSIG record, and the signature (None when there is none); or the answer that refuses it.

    `query` is what `parse_query` made of the packet.
    """
    try:
        start = _find(packet, HEADER_BYTES + len(query.question))
        if start is None:
            return packet, None
        return _verify(packet, start, query, keys, wall)
    except _FormatError:
        return _refusal(query, Rcode.FORMERR)


class _FormatError(Exception):
    """A TSIG record that breaks the format; the answer is FORMERR."""


def _verify(
    packet: bytes, start: int, query: Query, keys: dict[bytes, TsigKey], wall: float
) -> tuple[bytes, Signature | None] | bytes:
    import dns.exception
    import dns.name
    import dns.rdata
    import dns.rdtypes.ANY.TSIG
    import dns.tsig

    try:
        name, used = dns.name.from_wire(packet, start)
        rrtype, rrclass, ttl, size = _RECORD.unpack_from(packet, start + used)
        record = dns.rdata.from_wire(rrclass, rrtype, packet, start + used + _RECORD.size, size)
    except (dns.exception.DNSException, ValueError) as fault:
        raise _FormatError from fault
    if not isinstance(record, dns.rdtypes.ANY.TSIG.TSIG) or ttl:
        raise _FormatError
    owner = bytes(name.to_wire() or b"").lower()
    known = keys.get(owner)
    if known is None or record.algorithm != dns.name.from_text(known.algorithm):
        return _unsigned(query, owner, record, BADKEY, wall)
    key = dns.tsig.Key(name, known.secret, known.algorithm)
    if len(record.mac) < MAC_BYTES_MIN:
        raise _FormatError
    try:
        dns.tsig.validate(  # type: ignore[no-untyped-call]
            packet, key, name, record.replace(error=0), record.time_signed, b"", start
        )
    except dns.tsig.BadSignature:
        return _unsigned(query, owner, record, BADSIG, wall)
    signature = Signature(key, record)
    if abs(record.time_signed - wall) > record.fudge:
        # RFC 8945 section 5.2.3: signed, with the client's time as its time and ours in Other Data
        return signature.sign(
            _refusal(query, Rcode.NOTAUTH),
            wall=record.time_signed,
            error=BADTIME,
            other=int(wall).to_bytes(6, "big"),
        )
    (count,) = _COUNT.unpack_from(packet, 10)
    return packet[:10] + _COUNT.pack(count - 1) + packet[12:start], signature


def _unsigned(query: Query, owner: bytes, record: "dns.rdtypes.ANY.TSIG.TSIG", error: int, wall: float) -> bytes:
    """RFC 8945 section 5.3.2: an error about key or MAC has an empty MAC, for what would it prove?"""
    plain = record.replace(error=error, mac=b"", other=b"", time_signed=int(wall), fudge=FUDGE_SECONDS)
    return append(_refusal(query, Rcode.NOTAUTH), owner, plain)


def _refusal(query: Query, rcode: Rcode) -> bytes:
    flags = QR | query.flags & (_OPCODE | RECURSION_DESIRED) | rcode
    return struct.pack("!HHHHHH", query.id, flags, 1, 0, 0, 0) + query.question


def _find(packet: bytes, position: int) -> int | None:
    """Where the TSIG record begins. RFC 8945 section 5.1: the last additional record, once, or FORMERR."""
    authorities, additionals = struct.unpack_from("!HH", packet, 8)
    found = None
    for _ in range(authorities + additionals):
        if found is not None:
            raise _FormatError
        start = position
        while (length := packet[position]) and length < 0xC0:
            position += length + 1
        position += 2 if length else 1
        rrtype, _, _, size = _RECORD.unpack_from(packet, position)
        position += _RECORD.size + size
        if rrtype == TSIG:
            found = start
    if found is not None and not additionals:
        raise _FormatError
    return found
