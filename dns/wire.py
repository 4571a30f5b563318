"""Queries from the wire, strictly: a packet becomes a `Query`, a `Fault` with the RCODE it earns, or `Silence`.

Law: counts and lengths are checked before anything is read, nothing is followed (no compression pointer in a
question means anything), so the work is linear in the size of the packet. The ladder, first rule that matches:

    shorter than a header, or QR=1          Silence   answering answers makes two servers talk for ever
    opcode is not QUERY                     NOTIMP    before the question: such messages need not have one (RFC 8906)
    QDCOUNT is not 1                        FORMERR   RFC 9619; 0 with a cookie only asks for one, RFC 7873 section 5.4
    records where a query has none          FORMERR
    unreadable question                     FORMERR
    records unreadable, bytes left over     FORMERR
    OPT misplaced, twice, or malformed      FORMERR   RFC 6891 section 6.1.1, RFC 7871 section 7.1.2
    EDNS version above 0                    BADVERS   RFC 6891 section 6.1.3, before its options are looked at
"""

import enum
import struct

import msgspec

from anycastle.dns.edns import OPT, VERSION, Edns, Malformed, parse_header, parse_options

HEADER_BYTES = 12
NAME_BYTES_MAX = 255
LABEL_BYTES_MAX = 63
RECORDS_MAX = 8
"""Additional records in a query: OPT, perhaps TSIG or SIG(0); eight is generous."""

QR = 0x8000
OPCODE = 0x7800
AUTHORITATIVE = 0x0400
TRUNCATED = 0x0200
RECURSION_DESIRED = 0x0100
CHECKING_DISABLED = 0x0010

_HEADER = struct.Struct("!HHHHHH")
_PAIR = struct.Struct("!HH")
_RECORD = struct.Struct("!HHIH")


class Rcode(enum.IntEnum):
    """The response codes that we give."""

    NOERROR = 0
    FORMERR = 1
    SERVFAIL = 2
    NXDOMAIN = 3
    NOTIMP = 4
    REFUSED = 5
    YXDOMAIN = 6
    NOTAUTH = 9
    BADVERS = 16


class Query(msgspec.Struct, frozen=True, gc=False):
    """A well-formed question."""

    id: int
    flags: int
    question: bytes
    """Name, type and class as they came: echoed byte for byte, so that 0x20 mixed case survives."""
    name: bytes
    """The name in wire form and lower case (RFC 4343)."""
    rrtype: int
    rrclass: int
    edns: Edns | None


class CookieQuery(msgspec.Struct, frozen=True, gc=False):
    """A message without a question that asks for a server cookie (RFC 7873 section 5.4)."""

    id: int
    flags: int
    edns: Edns
    question: bytes = b""


class Fault(msgspec.Struct, frozen=True, gc=False):
    """A packet that earns an error."""

    id: int
    flags: int
    rcode: Rcode
    reason: str
    question: bytes = b""
    """Empty when there was none that could be read."""
    edns: Edns | None = None


class Silence(msgspec.Struct, frozen=True, gc=False):
    """A packet that is not answered at all."""

    reason: str


def parse_query(packet: bytes) -> Query | CookieQuery | Fault | Silence:
    """What a packet asks. Never raises."""
    if len(packet) < HEADER_BYTES:
        return Silence("shorter than a header")
    ident, flags, questions, answers, authorities, additionals = _HEADER.unpack_from(packet)
    if flags & QR:
        return Silence("a response")
    if flags & OPCODE:
        return Fault(ident, flags, Rcode.NOTIMP, "an opcode other than QUERY")
    if questions == 0 and additionals == 1 and not answers and not authorities:
        return _parse_cookie_query(packet, ident, flags)
    if questions != 1:
        return Fault(ident, flags, Rcode.FORMERR, "not one question")
    if answers or authorities > 1 or additionals > RECORDS_MAX:
        return Fault(ident, flags, Rcode.FORMERR, "records where a query has none")
    question = b""
    edns = None
    try:
        end = skip_name(packet, HEADER_BYTES)
        if end + 4 > len(packet):
            raise Malformed("the question is cut off")
        question = packet[HEADER_BYTES : end + 4]
        name = packet[HEADER_BYTES:end].lower()
        rrtype, rrclass = _PAIR.unpack_from(packet, end)
        position = end + 4
        if authorities:  # IXFR carries a SOA here (RFC 1995); it is refused later, but it is not malformed
            position, found, _ = _skip_record(packet, position)
            if found:
                raise Malformed("OPT in the authority section")
        rdata = b""
        for _ in range(additionals):
            position, found, data = _skip_record(packet, position)
            if found is not None:
                if edns is not None:
                    raise Malformed("two OPT records")
                edns, rdata = found, data
        if position != len(packet):
            raise Malformed("bytes after the message")
        if edns is not None:
            if edns.version != VERSION:
                return Fault(ident, flags, Rcode.BADVERS, "an EDNS version above 0", question, edns)
            if rdata:
                edns = parse_options(edns, rdata)
    except Malformed as fault:
        return Fault(ident, flags, Rcode.FORMERR, str(fault), question, edns and edns.without_options())
    return Query(ident, flags, question, name, rrtype, rrclass, edns)


def _parse_cookie_query(packet: bytes, ident: int, flags: int) -> CookieQuery | Fault:
    edns = None
    try:
        end, edns, rdata = _skip_record(packet, HEADER_BYTES)
        if edns is None or end != len(packet):
            raise Malformed("neither a question nor a cookie")
        if edns.version != VERSION:
            return Fault(ident, flags, Rcode.BADVERS, "an EDNS version above 0", edns=edns)
        edns = parse_options(edns, rdata)
        if not edns.cookie:
            raise Malformed("neither a question nor a cookie")
    except Malformed as fault:
        return Fault(ident, flags, Rcode.FORMERR, str(fault), edns=edns and edns.without_options())
    return CookieQuery(ident, flags, edns)


def skip_name(packet: bytes, start: int) -> int:
    """Where the uncompressed name at `start` ends. Raises Malformed."""
    position = start
    try:
        while length := packet[position]:
            if length > LABEL_BYTES_MAX:
                raise Malformed("a compression pointer or an unknown label type in a question")
            position += length + 1
    except IndexError:
        raise Malformed("a name is cut off") from None
    if position - start >= NAME_BYTES_MAX:
        raise Malformed("a name is longer than 255 bytes")
    return position + 1


def _skip_record(packet: bytes, start: int) -> tuple[int, Edns | None, bytes]:
    """Where the record at `start` ends; and the header and RDATA of it when it is an OPT. Raises Malformed."""
    position = start
    try:
        while (length := packet[position]) and length <= LABEL_BYTES_MAX:
            position += length + 1
    except IndexError:
        raise Malformed("a record is cut off") from None
    if length > LABEL_BYTES_MAX:
        if length < 0xC0:
            raise Malformed("an unknown label type")
        position += 1  # a pointer ends the name; where it points does not matter to us
    position += 1
    if position + 10 > len(packet):
        raise Malformed("a record is cut off")
    rrtype, rrclass, ttl, size = _RECORD.unpack_from(packet, position)
    end = position + 10 + size
    if end > len(packet):
        raise Malformed("a record is longer than the packet")
    if rrtype != OPT:
        return end, None, b""
    if packet[start]:
        raise Malformed("an OPT record whose owner is not the root")
    return end, parse_header(rrclass, ttl), packet[position + 10 : end]


def labels_of(name: bytes) -> tuple[bytes, ...]:
    """The labels of an uncompressed wire name, without the root: `b"\\3www\\2de\\0"` -> `(b"www", b"de")`."""
    labels = []
    position = 0
    while length := name[position]:
        labels.append(name[position + 1 : position + 1 + length])
        position += length + 1
    return tuple(labels)


def parent_of(name: bytes) -> bytes:
    """A wire name without its first label; the root has no parent and must not be asked."""
    return name[name[0] + 1 :]
