"""Answers to the wire.

Law: the question goes back byte for byte; OPT goes back if and only if OPT came; an answer that does not fit is the
header, the question and OPT with TC set, never a part of an RRset; no compression pointer aims above offset 16383.
"""

import struct
from collections.abc import Iterable

import msgspec

from anycastle.dns.edns import PAYLOAD_BYTES_MIN, ExtendedError, render_opt
from anycastle.dns.rrset import CLASS_IN, FIXED, RRset
from anycastle.dns.wire import (
    AUTHORITATIVE,
    CHECKING_DISABLED,
    HEADER_BYTES,
    OPCODE,
    QR,
    RECURSION_DESIRED,
    TRUNCATED,
    CookieQuery,
    Fault,
    Query,
    Rcode,
)

MESSAGE_BYTES_MAX = 65535
"""What the length prefix of TCP can say."""
POINTER_OFFSET_MAX = 0x3FFF

_HEADER = struct.Struct("!HHHHHH")
_POINTER = struct.Struct("!H")
_LENGTH = struct.Struct("!H")


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What is said, before it is bytes."""

    rcode: Rcode = Rcode.NOERROR
    authoritative: bool = True
    answer: tuple[RRset, ...] = ()
    authority: tuple[RRset, ...] = ()
    required: tuple[RRset, ...] = ()
    """Additional records without which the answer is useless: they fit, or TC is set (RFC 9471)."""
    optional: tuple[RRset, ...] = ()
    """Additional records that are left out when they do not fit."""
    error: ExtendedError | None = None
    """Said to clients with EDNS, as long as it fits."""


def reply_bytes_max(query: Query | CookieQuery | Fault, *, tcp: bool, payload_bytes_max: int) -> int:
    """How large the answer may be: the client's limit, ours, and 512 where no EDNS came (RFC 1035, RFC 6891)."""
    if tcp:
        return MESSAGE_BYTES_MAX
    if query.edns is None:
        return PAYLOAD_BYTES_MIN
    return min(query.edns.payload_bytes, payload_bytes_max)


def render(
    query: Query | CookieQuery | Fault,
    answer: Answer,
    *,
    bytes_max: int,
    payload_bytes: int,
    server_id: bytes = b"",
    scope_bits: int = 0,
    rrclass: int = CLASS_IN,
    cookie: bytes = b"",
    keepalive_seconds: float | None = None,
) -> bytes:
    """The answer as a message of at most `bytes_max` bytes, truncated if it must be."""
    opt = b""
    if query.edns is not None:
        opt = render_opt(
            query.edns,
            payload_bytes=payload_bytes,
            extended_rcode=answer.rcode >> 4,
            server_id=server_id,
            scope_bits=scope_bits,
            cookie=cookie,
            keepalive_seconds=keepalive_seconds,
            error=answer.error,
        )
    flags = flags_of(answer) | query.flags & (OPCODE | RECURSION_DESIRED | CHECKING_DISABLED)
    writer = _Writer(query.question, bytes_max - len(opt), rrclass)
    counts = []
    for section in (answer.answer, answer.authority, answer.required):
        count = writer.section(section)
        if count is None:
            if answer.error is not None and query.edns is not None:  # data comes before remarks on it
                return render(
                    query,
                    msgspec.structs.replace(answer, error=None),
                    bytes_max=bytes_max,
                    payload_bytes=payload_bytes,
                    server_id=server_id,
                    scope_bits=scope_bits,
                    rrclass=rrclass,
                    cookie=cookie,
                    keepalive_seconds=keepalive_seconds,
                )
            return _header(query, flags | TRUNCATED, 0, 0, bool(opt)) + query.question + opt
        counts.append(count)
    extra = writer.as_much_as_fits(answer.optional) if answer.optional else 0
    header = _header(query, flags, counts[0], counts[1], counts[2] + extra + bool(opt))
    return b"".join((header, query.question, writer.body(), opt))


class Body(msgspec.Struct, frozen=True, gc=False):
    """Everything behind the question, whatever its size."""

    content: bytes
    answers: int
    authorities: int
    additionals: int
    pointers: tuple[int, ...]
    """Where in `content` compression pointers are; all lead to where things are behind a question of this length."""


def render_body(question: bytes, answer: Answer) -> Body:
    """The records of an answer of class IN as `render` writes them when there is room for all."""
    writer = _Writer(question, MESSAGE_BYTES_MAX, CLASS_IN)
    sections = (answer.answer, answer.authority, (*answer.required, *answer.optional))
    answers, authorities, additionals = (writer.section(section) or 0 for section in sections)
    return Body(bytes(writer.body()), answers, authorities, additionals, tuple(writer.pointers))


def flags_of(answer: Answer) -> int:
    """QR, AA and the RCODE's lower bits: what of the flags does not come from the query."""
    return QR | answer.rcode & 0xF | (AUTHORITATIVE if answer.authoritative else 0)


def _header(query: Query | CookieQuery | Fault, flags: int, answers: int, authorities: int, additionals: int) -> bytes:
    return _HEADER.pack(query.id, flags, 1 if query.question else 0, answers, authorities, additionals)


class _Writer:
    """Everything behind the question; offsets count from the beginning of the message."""

    __slots__ = ("_bytes_max", "_class", "_names", "_out", "_question", "_start", "pointers")

    def __init__(self, question: bytes, bytes_max: int, rrclass: int) -> None:
        self._question = question
        self._start = HEADER_BYTES + len(question)
        self._bytes_max = bytes_max - self._start
        self._out = bytearray()
        self._names: dict[bytes, int] | None = None
        self._class = rrclass
        self.pointers: list[int] = []
        """Where they are in the body; those in packed sets, which all lead to the question's name, are left out."""

    def body(self) -> bytearray:
        return self._out

    def section(self, rrsets: Iterable[RRset]) -> int | None:
        """How many records were written; None when they do not fit."""
        count = 0
        for rrset in rrsets:
            self._write(rrset)
            count += len(rrset.rdatas)
            if len(self._out) > self._bytes_max:
                return None
        return count

    def as_much_as_fits(self, rrsets: Iterable[RRset]) -> int:
        """The same for records that may be missing: stops at the first set that does not fit."""
        count = 0
        for rrset in rrsets:
            before = len(self._out)
            self._write(rrset)
            if len(self._out) > self._bytes_max:
                del self._out[before:]
                break
            count += len(rrset.rdatas)
        return count

    def _write(self, rrset: RRset) -> None:
        out = self._out
        if rrset.packed and rrset.owner.lower() == self._question[:-4].lower():
            out += rrset.packed
            return
        for rdata in rrset.rdatas:
            self._name(rrset.owner)
            fixed_at = len(out)
            out += FIXED.pack(rrset.rrtype, self._class, rrset.ttl, 0)
            for place, part in enumerate(rdata):
                if place % 2:
                    self._name(part)
                else:
                    out += part
            _LENGTH.pack_into(out, fixed_at + 8, len(out) - fixed_at - FIXED.size)

    def _name(self, name: bytes) -> None:
        """A name, as a pointer from the longest ending on that the message already has (RFC 1035 section 4.1.4)."""
        if self._names is None:
            self._names = {}
            self._remember(self._question[:-4].lower(), HEADER_BYTES)
        lowered = name.lower()
        position = 0
        while lowered[position]:
            found = self._names.get(lowered[position:])
            if found is not None:
                self._remember(lowered, self._start + len(self._out), until=position)
                self._out += name[:position]
                self.pointers.append(len(self._out))
                self._out += _POINTER.pack(0xC000 | found)
                return
            position += lowered[position] + 1
        self._remember(lowered, self._start + len(self._out), until=position)
        self._out += name

    def _remember(self, lowered: bytes, offset: int, until: int | None = None) -> None:
        assert self._names is not None
        position = 0
        end = len(lowered) - 1 if until is None else until
        while position < end and offset + position <= POINTER_OFFSET_MAX:
            self._names.setdefault(lowered[position:], offset + position)
            position += lowered[position] + 1
