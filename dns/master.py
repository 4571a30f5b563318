"""Master files (RFC 1035 section 5) to zones: plain lines by `master_line`, all others by dnspython.

Law: a record that cannot be served is an error with its file and line, never left out in silence. `$INCLUDE` is
relative to the file that says it. Files are read a line at a time, and a record is packed as soon as it is read. Runs
in the control process only; workers receive finished tables.
"""

import secrets
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import dns.exception
import dns.grange
import dns.name
import dns.rdata
import dns.rdataclass
import dns.tokenizer
import dns.zonefile
import msgspec

from anycastle.dns.master_line import Record, read_line
from anycastle.dns.node_table import SALT_BYTES
from anycastle.dns.settings import ZoneFile
from anycastle.dns.zone import Zone, ZoneError
from anycastle.dns.zone_build import RecordError, ZoneBuilder

INCLUDE_DEPTH_MAX = 16
"""Deep enough for any layout."""
GENERATE_RECORDS_MAX = 1 << 20
"""Of one `$GENERATE`: more than a /12 of IPv4 addresses; a slip of the finger must not fill the memory."""
LINE_SHOWN_MAX = 80
"""Characters of a line in what is said of it."""
PROGRESS_LINES = 5000
"""Lines read between two looks at the clock by whoever shows progress: some ten milliseconds."""


class Loading(msgspec.Struct, frozen=True):
    """How far one zone has been read."""

    zone: str
    records: int
    read_bytes: int
    """Of the zone's file, without what it includes."""
    size_bytes: int
    done: bool = False


Progress = Callable[[Loading], None]


def load_zone(zone_file: ZoneFile, steered: Iterable[bytes] = (), progress: Progress | None = None) -> Zone:
    """The zone in a master file, with the names (wire form) that are steered in it. Raises ZoneError.

    `progress` is told every PROGRESS_LINES lines and, with `done`, at the end.
    """
    origin = wire_name(zone_file.origin, f"zone {zone_file.origin}")
    builder = ZoneBuilder(origin)
    told = _Told(zone_file, builder, progress)
    _Reader(builder, dns.name.from_wire(origin, 0)[0], told).read_file(zone_file.file, depth=0)
    try:
        zone = builder.finish(steered, salt=secrets.token_bytes(SALT_BYTES))
    except ZoneError as fault:
        raise ZoneError(f"{zone_file.file}: {fault}") from None
    told.end(zone)
    return zone


def wire_name(text: str, where: str) -> bytes:
    """A name as operators write it (absolute, last dot optional) in wire form and lower case. Raises ZoneError."""
    try:
        return bytes(dns.name.from_text(text).to_wire() or b"").lower()
    except (dns.exception.DNSException, UnicodeError) as fault:
        raise ZoneError(f"{where}: {text!r} is not a domain name: {fault}") from None


class _Told:
    """What `progress` hears of one zone."""

    def __init__(self, zone_file: ZoneFile, builder: ZoneBuilder, progress: Progress | None) -> None:
        self._zone = zone_file.origin
        self._builder = builder
        self._progress = progress
        self._size_bytes = 0
        self._lines = 0

    def began(self, size_bytes: int) -> None:
        self._size_bytes = size_bytes

    def line(self, read_bytes: int | None) -> None:
        """One more line; None for one of an included file."""
        self._lines += 1
        if self._progress is not None and read_bytes is not None and self._lines % PROGRESS_LINES == 0:
            records = self._builder.records
            self._progress(Loading(self._zone, records, min(read_bytes, self._size_bytes), self._size_bytes))

    def end(self, zone: Zone) -> None:
        if self._progress is not None:
            self._progress(Loading(self._zone, zone.records, self._size_bytes, self._size_bytes, done=True))


class _Lines:
    """The lines of a file; the tokenizer of dnspython may take over in the middle, and give back."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self._rest = ""
        self.number = 0
        self.characters = 0

    def take(self) -> str:
        """The next line, with its end; empty at the end of the file."""
        line = next(self._lines, "")
        self.number += bool(line)
        self.characters += len(line)
        return line

    def put_back(self, line: str) -> None:
        """The tokenizer shall read this line."""
        self._rest = line

    def at_line_start(self) -> bool:
        return not self._rest

    def read(self, _: int) -> str:
        """One character, for the tokenizer."""
        if not self._rest:
            self._rest = self.take()
        character, self._rest = self._rest[:1], self._rest[1:]
        return character


class _Sink:
    """As much of a dnspython transaction as its reader of records uses."""

    def __init__(self, builder: ZoneBuilder, origin: dns.name.Name) -> None:
        self.manager = self
        self._builder = builder
        self._origin = origin

    def origin_information(self) -> tuple[dns.name.Name, bool, dns.name.Name]:
        return self._origin, False, self._origin

    def check_put_rdataset(self, _: object) -> None:
        """The builder looks at what may stand beside what."""

    def add(self, name: dns.name.Name, ttl: int, rdata: dns.rdata.Rdata) -> None:
        self._builder.add(bytes(name.to_wire() or b""), int(rdata.rdtype), ttl, bytes(rdata.to_wire() or b""))


class _Reader(dns.zonefile.Reader):
    """dnspython reads each record that is not plain; we keep the loop over lines, for four reasons.

    Its own loop opens `$INCLUDE` files relative to wherever the program was started, follows a file that includes
    itself until no descriptor is left, passes over records outside of the zone in silence, and takes ten times as long.
    """

    def __init__(self, builder: ZoneBuilder, origin: dns.name.Name, told: _Told) -> None:
        sink: Any = _Sink(builder, origin)
        super().__init__(dns.tokenizer.Tokenizer(""), dns.rdataclass.IN, sink)
        self._builder = builder
        self._origin = origin
        self._told = told
        self._owner: bytes | None = None
        """The last owner, where a plain line gave it; else it is `last_name`."""
        self._reading: list[Path] = []
        """The file, the one that includes it, and so on."""

    def read_file(self, file: Path, depth: int) -> None:
        """All records of a file and of what it includes. Raises ZoneError."""
        if depth > INCLUDE_DEPTH_MAX:
            raise ZoneError(f"{file}: $INCLUDE deeper than {INCLUDE_DEPTH_MAX} files")
        real = file.resolve()
        if real in self._reading:
            raise ZoneError(f"{file}: $INCLUDE of a file that includes itself")
        self._reading.append(real)
        try:
            with file.open(encoding="utf-8") as text:
                if depth == 0:
                    self._told.began(file.stat().st_size)
                self._read_lines(file, _Lines(iter(text)), depth)
        except OSError as fault:
            raise ZoneError(f"{file}: cannot read the zone file: {fault.strerror}") from None
        except UnicodeDecodeError as fault:
            raise ZoneError(f"{file}: expected text in UTF-8, found byte {fault.object[fault.start]:#04x}") from None
        self._reading.pop()

    def _read_lines(self, file: Path, lines: _Lines, depth: int) -> None:
        self.tok = dns.tokenizer.Tokenizer(lines, str(file))
        origin = self._wire_origin()
        while line := lines.take():
            number = lines.number
            try:
                record = read_line(line, origin)
                if record is None or not self._add(record):
                    lines.put_back(line)
                    self._read_slowly(file, lines, depth)
                    origin = self._wire_origin()
            except UnicodeDecodeError:
                raise
            except (dns.exception.DNSException, ValueError, RecordError) as fault:
                said = str(fault) or type(fault).__name__
                if isinstance(fault, dns.exception.DNSException):  # some say no more than that it is malformed
                    said = f"{said.rstrip('.')}: {line.strip()[:LINE_SHOWN_MAX]!r}"
                raise ZoneError(f"{file}:{number}: {said}") from None
            self._told.line(lines.characters if depth == 0 else None)

    def _wire_origin(self) -> bytes:
        assert self.current_origin is not None
        return bytes(self.current_origin.to_wire() or b"")

    def _add(self, record: Record) -> bool:
        """False when dnspython shall say what is wrong with it."""
        ttl = record.ttl
        if ttl is None:
            if (ttl := self._implicit_ttl()) is None:
                return False
        else:
            self.last_ttl, self.last_ttl_known = ttl, True
        if record.owner is not None:
            self._owner = record.owner
        elif self._owner is None:
            if self.last_name is None:
                return False
            self._owner = bytes(self.last_name.to_wire() or b"")
        self._builder.add(self._owner, record.rrtype, ttl, record.rdata)
        return True

    def _read_slowly(self, file: Path, lines: _Lines, depth: int) -> None:
        """Whole lines, as many as belong together."""
        if self._owner is not None:
            self.last_name, self._owner = dns.name.from_wire(self._owner, 0)[0], None
        while not (token := self.tok.get(want_leading=True, want_comment=True)).is_eof():
            if token.is_identifier() and token.value.upper() == "$INCLUDE":
                self._include(file, depth)
            elif token.is_identifier() and token.value[0] == "$":
                self._directive(token.value.upper())
            elif not token.is_eol() and not token.is_comment():
                self.tok.unget(token)
                self._record()
            if self.tok.ungotten_char is None and self.tok.ungotten_token is None and lines.at_line_start():
                return

    def _record(self) -> None:
        self._rr_line()
        self._check_inside()

    def _check_inside(self) -> None:
        if self.last_name is not None and not self.last_name.is_subdomain(self._origin):
            raise ValueError(f"{self.last_name} is outside of the zone {self._origin}")

    def _directive(self, directive: str) -> None:
        if directive == "$GENERATE":
            self._check_range()
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

    def _check_range(self) -> None:
        token = self.tok.get()
        self.tok.unget(token)
        try:
            start, stop, step = dns.grange.from_text(token.value)
        except (dns.exception.DNSException, ValueError, AssertionError):
            return  # whoever reads the line says so
        if (stop - start) // step >= GENERATE_RECORDS_MAX:
            raise ValueError(f"$GENERATE {token.value}: expected at most {GENERATE_RECORDS_MAX} records")

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
        self._owner = None
