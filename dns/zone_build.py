"""Records to a zone: gathered one by one in little memory, looked at as a whole, packed into a table.

Law: what cannot be served as written is an error, at the record that brings it where one record alone does
(`RecordError`, which the reader gives its file and line), else of the zone. Equal records count once; the TTL of a set
is the smallest of its records (RFC 2181 section 5.2).
"""

from collections.abc import Iterable

from anycastle.dns.node_table import (
    BYTES_MAX,
    COUNT_MAX,
    SALT_BYTES,
    TTL_SECONDS_MAX,
    NodeTable,
    NodeWriter,
    is_one_record,
    pack_record,
    pack_set,
    unpack_sets,
)
from anycastle.dns.reply import Answer
from anycastle.dns.rrset import CNAME, DNAME, NS, SOA, RRset, canonical, split_rdata
from anycastle.dns.service import SERVICE_TYPES, target_of, without_hints
from anycastle.dns.wire import Rcode, parent_of
from anycastle.dns.zone import Zone, ZoneError, is_below, show_name

_STAR = b"\x01*"
_RRSIG = 46
_BESIDE_CNAME = frozenset({25, 47, 50})
"""KEY, NSEC and NSEC3 may stand at a name with a CNAME (RFC 4035 section 2.5), and the signatures of all."""
_SINGLE = frozenset({SOA, CNAME, DNAME, 47})
"""Types of which a name has one record."""
_WATCHED = frozenset({NS, DNAME, *SERVICE_TYPES})
"""Types for which the zone as a whole is looked at."""
_GROWING_BYTES = 1024
"""Records of one name beyond this are gathered in a buffer that grows; below, plain bytes are smaller."""


class RecordError(ZoneError):
    """A record that cannot stand in the zone as it is so far."""


class ZoneBuilder:
    """`add` each record, then `finish`."""

    def __init__(self, origin: bytes) -> None:
        self.origin = origin
        self.records = 0
        self._names: dict[bytes, bytes | bytearray] = {origin: b""}
        """Each record packed as a set of its own; a CNAME stands first."""
        self._watched: dict[int, set[bytes]] = {rrtype: set() for rrtype in _WATCHED}

    def add(self, owner: bytes, rrtype: int, ttl: int, rdata: bytes) -> None:
        """One record; the owner in wire form, in the case of the file. Raises RecordError."""
        name = owner.lower()
        if not is_below(name, self.origin):
            raise RecordError(f"{show_name(owner)}. is outside of the zone {show_name(self.origin)}.")
        if rrtype == SOA and name != self.origin:
            raise RecordError(f"{show_name(owner)}. has an SOA record: expected it at {show_name(self.origin)}. only")
        if ttl > TTL_SECONDS_MAX:
            raise RecordError(f"TTL {ttl}: expected at most {TTL_SECONDS_MAX} seconds (RFC 2181 section 8)")
        packed = pack_record(name, owner, rrtype, ttl, rdata)
        self.records += 1
        if rrtype in _WATCHED:
            self._watched[rrtype].add(name)
        held = self._names.get(name)
        if not held:
            self._names[name] = packed
            return
        if rrtype in _SINGLE or held[:2] == b"\0\x05":
            _check_beside(name, held, rrtype, rdata)
        if rrtype == CNAME:
            self._names[name] = packed + held
        elif isinstance(held, bytearray):
            held += packed
        else:
            both = held + packed
            self._names[name] = both if len(both) < _GROWING_BYTES else bytearray(both)

    def finish(self, steered: Iterable[bytes] = (), *, salt: bytes = bytes(SALT_BYTES)) -> Zone:
        """The zone, with the names that are steered in it; the builder is used up. Raises ZoneError."""
        origin, names = self.origin, self._names
        steered_names = frozenset(steered)
        for name in steered_names:
            if not is_below(name, origin):
                raise ZoneError(f"{show_name(name)} is outside of the zone {show_name(origin)}")
        for name in (*names, *steered_names):
            self._add_with_ancestors(name)
        apex = {found.rrtype: found for found in unpack_sets(origin, _merged(origin, names[origin])[0])}
        for rrtype, expected in ((SOA, "one SOA record"), (NS, "NS records")):
            if rrtype not in apex:
                raise ZoneError(f"zone {show_name(origin)}: expected {expected} at {show_name(origin)}")
        for name in steered_names:
            self._check_steered(name)
        self._check_watched(steered_names)
        for name in set().union(*(self._watched[rrtype] for rrtype in SERVICE_TYPES)):
            names[name] = self._without_hints(name, steered_names)
        table = self._packed(steered_names, salt)
        soa = apex[SOA]
        rdata = split_rdata(SOA, soa.rdatas[0])
        minimum = int.from_bytes(rdata[-1][-4:], "big")
        negative = (RRset(soa.owner, SOA, min(soa.ttl, minimum), (rdata,)),)  # RFC 2308 section 3
        return Zone(
            origin,
            table,
            self.records,
            Answer(authority=negative),
            Answer(rcode=Rcode.NXDOMAIN, authority=negative),
        )

    def _packed(self, steered: frozenset[bytes], salt: bytes) -> NodeTable:
        """All names, each forgotten here when it is in the table."""
        names = self._names
        writer = NodeWriter(len(names), salt)
        cuts = self._watched[NS] - {self.origin}
        self.records = 0
        order = list(names)
        order.reverse()
        while order:
            name = order.pop()
            merged, count = _merged(name, names.pop(name))
            self.records += count
            cut = self._cut_above(name, cuts) if cuts else b""
            writer.add(name, merged, cut_bytes=len(cut), steered=name in steered)
            if writer.size_bytes() > BYTES_MAX:
                raise ZoneError(f"zone {show_name(self.origin)}: expected at most {BYTES_MAX} bytes of records")
        self._names = {}
        return writer.table()

    def _add_with_ancestors(self, name: bytes) -> None:
        """Empty non-terminals exist (RFC 8020); ancestors of what is there have their own turn."""
        while name != self.origin:
            self._names.setdefault(name, b"")
            name = parent_of(name)
            if name in self._names:
                return

    def _cut_above(self, name: bytes, cuts: set[bytes]) -> bytes:
        """The topmost delegation at or above a name: what is below it is not ours to answer."""
        found = b""
        while name != self.origin:
            if name in cuts:
                found = name
            name = parent_of(name)
        return found

    def _check_steered(self, name: bytes) -> None:
        where = f"zone {show_name(self.origin)}: {show_name(name)}"
        cut = self._cut_above(name, self._watched[NS])
        if cut:
            raise ZoneError(f"{where} is steered, but delegated to others by NS records at {show_name(cut)}")
        if self._names[name][:2] == b"\0\x05":
            raise ZoneError(f"{where} is steered, so it cannot have a CNAME record")

    def _check_watched(self, steered: frozenset[bytes]) -> None:
        dnames = self._watched[DNAME]
        for name in (*self._watched[NS], *dnames):
            if name[:2] == _STAR:
                raise ZoneError(
                    f"zone {show_name(self.origin)}: {show_name(name)}: NS and DNAME records at a wildcard have no "
                    "meaning (RFC 4592 section 4)"
                )
        if not dnames:
            return
        for name, held in self._names.items():
            ancestor = name
            while ancestor != self.origin:
                ancestor = parent_of(ancestor)
                if ancestor in dnames and (held or name in steered):
                    raise ZoneError(
                        f"zone {show_name(self.origin)}: {show_name(name)} is below the DNAME record at "
                        f"{show_name(ancestor)} (RFC 6672 section 2.4)"
                    )

    def _without_hints(self, name: bytes, steered: frozenset[bytes]) -> bytes:
        """Hints for a steered name would lead round every decision, whichever name has the record."""
        return b"".join(
            pack_set(name, found.owner, found.rrtype, found.ttl, (self._without_hint(name, each, steered),))
            if found.rrtype in SERVICE_TYPES
            else pack_set(name, found.owner, found.rrtype, found.ttl, (each,))
            for found in unpack_sets(name, self._names[name])
            for each in found.rdatas
        )

    def _without_hint(self, name: bytes, rdata: bytes, steered: frozenset[bytes]) -> bytes:
        target = target_of(rdata, name)
        return rdata if target is None or not self._is_steered(target, steered) else without_hints(rdata)

    def _is_steered(self, name: bytes, steered: frozenset[bytes]) -> bool:
        while name not in self._names and len(name) > 1:
            name = parent_of(name)
            if _STAR + name in steered:
                return True
        return name in steered


def make_zone(origin: bytes, rrsets: Iterable[RRset], steered: Iterable[bytes] = ()) -> Zone:
    """A zone from its records and the names (wire form, lower case) that are steered in it. Raises ZoneError."""
    builder = ZoneBuilder(origin)
    for rrset in rrsets:
        for rdata in rrset.rdatas:
            builder.add(rrset.owner, rrset.rrtype, rrset.ttl, b"".join(rdata))
    return builder.finish(steered)


def _check_beside(name: bytes, held: bytes | bytearray, rrtype: int, rdata: bytes) -> None:
    """RFC 1034 section 3.6.2: a CNAME stands alone; and what is single is not there twice."""
    beside = _may_stand_beside_cname(rrtype, rdata)
    for found in unpack_sets(name, held):
        (other,) = found.rdatas
        if rrtype == CNAME and not _may_stand_beside_cname(found.rrtype, other):
            raise RecordError(f"{show_name(name)}. has other records, so it cannot have a CNAME record")
        if found.rrtype == CNAME and not beside:
            raise RecordError(f"{show_name(name)}. has a CNAME record, so it cannot have others")
        single = rrtype in _SINGLE and found.rrtype == rrtype
        if single and canonical(rrtype, other) != canonical(rrtype, rdata):
            raise RecordError(f"{show_name(name)}. has another record of this type already: expected one")


def _may_stand_beside_cname(rrtype: int, rdata: bytes) -> bool:
    if rrtype == _RRSIG:
        rrtype = int.from_bytes(rdata[:2], "big")
    return rrtype == CNAME or rrtype in _BESIDE_CNAME


def _merged(name: bytes, held: bytes | bytearray) -> tuple[bytes | bytearray, int]:
    """Records of one name, each packed alone, as its sets; and how many they are."""
    if not held or is_one_record(name, held):
        return held, bool(held)
    ttls: dict[int, int] = {}
    rdatas: dict[int, dict[bytes, bytes]] = {}
    owner = b""
    for found in unpack_sets(name, held):
        owner = owner or found.owner
        ttls[found.rrtype] = min(found.ttl, ttls.get(found.rrtype, found.ttl))
        for rdata in found.rdatas:
            rdatas.setdefault(found.rrtype, {}).setdefault(canonical(found.rrtype, rdata), rdata)
    for rrtype, records in rdatas.items():
        if len(records) > COUNT_MAX:
            raise ZoneError(f"{show_name(name)}: expected at most {COUNT_MAX} records of type {rrtype}")
    packed = b"".join(pack_set(name, owner, rrtype, ttls[rrtype], found.values()) for rrtype, found in rdatas.items())
    return packed, sum(map(len, rdatas.values()))
