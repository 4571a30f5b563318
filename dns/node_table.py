"""The names of one zone as one piece of memory: about 60 bytes for a small record, and moved without being walked.

Law: immutable, but for what it remembers of decoded names, which is bounded. Crosses to the workers as three plain
buffers, so a million records are taken up in the time that copying them takes. The form of an entry:

    name        wire form, lower case; ends itself
    flags       1 byte: 1 the name is steered
    cut         1 byte: how long the delegation at or above the name is (it is an ending of the name); 0 for none
    size        4 bytes, of the sets that follow
    each set    type (2), TTL (4; top bit: an owner follows, in the case of the zone file), count (2), records
    a record    length (2), rdata

An index of open addressing leads to the entries. Its hash is salted: names of customers cannot be made to collide.
"""

import struct
from array import array
from collections.abc import Iterable, Iterator
from hashlib import blake2b

import msgspec

from anycastle.dns.rrset import RRset, make_rrset, name_end, split_rdata
from anycastle.dns.service import SERVICE_TYPES, target_of

SALT_BYTES = 16
BYTES_MAX = (1 << 32) - 1
"""What an index of 4 bytes reaches: some sixty million records."""
COUNT_MAX = 65535
"""Records of one set; no message holds more."""
TTL_SECONDS_MAX = (1 << 31) - 1
"""RFC 2181 section 8."""
NAMES_SET_MAX = 65536
"""Names in a set of their own, some 7 MiB; it answers ten times faster than the table."""
DECODED_MAX = 16384
"""Names kept decoded, some 15 MiB; then all are forgotten."""

_HEAD = struct.Struct("!BBI")
_SET = struct.Struct("!HIH")
_LENGTH = struct.Struct("!H")
_OWNED = 1 << 31
_STEERED = 1
_DIGEST_BYTES = 8


class Node(msgspec.Struct, frozen=True, gc=False):
    """One name that exists."""

    rrsets: dict[int, RRset]
    cut: bytes = b""
    """The delegation at or above this name; empty in what we are authoritative for."""
    steered: bool = False
    services: tuple[int, ...] = ()
    """At a steered name: SVCB and HTTPS, where their hints follow the decision."""


class RawSet(msgspec.Struct, frozen=True, gc=False):
    """One set as it is stored."""

    owner: bytes
    rrtype: int
    ttl: int
    rdatas: tuple[bytes, ...]
    """Uncompressed wire form."""

    def rrset(self) -> RRset:
        return make_rrset(
            self.owner, self.rrtype, self.ttl, tuple(split_rdata(self.rrtype, rdata) for rdata in self.rdatas)
        )


def pack_set(name: bytes, owner: bytes, rrtype: int, ttl: int, rdatas: Iterable[bytes]) -> bytes:
    """A set in the form above; `name` is `owner` in lower case."""
    records = tuple(rdatas)
    owned = owner != name
    return b"".join(
        (
            _SET.pack(rrtype, ttl | _OWNED if owned else ttl, len(records)),
            owner if owned else b"",
            *(_LENGTH.pack(len(rdata)) + rdata for rdata in records),
        )
    )


def pack_record(name: bytes, owner: bytes, rrtype: int, ttl: int, rdata: bytes) -> bytes:
    """A set of one; the same as `pack_set`, but faster."""
    if owner is name or owner == name:
        return _SET.pack(rrtype, ttl, 1) + _LENGTH.pack(len(rdata)) + rdata
    return _SET.pack(rrtype, ttl | _OWNED, 1) + owner + _LENGTH.pack(len(rdata)) + rdata


def is_one_record(name: bytes, packed: bytes | bytearray) -> bool:
    """Whether this is a set of one record and nothing else."""
    position = _SET.size + (len(name) if packed[2] & 0x80 else 0)
    return len(packed) == position + _LENGTH.size + (packed[position] << 8 | packed[position + 1])


def unpack_sets(name: bytes, packed: bytes | bytearray) -> Iterator[RawSet]:
    """The inverse, of any number of sets."""
    position = 0
    while position < len(packed):
        rrtype, ttl, count = _SET.unpack_from(packed, position)
        position += _SET.size
        owner = name
        if ttl & _OWNED:
            owner = bytes(packed[position : position + len(name)])
            position += len(name)
        rdatas = []
        for _ in range(count):
            (size,) = _LENGTH.unpack_from(packed, position)
            position += _LENGTH.size + size
            rdatas.append(bytes(packed[position - size : position]))
        yield RawSet(owner, rrtype, ttl & TTL_SECONDS_MAX, tuple(rdatas))


class NodeTable:
    """Name (wire form, lower case) -> `Node`, in the order of the zone file."""

    __slots__ = ("_bytes", "_count", "_decoded", "_index", "_salt")

    def __init__(self, packed: bytes, index: "array[int]", count: int, salt: bytes) -> None:
        self._bytes = packed
        self._index = index
        self._count = count
        self._salt = salt
        self._decoded: dict[bytes, Node] = {}

    def __reduce__(self) -> tuple[object, ...]:
        return NodeTable, (self._bytes, self._index, self._count, self._salt)

    def __len__(self) -> int:
        return self._count

    def __contains__(self, name: bytes) -> bool:
        return name in self._decoded or self._find(name) is not None

    def __getitem__(self, name: bytes) -> Node:
        node = self.get(name)
        if node is None:
            raise KeyError(name)
        return node

    def get(self, name: bytes) -> Node | None:
        """What is at a name; None where nothing is."""
        node = self._decoded.get(name)
        if node is not None:
            return node
        position = self._find(name)
        if position is None:
            return None
        node = self._decode(name, position)
        if len(self._decoded) >= DECODED_MAX:
            self._decoded.clear()
        self._decoded[name] = node
        return node

    def names(self) -> "frozenset[bytes] | NodeTable":
        """For asking often whether a name exists: a set where that costs little memory, else the table itself."""
        return frozenset(self) if self._count <= NAMES_SET_MAX else self

    def __iter__(self) -> Iterator[bytes]:
        return (name for name, _ in self._entries())

    def items(self) -> Iterator[tuple[bytes, Node]]:
        """Every name and what is at it; remembers nothing."""
        return ((name, self._decode(name, position)) for name, position in self._entries())

    def packed_sets(self, name: bytes) -> bytes:
        """The sets at a name as they are stored; empty where the name is not."""
        position = self._find(name)
        if position is None:
            return b""
        _, _, size = _HEAD.unpack_from(self._bytes, position)
        return self._bytes[position + _HEAD.size : position + _HEAD.size + size]

    def raw_sets(self, name: bytes) -> Iterator[RawSet]:
        """The same, taken apart."""
        return unpack_sets(name, self.packed_sets(name))

    def packed_items(self) -> Iterator[tuple[bytes, bytes]]:
        """Every name with its `packed_sets`."""
        for name, position in self._entries():
            _, _, size = _HEAD.unpack_from(self._bytes, position)
            yield name, self._bytes[position + _HEAD.size : position + _HEAD.size + size]

    def size_bytes(self) -> int:
        """Memory of all of it, without what is remembered."""
        return len(self._bytes) + self._index.itemsize * len(self._index)

    def _find(self, name: bytes) -> int | None:
        """Where the entry of a name goes on behind the name."""
        mask = len(self._index) - 1
        slot = _hash(name, self._salt) & mask
        while place := self._index[slot]:
            if self._bytes.startswith(name, place - 1):
                return place - 1 + len(name)
            slot = (slot + 1) & mask
        return None

    def _entries(self) -> Iterator[tuple[bytes, int]]:
        position = 0
        while position < len(self._bytes):
            end = name_end(self._bytes, position)
            yield self._bytes[position:end], end
            position = end + _HEAD.size + _HEAD.unpack_from(self._bytes, end)[2]

    def _decode(self, name: bytes, position: int) -> Node:
        flags, cut_bytes, size = _HEAD.unpack_from(self._bytes, position)
        start = position + _HEAD.size
        rrsets = {found.rrtype: found.rrset() for found in unpack_sets(name, self._bytes[start : start + size])}
        cut = name[len(name) - cut_bytes :] if cut_bytes else b""
        steered = bool(flags & _STEERED)
        return Node(rrsets, cut, steered, _services(rrsets, name) if steered else ())


class NodeWriter:
    """Entries to a table of `count` names, which must differ."""

    def __init__(self, count: int, salt: bytes) -> None:
        self._count = count
        self._salt = salt
        self._bytes = bytearray()
        self._index = array("I", bytes(4 * (1 << (3 * count // 2).bit_length())))

    def add(self, name: bytes, packed_sets: bytes | bytearray, *, cut_bytes: int, steered: bool) -> None:
        index, packed = self._index, self._bytes
        mask = len(index) - 1
        slot = _hash(name, self._salt) & mask
        while index[slot]:
            slot = (slot + 1) & mask
        index[slot] = len(packed) + 1
        packed += name
        packed += _HEAD.pack(_STEERED if steered else 0, cut_bytes, len(packed_sets))
        packed += packed_sets

    def size_bytes(self) -> int:
        return len(self._bytes)

    def table(self) -> NodeTable:
        """The finished table; the writer is used up."""
        packed, self._bytes = bytes(self._bytes), bytearray()
        return NodeTable(packed, self._index, self._count, self._salt)


def _hash(name: bytes, salt: bytes) -> int:
    return int.from_bytes(blake2b(name, digest_size=_DIGEST_BYTES, salt=salt).digest(), "little")


def _services(rrsets: dict[int, RRset], name: bytes) -> tuple[int, ...]:
    return tuple(
        rrtype
        for rrtype in SERVICE_TYPES
        if rrtype in rrsets and any(target_of(rdata, name) == name for (rdata,) in rrsets[rrtype].rdatas)
    )
