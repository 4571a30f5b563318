"""Records ready for the wire: an RRset is prepared once, when a zone is loaded, and only copied afterwards.

Law: one TTL per RRset (RFC 2181 section 5.2). Only names inside the types of RFC 1035 are ever compressed
(RFC 3597 section 4), so only those are kept apart from the bytes around them.
"""

import struct

import msgspec

A, NS, CNAME, SOA, PTR, HINFO, MX, TXT, AAAA, SRV, DNAME, DS, ANY = 1, 2, 5, 6, 12, 13, 15, 16, 28, 33, 39, 43, 255
CLASS_IN, CLASS_CH = 1, 3
COMPRESSIBLE = frozenset({NS, CNAME, SOA, PTR, MX})

AT_QUESTION = b"\xc0\x0c"
"""A pointer to the name in the question, which always begins right behind the header."""

Rdata = tuple[bytes, ...]
"""Plain bytes at even places, names that may be compressed (wire form) at odd places."""

FIXED = struct.Struct("!HHIH")

_NAME_AT = {NS: 0, CNAME: 0, PTR: 0, DNAME: 0, MX: 2, SRV: 6}
"""Where the name begins in types that are a name and what stands before it."""
_SOA_NUMBERS_BYTES = 20


class RRset(msgspec.Struct, frozen=True, gc=False):
    """Records of one owner and type."""

    owner: bytes
    """Wire form, in the case the zone file has."""
    rrtype: int
    ttl: int
    rdatas: tuple[Rdata, ...]
    packed: bytes = b""
    """The whole set with `AT_QUESTION` as owner; empty when a name in it may be compressed."""

    def under(self, owner: bytes) -> "RRset":
        """The same records at another owner: what a wildcard synthesises (RFC 4592 section 3.3.2)."""
        return RRset(owner, self.rrtype, self.ttl, self.rdatas, self.packed)


def make_rrset(owner: bytes, rrtype: int, ttl: int, rdatas: tuple[Rdata, ...], rrclass: int = CLASS_IN) -> RRset:
    """An RRset with its packed form, where it has one."""
    packed = b""
    if all(len(rdata) == 1 for rdata in rdatas):
        packed = b"".join(AT_QUESTION + FIXED.pack(rrtype, rrclass, ttl, len(rdata[0])) + rdata[0] for rdata in rdatas)
    return RRset(owner, rrtype, ttl, rdatas, packed)


def split_rdata(rrtype: int, wire: bytes) -> Rdata:
    """Rdata from its uncompressed wire form."""
    if rrtype not in COMPRESSIBLE:
        return (wire,)
    if rrtype == SOA:
        end = name_end(wire, 0)
        return b"", wire[:end], b"", wire[end:-_SOA_NUMBERS_BYTES], wire[-_SOA_NUMBERS_BYTES:]
    start = _NAME_AT[rrtype]
    return wire[:start], wire[start:]


def canonical(rrtype: int, wire: bytes) -> bytes:
    """Uncompressed rdata with its name in lower case: equal for equal records (RFC 4034 section 6.2).

    Of types that are rare only as written: two that differ in case alone count as two.
    """
    if rrtype == SOA:
        return wire[:-_SOA_NUMBERS_BYTES].lower() + wire[-_SOA_NUMBERS_BYTES:]
    start = _NAME_AT.get(rrtype)
    return wire if start is None else wire[:start] + wire[start:].lower()


def name_end(wire: bytes, position: int) -> int:
    """Where the uncompressed name that begins at `position` ends."""
    while length := wire[position]:
        position += length + 1
    return position + 1
