"""DNS cookies (RFC 7873) in the form that all servers of a service understand (RFC 9018): version 1, SipHash-2-4.

Law: nothing is remembered of a client: the cookie itself proves that whoever sends it has received an answer of ours
at the address it is sent from. Whoever shares the secrets accepts it, so one file of secrets serves all sites of an
anycast address. The first secret signs, all of them verify, which is what a rollover needs (RFC 9018 section 5).
"""

import struct

SECRET_BYTES = 16
CLIENT_BYTES = 8
SERVER_BYTES_MIN = 8
SERVER_BYTES_MAX = 32
PAST_SECONDS_MAX = 3600
FUTURE_SECONDS_MAX = 300
RENEW_SECONDS = 1800
"""RFC 9018 section 4.3 gives these three."""

_VERSION = b"\x01"
_HEAD_BYTES = 16
"""Client cookie, version, reserved, time: what is signed, together with the address."""
_COOKIE_BYTES = _HEAD_BYTES + 8
_TIME = struct.Struct("!I")
_MASK = (1 << 64) - 1


def is_well_formed(cookie: bytes) -> bool:
    """Whether the option has a length that it may have (RFC 7873 section 5.2.2)."""
    return len(cookie) == CLIENT_BYTES or (
        CLIENT_BYTES + SERVER_BYTES_MIN <= len(cookie) <= CLIENT_BYTES + SERVER_BYTES_MAX
    )


def is_valid(cookie: bytes, source: bytes, secrets: tuple[bytes, ...], *, wall: float) -> bool:
    """Whether we, or who shares our secrets, gave this cookie to the address `source`, not long before `wall`."""
    return _signer(cookie, source, secrets, int(wall)) is not None


def answer_cookie(cookie: bytes, source: bytes, secrets: tuple[bytes, ...], *, wall: float) -> bytes:
    """The option of the answer: the client's own cookie while it is fresh, else a new one. `wall` in Unix seconds."""
    now = int(wall)
    if _signer(cookie, source, secrets, now) == 0 and _age(cookie, now) <= RENEW_SECONDS:
        return cookie
    head = cookie[:CLIENT_BYTES] + _VERSION + bytes(3) + _TIME.pack(now & 0xFFFFFFFF)
    return head + siphash24(secrets[0], head + source)


def _signer(cookie: bytes, source: bytes, secrets: tuple[bytes, ...], now: int) -> int | None:
    """The place of the secret that signed a valid cookie."""
    if len(cookie) != _COOKIE_BYTES or cookie[CLIENT_BYTES : CLIENT_BYTES + 1] != _VERSION:
        return None
    if not -FUTURE_SECONDS_MAX <= _age(cookie, now) <= PAST_SECONDS_MAX:
        return None
    signed = cookie[:_HEAD_BYTES] + source
    for place, secret in enumerate(secrets):
        if siphash24(secret, signed) == cookie[_HEAD_BYTES:]:
            return place
    return None


def _age(cookie: bytes, now: int) -> int:
    """In seconds, by serial number arithmetic (RFC 1982): the time wraps in 2106."""
    (made,) = _TIME.unpack_from(cookie, _HEAD_BYTES - _TIME.size)
    age: int = (now - made) & 0xFFFFFFFF
    return age - (1 << 32) if age >> 31 else age


def siphash24(key: bytes, data: bytes) -> bytes:
    """SipHash-2-4 (Aumasson and Bernstein, 2012) with a key of 16 bytes; 8 bytes, as the cookie has them."""
    k0, k1 = struct.unpack("<QQ", key)
    state = (k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573)
    padded = data + bytes(7 - len(data) % 8) + bytes((len(data) & 0xFF,))
    for (word,) in struct.iter_unpack("<Q", padded):
        v0, v1, v2, v3 = state
        v0, v1, v2, v3 = _rounds(2, v0, v1, v2, v3 ^ word)
        state = v0 ^ word, v1, v2, v3
    v0, v1, v2, v3 = state
    v0, v1, v2, v3 = _rounds(4, v0, v1, v2 ^ 0xFF, v3)
    return struct.pack("<Q", v0 ^ v1 ^ v2 ^ v3)


def _rounds(count: int, v0: int, v1: int, v2: int, v3: int) -> tuple[int, int, int, int]:
    """Written out, without functions for the rotations: this is most of what a cookie costs."""
    for _ in range(count):
        v0 = (v0 + v1) & _MASK
        v1 = ((v1 << 13 | v1 >> 51) & _MASK) ^ v0
        v0 = (v0 << 32 | v0 >> 32) & _MASK
        v2 = (v2 + v3) & _MASK
        v3 = ((v3 << 16 | v3 >> 48) & _MASK) ^ v2
        v0 = (v0 + v3) & _MASK
        v3 = ((v3 << 21 | v3 >> 43) & _MASK) ^ v0
        v2 = (v2 + v1) & _MASK
        v1 = ((v1 << 17 | v1 >> 47) & _MASK) ^ v2
        v2 = (v2 << 32 | v2 >> 32) & _MASK
    return v0, v1, v2, v3
