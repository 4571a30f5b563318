"""Master files (RFC 1035 section 5) to zones, parsed by dnspython.

Law: a record that cannot be served is an error with its file and line, never left out in silence. `$INCLUDE` is
relative to the file that says it. Runs in the control process only; workers receive finished tables.
"""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
import dns.tokenizer
import dns.zone
import dns.zonefile

from anycastle.dns.rrset import COMPRESSIBLE, MX, SOA, Rdata, RRset, make_rrset
from anycastle.dns.settings import ZoneFile
from anycastle.dns.zone import Zone, ZoneError, make_zone

INCLUDE_DEPTH_MAX = 16
"""Deep enough for any layout; ends a file that includes itself."""

_MX_PREFERENCE_BYTES = 2
_SOA_NUMBERS_BYTES = 20


def load_zone(zone_file: ZoneFile, steered: Iterable[bytes] = ()) -> Zone:
    """The zone in a master file, with the names (wire form) that are steered in it. Raises ZoneError."""
    origin = wire_name(zone_file.origin, f"zone {zone_file.origin}")
    rrsets = _read_rrsets(zone_file.file, dns.name.from_wire(origin, 0)[0])
    try:
        return make_zone(origin, rrsets, steered)
    except ZoneError as fault:
        raise ZoneError(f"{zone_file.file}: {fault}") from None


def wire_name(text: str, where: str) -> bytes:
    """A name as operators write it (absolute, last dot optional) in wire form and lower case. Raises ZoneError."""
    try:
        return bytes(dns.name.from_text(text).to_wire() or b"").lower()
    except (dns.exception.DNSException, UnicodeError) as fault:
        raise ZoneError(f"{where}: {text!r} is not a domain name: {fault}") from None


def _read_rrsets(file: Path, origin: dns.name.Name) -> list[RRset]:
    zone = dns.zone.Zone(origin, relativize=False)
    with zone.writer(replacement=True) as transaction:
        _Reader(transaction, origin).read_file(file, depth=0)
    gathered: dict[tuple[bytes, int], list[tuple[bytes, int, Rdata]]] = defaultdict(list)
    for name, rdataset in zone.iterate_rdatasets():
        owner = bytes(name.to_wire() or b"")
        for rdata in rdataset:
            gathered[owner.lower(), int(rdataset.rdtype)].append((owner, rdataset.ttl, _split(rdata)))
    return [
        make_rrset(records[0][0], rrtype, min(ttl for _, ttl, _ in records), tuple(rdata for _, _, rdata in records))
        for (_, rrtype), records in gathered.items()
    ]


def _split(rdata: dns.rdata.Rdata) -> Rdata:
    """The wire form, with the names that may be compressed at odd places."""
    wire = bytes(rdata.to_wire() or b"")
    rrtype = int(rdata.rdtype)
    if rrtype not in COMPRESSIBLE:
        return (wire,)
    if rrtype == SOA:
        end = _name_end(wire, 0)
        return b"", wire[:end], b"", wire[end:-_SOA_NUMBERS_BYTES], wire[-_SOA_NUMBERS_BYTES:]
    start = _MX_PREFERENCE_BYTES if rrtype == MX else 0
    return wire[:start], wire[start:]


def _name_end(wire: bytes, position: int) -> int:
    while length := wire[position]:
        position += length + 1
    return position + 1


class _Reader(dns.zonefile.Reader):
    """dnspython reads each record; we keep the loop over lines, for three reasons.

    Its own loop opens `$INCLUDE` files relative to wherever the program was started, follows a file that includes
    itself until no descriptor is left, and passes over records outside of the zone in silence.
    """

    def __init__(self, transaction: Any, origin: dns.name.Name) -> None:
        super().__init__(dns.tokenizer.Tokenizer(""), dns.rdataclass.IN, transaction)
        self._origin = origin

    def read_file(self, file: Path, depth: int) -> None:
        """All records of a file and of what it includes. Raises ZoneError."""
        if depth > INCLUDE_DEPTH_MAX:
            raise ZoneError(f"{file}: $INCLUDE deeper than {INCLUDE_DEPTH_MAX} files; does a file include itself?")
        try:
            text = file.read_text("utf-8")
        except OSError as fault:
            raise ZoneError(f"{file}: cannot read the zone file: {fault.strerror}") from None
        except UnicodeDecodeError as fault:
            raise ZoneError(f"{file}: expected text in UTF-8, found byte {fault.object[fault.start]:#04x}") from None
        self.tok = dns.tokenizer.Tokenizer(text, str(file))
        line = 1
        try:
            while not (token := self.tok.get(want_leading=True, want_comment=True)).is_eof():
                line = self.tok.where()[1]
                if token.is_identifier() and token.value.upper() == "$INCLUDE":
                    self._include(file, depth)
                elif token.is_identifier() and token.value[0] == "$":
                    self._directive(token.value.upper())
                elif not token.is_eol() and not token.is_comment():
                    self.tok.unget(token)
                    self._record()
        except (dns.exception.DNSException, ValueError) as fault:
            raise ZoneError(f"{file}:{line}: {str(fault) or type(fault).__name__}") from None

    def _record(self) -> None:
        self._rr_line()
        self._check_inside()

    def _check_inside(self) -> None:
        if self.last_name is not None and not self.last_name.is_subdomain(self._origin):
            raise ValueError(f"{self.last_name} is outside of the zone {self._origin}")

    def _directive(self, directive: str) -> None:
        if directive == "$GENERATE":
            self._generate_line()  # type: ignore[no-untyped-call]
            self._check_inside()
        elif directive == "$ORIGIN":
            self.current_origin = self.tok.get_name(self.current_origin)
            self.tok.get_eol()
        elif directive == "$TTL":
            self.default_ttl = self.tok.get_ttl()
            self.default_ttl_known = True
            self.default_ttl_from_soa = False
            self.tok.get_eol()
        else:
            raise ValueError(f"{directive} is not a directive we know")

    def _include(self, file: Path, depth: int) -> None:
        """`$INCLUDE file [origin]`: afterwards the origin and the last owner are what they were (RFC 1035)."""
        name = self.tok.get_string()
        token = self.tok.get()
        origin = self.current_origin
        if not token.is_eol_or_eof():
            origin = self.tok.as_name(token, self.current_origin)
            self.tok.get_eol()
        saved = self.tok, self.current_origin, self.last_name
        self.current_origin = origin
        self.read_file(file.parent / name, depth + 1)
        self.tok, self.current_origin, self.last_name = saved
