"""Kept answers, and the short way from a packet to one of them: a few dictionary look-ups and one patch.

Law: what `take` answers is the message that the whole way (`respond`) makes, and what it does not know at once it
leaves to it. It reads only queries as most resolvers send them: one question of class IN, at most an OPT with a client
subnet and a cookie; whatever else comes, broken things too, goes the whole way. `hot.HotShelf` is the same, compiled;
this is what it is tested against, and what serves where it is not built.
"""

import struct
from collections.abc import Iterable

from anycastle.dns.cookie import answer_cookie, is_valid, is_well_formed
from anycastle.dns.edns import OPT, OPTION_CLIENT_SUBNET, OPTION_COOKIE, PAYLOAD_BYTES_MIN
from anycastle.dns.fastest import Fastest
from anycastle.dns.limit import Limiter, Verdict
from anycastle.dns.reply import Body
from anycastle.dns.respond import REFUSED_TYPES
from anycastle.dns.rrset import CLASS_IN
from anycastle.dns.tables import Tables
from anycastle.dns.template import EVERYWHERE, NOT_OURS, Template, make_template
from anycastle.dns.wire import AUTHORITATIVE, CHECKING_DISABLED, NAME_BYTES_MAX, QR, RECURSION_DESIRED, TRUNCATED, Rcode

ANSWERS_MAX = 262_144
"""Kept answers, about 300 bytes each. Random names can fill it; then it starts anew."""

_COUNTERS = {rcode.value: f"rcode_{rcode.name.lower()}" for rcode in Rcode}
_ONE_QUESTION, _AND_OPT = bytes((0, 1, 0, 0, 0, 0, 0, 0)), bytes((0, 1, 0, 0, 0, 0, 0, 1))
_HEADER = struct.Struct("!HHHHHH")
_OPT = struct.Struct("!BHHIH")
_OPTION = struct.Struct("!HH")
_SUBNET = struct.Struct("!HBB")
_DNSSEC_OK = 0x8000
_ADDRESS_BYTES = {1: 4, 2: 16}
TRUNCATED_TEMPLATE = Template(QR | AUTHORITATIVE | TRUNCATED, Body(b"", 0, 0, 0, ()), 0)
"""Told to who asks too fast: ask again by TCP."""
_NOT_OURS = make_template(b"", NOT_OURS)


class _Plain:
    """A query of the kind that is answered here. `subnet` is the value of that option, `client` its whole address."""

    __slots__ = ("bytes_max", "client", "cookie", "do", "edns", "key", "question", "subnet")

    def __init__(self, question: bytes) -> None:
        self.question = question
        self.key = question[:-4].lower() + question[-4:]
        self.edns = False
        self.do = 0
        self.bytes_max = PAYLOAD_BYTES_MIN
        self.subnet = b""
        self.client = b""
        self.cookie = b""


class PlainAnswers:
    """`template.Answers`."""

    __slots__ = ("by_speed", "templates", "until")

    def __init__(self, until: float, by_speed: bool) -> None:
        self.until = until
        self.by_speed = by_speed
        self.templates: dict[int, Template] = {}

    def has(self, place: int) -> bool:
        return place in self.templates


class Shelf:
    """For one generation of the tables; not for several threads."""

    def __init__(self, tables: Tables, limiter: Limiter, *, answers_max: int = ANSWERS_MAX) -> None:
        self._geo = tables.steering.geo
        self._fastest = tables.steering.fastest
        self._names = {origin: zone.nodes.names() for origin, zone in tables.zones.items()}
        """Of each zone, by origin."""
        self._secrets = tables.cookie_secrets
        self._payload_bytes = tables.udp_payload_bytes_max
        self._limiter = limiter
        self._answers_max = answers_max
        self._kept: dict[bytes, PlainAnswers] = {}
        self._negative: dict[bytes, Template] = {}
        self._added = 0
        self._counters: dict[str, int] = {}

    def __len__(self) -> int:
        """How many questions and negative answers."""
        return len(self._kept) + len(self._negative)

    def answers(self, until: float, by_speed: bool = False) -> PlainAnswers:
        """For `add` and `keep`: none yet, and valid before `until` (BOOTTIME). Places are those of the common map, or
        `by_speed` of the one for `fastest`."""
        return PlainAnswers(until, by_speed)

    def lay(self, fastest: Fastest) -> None:
        """Another map for `fastest`; what was kept by the former is forgotten already."""
        self._fastest = fastest

    def add(self, answers: PlainAnswers, place: int, template: Template) -> None:
        """An answer for one place or EVERYWHERE."""
        answers.templates[place] = template
        self._added += 1

    def keep(self, question: bytes, answers: PlainAnswers) -> None:
        """The answers to a question (name in lower case)."""
        self._make_room()
        self._kept[question] = answers

    def keep_negative(self, encloser: bytes, template: Template) -> None:
        """The answer for every name below `encloser` that does not exist."""
        self._make_room()
        self._negative[encloser] = template

    def _make_room(self) -> None:
        if len(self) + self._added >= self._answers_max:
            self.clear()

    def forget(self, questions: Iterable[bytes]) -> None:
        """Drop what is kept for these, if anything is."""
        for question in questions:
            self._kept.pop(question, None)

    def clear(self) -> None:
        """Drop everything."""
        self._kept.clear()
        self._negative.clear()
        self._added = 0

    def collect(self, counters: dict[str, int]) -> None:
        """Adds what was counted since the last time."""
        for name, count in self._counters.items():
            counters[name] += count
        self._counters.clear()

    def take(self, packet: bytes, source: bytes, *, now: float, wall: float) -> bytes | Verdict | None:
        """The answer, or None for silence; or the limiter's verdict, with which the packet is to go the whole way."""
        verdict = self._limiter.check(source, now=now)
        plain = _parse_plain(packet, self._payload_bytes)
        if plain is None:
            return verdict
        if verdict is not Verdict.PASS and is_valid(plain.cookie, source, self._secrets, wall=wall):
            verdict = Verdict.PASS  # nobody forges that address
        if verdict is Verdict.DROP:
            self._add("limited")
            return None
        if verdict is Verdict.SLIP:
            self._add("limited")
            plain.bytes_max = PAYLOAD_BYTES_MIN
            return self._patched(packet, plain, TRUNCATED_TEMPLATE, 0, source, wall)
        return self._answered(packet, plain, source, now, wall) or Verdict.PASS

    def answer(self, packet: bytes, source: bytes, *, now: float, wall: float) -> bytes | None:
        """The kept answer, without asking the limiter; None where there is none."""
        plain = _parse_plain(packet, self._payload_bytes)
        return self._answered(packet, plain, source, now, wall) if plain is not None else None

    def _answered(self, packet: bytes, plain: _Plain, source: bytes, now: float, wall: float) -> bytes | None:
        scope_bits = 0
        kept = self._kept.get(plain.key)
        template: Template | None
        if kept is None:
            template = self._nowhere(plain.key)
        elif kept.until <= now:
            return None
        else:
            template = kept.templates.get(EVERYWHERE)
            if template is None:
                where = self._fastest if kept.by_speed and self._fastest is not None else self._geo
                place, scope_bits = where.find(plain.client or source)
                template = kept.templates.get(place)
        if template is None:
            return None
        if not (template.scoped and plain.client):
            scope_bits = 0
        reply = self._patched(packet, plain, template, scope_bits, source, wall)
        if reply is not None:
            self._add("queries")
            self._add(_COUNTERS[template.flags & 0xF])
            if template.steered:
                self._add("steered")
        return reply

    def _nowhere(self, key: bytes) -> Template | None:
        """What is said of a name that does not exist."""
        if int.from_bytes(key[-4:-2]) in REFUSED_TYPES:
            return None
        name = key[:-4]
        names = self._names.get(name)
        position = 0
        while names is None:
            if not name[position]:
                return _NOT_OURS
            position += name[position] + 1
            names = self._names.get(name[position:])
        position = 0
        while name[position:] not in names:
            position += name[position] + 1
        return self._negative.get(name[position:]) if position else None

    def _patched(
        self, packet: bytes, plain: _Plain, template: Template, scope_bits: int, source: bytes, wall: float
    ) -> bytes | None:
        """The message; None when it does not fit, so that something must be left out."""
        body = template.body
        content = _moved(body, len(plain.question) - template.question_bytes)
        opt = self._opt(plain, template, scope_bits, source, wall) if plain.edns else b""
        if 12 + len(plain.question) + len(content) + len(opt) > plain.bytes_max:
            return None
        flags = template.flags | int.from_bytes(packet[2:4]) & (RECURSION_DESIRED | CHECKING_DISABLED)
        counts = body.answers, body.authorities, body.additionals + plain.edns
        header = _HEADER.pack(int.from_bytes(packet[:2]), flags, 1, *counts)
        return b"".join((header, plain.question, content, opt))

    def _opt(self, plain: _Plain, template: Template, scope_bits: int, source: bytes, wall: float) -> bytes:
        options = b""
        if plain.subnet:
            options = _OPTION.pack(OPTION_CLIENT_SUBNET, len(plain.subnet))
            options += plain.subnet[:3] + bytes((scope_bits,)) + plain.subnet[4:]
        if plain.cookie:
            cookie = answer_cookie(plain.cookie, source, self._secrets, wall=wall)
            options += _OPTION.pack(OPTION_COOKIE, len(cookie)) + cookie
        options += template.error
        return _OPT.pack(0, OPT, self._payload_bytes, plain.do, len(options)) + options

    def _add(self, name: str) -> None:
        self._counters[name] = self._counters.get(name, 0) + 1


def _moved(body: Body, question_bytes: int) -> bytes:
    """The records behind a question that is longer by so much than the one they were made for."""
    if not question_bytes or not body.pointers:
        return body.content
    content = bytearray(body.content)
    for at in body.pointers:
        content[at : at + 2] = (int.from_bytes(content[at : at + 2]) + question_bytes).to_bytes(2)
    return bytes(content)


def _parse_plain(packet: bytes, payload_bytes: int) -> _Plain | None:
    """None for all that is not of that kind."""
    end = len(packet)
    if end < 17 or packet[2] & 0xF8 or packet[4:12] not in (_ONE_QUESTION, _AND_OPT):
        return None
    position = 12
    while length := packet[position]:
        position += length + 1
        if length > 63 or position >= end:
            return None
    position += 1
    if position - 12 > NAME_BYTES_MAX or packet[position + 2 : position + 4] != CLASS_IN.to_bytes(2):
        return None
    position += 4
    plain = _Plain(packet[12:position])
    if packet[11]:
        return plain if _parse_opt(plain, packet, position, payload_bytes) else None
    return plain if position == end else None


def _parse_opt(plain: _Plain, packet: bytes, position: int, payload_bytes: int) -> bool:
    end = len(packet)
    if position + _OPT.size > end:
        return False
    owner, rrtype, payload, ttl, size = _OPT.unpack_from(packet, position)
    position += _OPT.size
    if owner or rrtype != OPT or ttl & 0xFF0000 or position + size != end:
        return False
    plain.edns = True
    plain.do = ttl & _DNSSEC_OK
    plain.bytes_max = min(max(payload, PAYLOAD_BYTES_MIN), payload_bytes)
    while position + 4 <= end:
        code, size = _OPTION.unpack_from(packet, position)
        value = packet[position + 4 : position + 4 + size]
        position += 4 + size
        if code == OPTION_CLIENT_SUBNET and not plain.subnet:
            plain.subnet = value
            if not _parse_subnet(plain):
                return False
        elif code == OPTION_COOKIE and not plain.cookie and is_well_formed(value):
            plain.cookie = value
        else:
            return False
    return position == end


def _parse_subnet(plain: _Plain) -> bool:
    value = plain.subnet
    if len(value) < 4:
        return False
    family, source_bits, scope_bits = _SUBNET.unpack_from(value)
    size = _ADDRESS_BYTES.get(family, 0)
    address = value[4:]
    if scope_bits or source_bits > 8 * size or len(address) != (source_bits + 7) // 8 or not size:
        return False
    if source_bits % 8 and address[-1] & (0xFF >> source_bits % 8):
        return False
    plain.client = address.ljust(size, b"\0") if source_bits else b""
    return True
