"""EDNS(0), RFC 6891, and the options that we answer: client subnet (RFC 7871), NSID (RFC 5001), cookies (RFC 7873),
TCP keepalive (RFC 7828), extended errors (RFC 8914).

Law: an OPT that breaks a rule is `Malformed`, never repaired; an option that we do not know is ignored
(RFC 6891 section 6.1.2). What the client sent in its subnet option goes back byte for byte, only with a scope.
"""

import struct

import msgspec

from anycastle.dns.cookie import is_well_formed

OPT = 41
OPTION_NSID = 3
OPTION_CLIENT_SUBNET = 8
OPTION_COOKIE = 10
OPTION_KEEPALIVE = 11
OPTION_EXTENDED_ERROR = 15
VERSION = 0
PAYLOAD_BYTES_MIN = 512
"""RFC 6891 section 6.2.3: smaller values count as 512."""
OPTIONS_MAX = 32
"""More options than any client has reason to send; keeps the walk over a 64 KiB OPT short."""

_DNSSEC_OK = 0x8000
_FAMILY_ADDRESS_BYTES = {1: 4, 2: 16}
_RECORD = struct.Struct("!BHHIH")
_OPTION = struct.Struct("!HH")
_SUBNET = struct.Struct("!HBB")
_NUMBER = struct.Struct("!H")
_KEEPALIVE_UNITS_MAX = 0xFFFF


class ExtendedError(msgspec.Struct, frozen=True, gc=False):
    """Why an answer is what it is, for people (RFC 8914). The text is kept short: it is never a reason for TC."""

    code: int
    text: str = ""


OTHER_ERROR, PROHIBITED, NOT_AUTHORITATIVE = 0, 18, 20
"""RFC 8914 sections 4.1, 4.19 and 4.21."""


class Malformed(ValueError):
    """A query breaks the rule that the text names; the answer is FORMERR."""


class ClientSubnet(msgspec.Struct, frozen=True, gc=False):
    """The network on whose behalf a resolver asks; `family` 0 (only with no bits) tells nothing."""

    family: int
    source_bits: int
    address: bytes
    """As it came: only as many bytes as `source_bits` needs."""

    def padded(self) -> bytes:
        """The address in full length (4 or 16 bytes); empty for family 0."""
        return self.address.ljust(_FAMILY_ADDRESS_BYTES.get(self.family, 0), b"\0")


class Edns(msgspec.Struct, frozen=True, gc=False):
    """What the OPT record of a query says."""

    payload_bytes: int = PAYLOAD_BYTES_MIN
    version: int = VERSION
    dnssec_ok: bool = False
    nsid: bool = False
    subnet: ClientSubnet | None = None
    cookie: bytes = b""
    """Of a length that it may have; whether it is valid is another question. Empty when none came."""
    keepalive: bool = False

    def without_options(self) -> "Edns":
        """For the answer to a broken query: the client learns that we speak EDNS, nothing is echoed."""
        return Edns(self.payload_bytes, self.version, self.dnssec_ok)


def parse_header(record_class: int, ttl: int) -> Edns:
    """The fixed part of an OPT record, which keeps its fields in CLASS and TTL."""
    return Edns(
        payload_bytes=max(PAYLOAD_BYTES_MIN, record_class),
        version=ttl >> 16 & 0xFF,
        dnssec_ok=bool(ttl & _DNSSEC_OK),
    )


def parse_options(header: Edns, rdata: bytes) -> Edns:
    """`header` with the options in `rdata`. Raises Malformed."""
    nsid = keepalive = False
    subnet = None
    cookie = b""
    position = 0
    for _ in range(OPTIONS_MAX):
        if position == len(rdata):
            break
        if position + 4 > len(rdata):
            raise Malformed("an option is cut off")
        code, size = _OPTION.unpack_from(rdata, position)
        position += 4
        value = rdata[position : position + size]
        if len(value) != size:
            raise Malformed("an option is longer than its record")
        position += size
        if code == OPTION_NSID:
            nsid = True
        elif code == OPTION_CLIENT_SUBNET:
            if subnet is not None:
                raise Malformed("two client subnets")
            subnet = _parse_subnet(value)
        elif code == OPTION_COOKIE:
            if not is_well_formed(value):
                raise Malformed("a cookie of a length that none has")
            cookie = cookie or value  # RFC 7873 section 5.2: all but the first are ignored
        elif code == OPTION_KEEPALIVE:
            keepalive = True
    if position != len(rdata):
        raise Malformed(f"more than {OPTIONS_MAX} options")
    return Edns(header.payload_bytes, header.version, header.dnssec_ok, nsid, subnet, cookie, keepalive)


def _parse_subnet(value: bytes) -> ClientSubnet:
    """RFC 7871 sections 6 and 7.1.2."""
    if len(value) < 4:
        raise Malformed("a client subnet is cut off")
    family, source_bits, scope_bits = _SUBNET.unpack_from(value)
    address = value[4:]
    if scope_bits:
        raise Malformed("a client subnet in a query has a scope")
    if family not in _FAMILY_ADDRESS_BYTES and (family or source_bits):
        raise Malformed("a client subnet of an unknown family")
    if source_bits > 8 * _FAMILY_ADDRESS_BYTES.get(family, 0):
        raise Malformed("a client subnet longer than an address")
    if len(address) != (source_bits + 7) // 8:
        raise Malformed("a client subnet whose address does not fit its length")
    if source_bits % 8 and address[-1] & (0xFF >> source_bits % 8):
        raise Malformed("a client subnet with bits beyond its length")
    return ClientSubnet(family, source_bits, address)


def render_error(error: ExtendedError) -> bytes:
    """Its option, whole."""
    text = error.text.encode()
    return _OPTION.pack(OPTION_EXTENDED_ERROR, _NUMBER.size + len(text)) + _NUMBER.pack(error.code) + text


def render_opt(
    edns: Edns,
    *,
    payload_bytes: int,
    extended_rcode: int,
    server_id: bytes = b"",
    scope_bits: int = 0,
    cookie: bytes = b"",
    keepalive_seconds: float | None = None,
    error: ExtendedError | None = None,
) -> bytes:
    """The OPT record of an answer: DO comes back (RFC 3225), the subnet with its scope, NSID only when asked.

    `cookie` is the whole option for a client that sent one. `keepalive_seconds` goes to clients that asked.
    """
    options = b""
    if edns.nsid:
        options = _OPTION.pack(OPTION_NSID, len(server_id)) + server_id
    subnet = edns.subnet
    if subnet is not None:
        options += _OPTION.pack(OPTION_CLIENT_SUBNET, 4 + len(subnet.address))
        options += _SUBNET.pack(subnet.family, subnet.source_bits, scope_bits) + subnet.address
    if cookie:
        options += _OPTION.pack(OPTION_COOKIE, len(cookie)) + cookie
    if edns.keepalive and keepalive_seconds is not None:
        units = min(int(keepalive_seconds * 10), _KEEPALIVE_UNITS_MAX)  # of 100 ms, RFC 7828 section 3.1
        options += _OPTION.pack(OPTION_KEEPALIVE, _NUMBER.size) + _NUMBER.pack(units)
    if error is not None:
        options += render_error(error)
    ttl = extended_rcode << 24 | VERSION << 16 | (_DNSSEC_OK if edns.dnssec_ok else 0)
    return _RECORD.pack(0, OPT, payload_bytes, ttl, len(options)) + options
