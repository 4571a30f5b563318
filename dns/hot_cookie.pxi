"""Cookies (`cookie.py`), compiled. Part of hot.pyx."""

cdef enum:
    COOKIE_BYTES = 24
    RENEW_SECONDS = 1800
    PAST_SECONDS_MAX = 3600
    FUTURE_SECONDS_MAX = 300


cdef inline uint64_t _rotated(uint64_t value, int bits) noexcept nogil:
    return (value << bits) | (value >> (64 - bits))


cdef inline void _sip_round(uint64_t *v) noexcept nogil:
    v[0] += v[1]
    v[1] = _rotated(v[1], 13) ^ v[0]
    v[0] = _rotated(v[0], 32)
    v[2] += v[3]
    v[3] = _rotated(v[3], 16) ^ v[2]
    v[0] += v[3]
    v[3] = _rotated(v[3], 21) ^ v[0]
    v[2] += v[1]
    v[1] = _rotated(v[1], 17) ^ v[2]
    v[2] = _rotated(v[2], 32)


cdef uint64_t _siphash24(const uint8_t *key, const uint8_t *data, int size) noexcept nogil:
    """SipHash-2-4 of 20 or 32 bytes: what a cookie signs. Words are little-endian, as this machine's are."""
    cdef uint64_t words[5]
    cdef uint64_t v[4]
    cdef uint64_t k[2]
    cdef int index, count = size // 8 + 1
    memset(words, 0, sizeof(words))
    memcpy(words, data, size)
    (<uint8_t *>words)[8 * count - 1] = size
    memcpy(k, key, 16)
    v[0], v[1], v[2], v[3] = (
        k[0] ^ <uint64_t>0x736F6D6570736575,
        k[1] ^ <uint64_t>0x646F72616E646F6D,
        k[0] ^ <uint64_t>0x6C7967656E657261,
        k[1] ^ <uint64_t>0x7465646279746573,
    )
    for index in range(count):
        v[3] ^= words[index]
        _sip_round(v)
        _sip_round(v)
        v[0] ^= words[index]
    v[2] ^= 0xFF
    for index in range(4):
        _sip_round(v)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


cdef inline int32_t _age(const uint8_t *cookie, int64_t wall) noexcept nogil:
    """In seconds, by serial number arithmetic (RFC 1982)."""
    return <int32_t>(<uint32_t>wall - _get32(cookie + 12))


cdef int _signer(bytes secrets, Plain *plain, const uint8_t *source, int source_size, int64_t wall) noexcept:
    """The place of the secret that signed a valid cookie, or -1."""
    cdef const uint8_t *cookie = plain.packet + plain.cookie
    cdef uint8_t signed_part[32]
    cdef uint64_t mark, given
    cdef int place
    if plain.cookie_size != COOKIE_BYTES or cookie[8] != 1 or not -FUTURE_SECONDS_MAX <= _age(cookie, wall) <= PAST_SECONDS_MAX:
        return -1
    memcpy(signed_part, cookie, 16)
    memcpy(signed_part + 16, source, source_size)
    memcpy(&given, cookie + 16, 8)
    for place in range(PyBytes_GET_SIZE(secrets) // 16):
        mark = _siphash24(<const uint8_t *>PyBytes_AS_STRING(secrets) + 16 * place, signed_part, 16 + source_size)
        if mark == given:
            return place
    return -1


cdef void _put_cookie(
    bytes secrets, Plain *plain, const uint8_t *source, int source_size, int64_t wall, uint8_t *out
) noexcept:
    """`cookie.answer_cookie`."""
    cdef const uint8_t *cookie = plain.packet + plain.cookie
    cdef uint8_t signed_part[32]
    cdef uint64_t mark
    if _signer(secrets, plain, source, source_size, wall) == 0 and _age(cookie, wall) <= RENEW_SECONDS:
        memcpy(out, cookie, COOKIE_BYTES)
        return
    memcpy(out, cookie, 8)
    memcpy(out + 8, <const char *>b"\1\0\0\0", 4)
    _put32(out + 12, <uint32_t>wall)
    memcpy(signed_part, out, 16)
    memcpy(signed_part + 16, source, source_size)
    mark = _siphash24(<const uint8_t *>PyBytes_AS_STRING(secrets), signed_part, 16 + source_size)
    memcpy(out + 16, &mark, 8)
