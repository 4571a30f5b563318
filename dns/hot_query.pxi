"""Reading plain queries (`shelf._parse_plain`), and numbers in network byte order, compiled. Part of hot.pyx."""

cdef enum:
    KEY_BYTES_MAX = 259  # name, type, class


cdef struct Plain:
    # A query of the kind that is answered here.
    const uint8_t *packet
    Py_ssize_t question_size  # name, type, class
    uint8_t key[KEY_BYTES_MAX]  # the question, with the name in lower case
    bint edns
    uint32_t dnssec_ok
    Py_ssize_t bytes_max
    Py_ssize_t subnet, subnet_size  # the value of the option; 0 when there is none
    int client_size  # 4 or 16; 0 when the subnet tells nothing
    uint8_t client[16]
    Py_ssize_t cookie, cookie_size


cdef inline uint32_t _get16(const uint8_t *at) noexcept nogil:
    return (<uint32_t>at[0] << 8) | at[1]


cdef inline uint32_t _get32(const uint8_t *at) noexcept nogil:
    return (<uint32_t>at[0] << 24) | (<uint32_t>at[1] << 16) | (<uint32_t>at[2] << 8) | at[3]


cdef inline uint64_t _get64(const uint8_t *at) noexcept nogil:
    return (<uint64_t>_get32(at) << 32) | _get32(at + 4)


cdef inline void _put16(uint8_t *at, uint32_t value) noexcept nogil:
    at[0] = value >> 8
    at[1] = value


cdef inline void _put32(uint8_t *at, uint32_t value) noexcept nogil:
    _put16(at, value >> 16)
    _put16(at + 2, value & 0xFFFF)


cdef bint _parse_plain(Plain *plain, const uint8_t *packet, Py_ssize_t end, Py_ssize_t payload_bytes) noexcept nogil:
    """False for all that is not of that kind."""
    cdef Py_ssize_t position = 12, index
    cdef uint8_t byte
    if end < 17 or packet[2] & 0xF8 or _get16(packet + 4) != 1 or _get32(packet + 6) or packet[10] or packet[11] > 1:
        return False
    while packet[position]:
        if packet[position] > 63:
            return False
        position += packet[position] + 1
        if position >= end or position > 12 + 254:
            return False
    position += 1
    if position + 4 > end or packet[position + 2] or packet[position + 3] != 1:
        return False
    plain.packet = packet
    plain.question_size = position + 4 - 12
    for index in range(position - 12):
        byte = packet[12 + index]
        plain.key[index] = byte + 32 if 65 <= byte <= 90 else byte
    memcpy(plain.key + position - 12, packet + position, 4)
    position += 4
    plain.edns = False
    plain.dnssec_ok = 0
    plain.bytes_max = 512
    plain.subnet = plain.subnet_size = plain.cookie = plain.cookie_size = plain.client_size = 0
    if not packet[11]:
        return position == end
    return _parse_opt(plain, position, end, payload_bytes)


cdef bint _parse_opt(Plain *plain, Py_ssize_t position, Py_ssize_t end, Py_ssize_t payload_bytes) noexcept nogil:
    cdef const uint8_t *packet = plain.packet
    cdef Py_ssize_t size
    cdef uint32_t code
    if position + 11 > end or packet[position] or _get16(packet + position + 1) != 41 or packet[position + 6]:
        return False
    plain.edns = True
    plain.bytes_max = min(max(<Py_ssize_t>_get16(packet + position + 3), 512), payload_bytes)
    plain.dnssec_ok = _get16(packet + position + 7) & 0x8000
    size = _get16(packet + position + 9)
    position += 11
    if position + size != end:
        return False
    while position + 4 <= end:
        code, size = _get16(packet + position), _get16(packet + position + 2)
        position += 4
        if position + size > end:
            return False
        if code == 8 and not plain.subnet:
            plain.subnet, plain.subnet_size = position, size
            if not _parse_subnet(plain):
                return False
        elif code == 10 and not plain.cookie and (size == 8 or 16 <= size <= 40):
            plain.cookie, plain.cookie_size = position, size
        else:
            return False
        position += size
    return position == end


cdef bint _parse_subnet(Plain *plain) noexcept nogil:
    """RFC 7871 sections 6 and 7.1.2."""
    cdef const uint8_t *value = plain.packet + plain.subnet
    cdef Py_ssize_t address = plain.subnet_size - 4
    cdef int family, bits, size
    if address < 0:
        return False
    family, bits = _get16(value), value[2]
    if family == 1:
        size = 4
    elif family == 2:
        size = 16
    else:
        return False
    if value[3] or bits > 8 * size or address != (bits + 7) // 8:
        return False
    if bits % 8 and value[3 + address] & (0xFF >> bits % 8):
        return False
    if bits:
        plain.client_size = size
        memset(plain.client, 0, 16)
        memcpy(plain.client, value + 4, address)
    return True
