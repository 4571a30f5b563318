"""One plain line of a master file to a record: what nearly all lines of large zones are.

Law: a line is either understood exactly as dnspython does, or not at all (None): then dnspython reads it and says what
is wrong with it. Plain is: printable ASCII; an owner or a blank, TTL in digits, `IN`, one of the types below; no
escapes, no parentheses; quotes only where text stands. A test holds both readers against each other.
"""

import re
import socket
import struct
from collections.abc import Callable

import msgspec

from anycastle.dns.wire import NAME_BYTES_MAX

_NAME = r"(?:[A-Za-z0-9_*/-]{1,63}\.)*[A-Za-z0-9_*/-]{1,63}\.?"
_LINE = re.compile(
    rf"(@|{_NAME})?[ \t]+(?:([0-9]{{1,9}})[ \t]+)?(?:[Ii][Nn][ \t]+(?:([0-9]{{1,9}})[ \t]+)?)?"
    r"([A-Za-z]+)[ \t]+([ -~\t]+)\n?"
)
_IS_NAME = re.compile(_NAME)
_TEXTS = re.compile(r'(?:"[ !#-\[\]-~]{0,255}"[ \t]+)*"[ !#-\[\]-~]{0,255}"[ \t]*(?:;.*)?')
_TEXT = re.compile(r'"([^"]*)"')
_CAA = re.compile(r'([0-9]{1,3})[ \t]+([A-Za-z0-9]{1,255})[ \t]+"([ !#-\[\]-~]*)"[ \t]*(?:;.*)?')
_IPV6 = re.compile(r"[0-9A-Fa-f:]{2,39}")
_NUMBER = re.compile(r"[0-9]{1,5}")
_NUMBER_MAX = 65535
_OCTET_MAX = 255


class Record(msgspec.Struct, frozen=True, gc=False):
    """What a plain line says."""

    owner: bytes | None
    """Wire form, in the case of the file; None for the owner of the line before."""
    ttl: int | None
    rrtype: int
    rdata: bytes


def read_line(line: str, origin: bytes) -> Record | None:
    """The record; None for a line that is not plain. `origin` is what relative names end with (wire form)."""
    match = _LINE.fullmatch(line)
    if match is None:
        return None
    owner_text, ttl, ttl_behind, rrtype_text, rest = match.groups()
    known = _TYPES.get(rrtype_text) or _TYPES.get(rrtype_text.upper())
    if known is None or (ttl is not None and ttl_behind is not None):
        return None
    rrtype, reader = known
    rdata = reader(rest, origin)
    if rdata is None:
        return None
    owner = None
    if owner_text is not None and (owner := _wire(owner_text, origin)) is None:
        return None
    ttl = ttl or ttl_behind
    return Record(owner, int(ttl) if ttl else None, rrtype, rdata)


def _wire(text: str, origin: bytes) -> bytes | None:
    """A name that `_NAME` matches, or `@`; None when it is too long."""
    if text == "@":
        return origin
    if text[-1] == ".":
        text, origin = text[:-1], b"\0"
    encoded = text.encode()
    if b"." in encoded:
        wire = b"".join([b"%c%b" % (len(label), label) for label in encoded.split(b".")]) + origin
    else:
        wire = b"%c%b%b" % (len(encoded), encoded, origin)
    return wire if len(wire) <= NAME_BYTES_MAX else None


def _words(rest: str) -> list[str]:
    return rest.partition(";")[0].split()


def _read_ipv4(rest: str, origin: bytes) -> bytes | None:
    return _packed(socket.AF_INET, _words(rest))


def _read_ipv6(rest: str, origin: bytes) -> bytes | None:
    words = _words(rest)
    return _packed(socket.AF_INET6, words) if words and _IPV6.fullmatch(words[0]) else None


def _packed(family: int, words: list[str]) -> bytes | None:
    if len(words) != 1:
        return None
    try:
        return socket.inet_pton(family, words[0])
    except OSError:
        return None


def _named(numbers: int) -> Callable[[str, bytes], bytes | None]:
    """A reader of so many 16-bit numbers and a name."""
    packer = struct.Struct(f"!{numbers}H")

    def read(rest: str, origin: bytes) -> bytes | None:
        *texts, name = _words(rest) or ("",)
        if len(texts) != numbers or not (name == "@" or _IS_NAME.fullmatch(name)):
            return None
        if not all(_NUMBER.fullmatch(text) and int(text) <= _NUMBER_MAX for text in texts):
            return None
        wire = _wire(name, origin)
        return None if wire is None else packer.pack(*map(int, texts)) + wire

    return read


def _read_texts(rest: str, origin: bytes) -> bytes | None:
    if not _TEXTS.fullmatch(rest):
        return None
    # A comment may have quotes of its own, so only what stands before it is looked through.
    texts = []
    position = 0
    while match := _TEXT.match(rest, position):
        texts.append(match[1].encode())
        position = match.end()
        position += len(rest) - position - len(rest[position:].lstrip(" \t"))
    return b"".join(bytes((len(text),)) + text for text in texts)


def _read_caa(rest: str, origin: bytes) -> bytes | None:
    match = _CAA.fullmatch(rest)
    if match is None or int(match[1]) > _OCTET_MAX:
        return None
    return bytes((int(match[1]), len(match[2]))) + match[2].encode() + match[3].encode()


_TYPES: dict[str, tuple[int, Callable[[str, bytes], bytes | None]]] = {
    "A": (1, _read_ipv4),
    "NS": (2, _named(0)),
    "CNAME": (5, _named(0)),
    "PTR": (12, _named(0)),
    "MX": (15, _named(1)),
    "TXT": (16, _read_texts),
    "AAAA": (28, _read_ipv6),
    "SRV": (33, _named(3)),
    "CAA": (257, _read_caa),
}
