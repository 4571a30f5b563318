"""SVCB and HTTPS records (RFC 9460) at steered names: their address hints say what A and AAAA say.

Law: hints from the zone file never leave for a steered name, as clients would follow them past every decision. They
are taken out when the zone is loaded, and put in from the decision when a query is answered. AliasMode has none.
"""

import struct
from collections.abc import Iterable

from anycastle.dns.rrset import RRset, make_rrset
from anycastle.dns.settings import Address

SVCB, HTTPS = 64, 65
SERVICE_TYPES = (SVCB, HTTPS)

_MANDATORY, _HINT_4, _HINT_6 = 0, 4, 6
_PRIORITY_BYTES = 2
_PARAMETER = struct.Struct("!HH")
_KEY = struct.Struct("!H")


def target_of(rdata: bytes, owner: bytes) -> bytes | None:
    """The name whose addresses the hints are (lower case); None in AliasMode. `.` stands for the owner."""
    if rdata[:_PRIORITY_BYTES] == b"\0\0":
        return None
    name = rdata[_PRIORITY_BYTES : _name_end(rdata)].lower()
    return owner if name == b"\0" else name


def without_hints(rdata: bytes) -> bytes:
    """The record without address hints; a hint that is not there cannot be mandatory either."""
    parameters = _parameters(rdata)
    for key in (_HINT_4, _HINT_6):
        parameters.pop(key, None)
    needed = parameters.pop(_MANDATORY, b"")
    keys = [key for (key,) in _KEY.iter_unpack(needed) if key not in (_HINT_4, _HINT_6)]
    if keys:
        parameters[_MANDATORY] = b"".join(map(_KEY.pack, keys))
    return _joined(rdata, parameters)


def steered_service(rrset: RRset, owner: bytes, addresses: Iterable[Address], ttl_max: int) -> RRset:
    """The records as they are answered, with the hints of a decision where they speak of the steered name itself."""
    hints: dict[int, bytes] = {}
    for address in addresses:
        key = _HINT_4 if address.version == 4 else _HINT_6
        hints[key] = hints.get(key, b"") + address.packed
    rdatas = tuple(
        (_joined(rdata, _parameters(rdata) | hints) if target_of(rdata, owner) == owner else rdata,)
        for (rdata,) in rrset.rdatas
    )
    return make_rrset(owner, rrset.rrtype, min(rrset.ttl, ttl_max), rdatas)


def _parameters(rdata: bytes) -> dict[int, bytes]:
    position = _name_end(rdata)
    found = {}
    while position < len(rdata):
        key, size = _PARAMETER.unpack_from(rdata, position)
        position += _PARAMETER.size + size
        found[key] = rdata[position - size : position]
    return found


def _joined(rdata: bytes, parameters: dict[int, bytes]) -> bytes:
    """Keys in order and once each (RFC 9460 section 2.2)."""
    return rdata[: _name_end(rdata)] + b"".join(
        _PARAMETER.pack(key, len(value)) + value for key, value in sorted(parameters.items())
    )


def _name_end(rdata: bytes) -> int:
    position = _PRIORITY_BYTES
    while length := rdata[position]:
        position += length + 1
    return position + 1
