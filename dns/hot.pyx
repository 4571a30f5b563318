# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The short way from a packet to its answer, compiled: `limit.Limiter`, `shelf.Shelf` and `udp.PlainUdp` once more, line
by line, with datagrams received and sent in batches.

Law: it does what those do; tests/dns/test_hot.py holds each against the other on random input. Whatever it does not know
at once goes the whole way, in Python. All that is kept is Python objects; what is written by hand here is only buffers
of fixed size, and every length is checked before it is used.
"""

from array import array
from bisect import bisect_right

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_GetItem
from libc.errno cimport EINTR, errno
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from anycastle.dns.fastest import EMBEDDED
from anycastle.dns.geo import EMBEDDINGS
from anycastle.dns.limit import BURST_SECONDS, KEY, ROW_BITS, Verdict
from anycastle.dns.respond import REFUSED_TYPES as _REFUSED_TYPES
from anycastle.dns.shelf import ANSWERS_MAX, TRUNCATED_TEMPLATE
from anycastle.dns.template import BODY_BYTES_MAX, NOT_OURS, make_template
from anycastle.dns.template import EVERYWHERE as _EVERYWHERE
from anycastle.dns.wire import Rcode

cdef extern from "<netinet/in.h>" nogil:
    ctypedef uint32_t socklen_t
    struct iovec:
        void *iov_base
        size_t iov_len
    struct msghdr:
        void *msg_name
        socklen_t msg_namelen
        iovec *msg_iov
        size_t msg_iovlen
    struct mmsghdr:
        msghdr msg_hdr
        unsigned int msg_len
    struct sockaddr:
        uint16_t sa_family
    struct sockaddr_storage:
        uint16_t ss_family
    struct sockaddr_in:
        uint32_t sin_addr
    struct sockaddr_in6:
        uint8_t sin6_addr[16]
    int AF_INET
    int MSG_DONTWAIT
    int recvmmsg(int fd, mmsghdr *messages, unsigned int count, int flags, void *timeout)
    int sendmmsg(int fd, mmsghdr *messages, unsigned int count, int flags)
    ssize_t sendto(int fd, const void *data, size_t size, int flags, const sockaddr *to, socklen_t to_size)

cdef extern from *:
    """
    static inline int bits_shared_32(unsigned int difference) { return __builtin_clz(difference); }
    static inline int bits_shared_64(unsigned long long difference) { return __builtin_clzll(difference); }
    """
    int bits_shared_32(uint32_t difference) nogil
    int bits_shared_64(uint64_t difference) nogil

cdef enum:
    BATCH = 64
    QUERY_BYTES = 65535
    REPLY_BYTES = 8192
    WAYS = 4
    POINTERS_MAX = 16
    KEY_BYTES_MAX = 259
    COOKIE_BYTES = 24

# Header, question, body, and an OPT with subnet, cookie and an error of a line of text.
assert 12 + KEY_BYTES_MAX + BODY_BYTES_MAX + 11 + 24 + 28 + 1024 < REPLY_BYTES

cdef int EVERYWHERE = _EVERYWHERE
cdef int FLAGS_KEPT = 0x0110  # RD and CD
cdef object PASS = Verdict.PASS
cdef object SLIP = Verdict.SLIP
cdef object DROP = Verdict.DROP
cdef double BURST = BURST_SECONDS
cdef list RCODES = [f"rcode_{Rcode(number).name.lower()}" if number in iter(Rcode) else "" for number in range(16)]


cdef class HotLimiter:
    """`limit.Limiter`."""

    cdef double _rate, _burst
    cdef uint64_t _multiplier
    cdef int _shift
    cdef uint64_t *_networks
    cdef double *_tokens
    cdef double *_since
    cdef uint8_t *_limited

    def __cinit__(self, double per_second_max, *, object key=KEY, int row_bits=ROW_BITS):
        cdef Py_ssize_t places = WAYS << row_bits if per_second_max else WAYS
        self._rate = per_second_max
        self._burst = max(1.0, per_second_max * BURST)
        self._multiplier = key & 0xFFFFFFFFFFFFFFFF | 1
        self._shift = 64 - row_bits
        self._networks = <uint64_t *>calloc(places, sizeof(uint64_t))
        self._tokens = <double *>calloc(places, sizeof(double))
        self._since = <double *>calloc(places, sizeof(double))
        self._limited = <uint8_t *>calloc(places, sizeof(uint8_t))
        if not self._networks or not self._tokens or not self._since or not self._limited:
            raise MemoryError
        cdef Py_ssize_t place
        for place in range(places):
            self._tokens[place] = self._burst

    def __dealloc__(self):
        free(self._networks)
        free(self._tokens)
        free(self._since)
        free(self._limited)

    def check(self, bytes source, *, double now):
        """The verdict on a query from `source` (4 or 16 bytes), which is counted."""
        return self._verdict(<const uint8_t *>PyBytes_AS_STRING(source), PyBytes_GET_SIZE(source), now)

    cdef object _verdict(self, const uint8_t *source, Py_ssize_t size, double now):
        if self._rate == 0:
            return PASS
        cdef uint64_t network = 1 if size == 4 else 2
        cdef int index
        network <<= 56
        if size == 4:
            network |= (<uint64_t>source[0] << 16) | (<uint64_t>source[1] << 8) | source[2]
        else:
            for index in range(7):
                network |= <uint64_t>source[index] << (8 * (6 - index))
        cdef Py_ssize_t place = self._place(network, now)
        cdef double tokens = self._tokens_at(place, now)
        self._since[place] = now
        if tokens >= 1.0:
            self._tokens[place] = tokens - 1.0
            return PASS
        self._tokens[place] = tokens
        self._limited[place] += 1
        return SLIP if self._limited[place] & 1 else DROP

    cdef Py_ssize_t _place(self, uint64_t network, double now) noexcept:
        cdef Py_ssize_t row = <Py_ssize_t>((network * self._multiplier) >> self._shift) * WAYS
        cdef Py_ssize_t place, most = row
        for place in range(row, row + WAYS):
            if self._networks[place] == network:
                return place
        for place in range(row + 1, row + WAYS):
            if self._tokens_at(place, now) > self._tokens_at(most, now):
                most = place
        self._networks[most] = network
        return most

    cdef double _tokens_at(self, Py_ssize_t place, double now) noexcept:
        cdef double tokens = self._tokens[place] + (now - self._since[place]) * self._rate
        return tokens if tokens < self._burst else self._burst


cdef class _Answer:
    """`template.Template`, taken apart."""

    cdef bytes content, error
    cdef int flags, answers, authorities, additionals, question_bytes, pointer_count
    cdef bint scoped, steered
    cdef uint16_t pointers[POINTERS_MAX]


cdef _Answer _answer_of(template):
    cdef _Answer answer = _Answer.__new__(_Answer)
    body = template.body
    answer.content, answer.error = body.content, template.error
    answer.flags, answer.question_bytes = template.flags, template.question_bytes
    answer.answers, answer.authorities, answer.additionals = body.answers, body.authorities, body.additionals
    answer.scoped, answer.steered = template.scoped, template.steered
    answer.pointer_count = min(len(body.pointers), POINTERS_MAX)
    for index in range(answer.pointer_count):
        answer.pointers[index] = body.pointers[index]
    return answer


cdef class HotAnswers:
    """`template.Answers`."""

    cdef double until
    cdef bint by_speed
    cdef dict places
    cdef _Answer everywhere

    def has(self, int place):
        return (self.everywhere is not None) if place == EVERYWHERE else place in self.places


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


cdef class _Runs64:
    """`runs.Runs` of at most 64 bits."""

    cdef uint64_t[::1] _starts
    cdef int32_t[::1] _values
    cdef int _width

    def __init__(self, runs):
        self._starts, self._values, self._width = array("Q", runs.starts), array("i", runs.values), runs.width

    cdef int look(self, uint64_t address, int *scope_bits) noexcept:
        cdef Py_ssize_t first = 0, behind = self._starts.shape[0], middle
        cdef int shared = -1
        while behind - first > 1:
            middle = (first + behind) >> 1
            if self._starts[middle] <= address:
                first = middle
            else:
                behind = middle
        if self._starts[first]:
            shared = bits_shared_64(address ^ (self._starts[first] - 1)) - 64 + self._width
        if behind < self._starts.shape[0]:
            shared = max(shared, bits_shared_64(address ^ self._starts[behind]) - 64 + self._width)
        scope_bits[0] = shared + 1
        return self._values[first]


cdef class _Runs128:
    """`runs.Runs` of 128 bits."""

    cdef uint64_t[::1] _high, _low
    cdef int32_t[::1] _values

    def __init__(self, runs):
        self._high = array("Q", [start >> 64 for start in runs.starts])
        self._low = array("Q", [start & 0xFFFFFFFFFFFFFFFF for start in runs.starts])
        self._values = array("i", runs.values)

    cdef int look(self, uint64_t high, uint64_t low, int *scope_bits) noexcept:
        cdef Py_ssize_t first = 0, behind = self._high.shape[0], middle
        cdef int shared = -1
        cdef uint64_t start_high, start_low
        while behind - first > 1:
            middle = (first + behind) >> 1
            if self._high[middle] < high or (self._high[middle] == high and self._low[middle] <= low):
                first = middle
            else:
                behind = middle
        start_high, start_low = self._high[first], self._low[first]
        if start_high or start_low:
            start_high -= start_low == 0
            shared = _shared_128(high ^ start_high, low ^ (start_low - 1))
        if behind < self._high.shape[0]:
            shared = max(shared, _shared_128(high ^ self._high[behind], low ^ self._low[behind]))
        scope_bits[0] = shared + 1
        return self._values[first]


cdef class _Runs32:
    """`runs.Runs` of 32 bits, with the run that each beginning of 16 bits is in: the search is short, and near."""

    cdef uint32_t[::1] _starts, _first
    cdef int32_t[::1] _values

    def __init__(self, runs):
        self._starts, self._values = array("I", runs.starts), array("i", runs.values)
        self._first = array("I", [bisect_right(runs.starts, high << 16) - 1 for high in range(1 << 16)])

    cdef int look(self, uint32_t address, int *scope_bits) noexcept:
        cdef uint32_t high = address >> 16
        cdef Py_ssize_t first = self._first[high], behind = self._starts.shape[0], middle
        cdef int shared = -1
        if high < 0xFFFF:
            behind = self._first[high + 1] + 1
        while behind - first > 1:
            middle = (first + behind) >> 1
            if self._starts[middle] <= address:
                first = middle
            else:
                behind = middle
        if self._starts[first]:
            shared = bits_shared_32(address ^ (self._starts[first] - 1))
        if behind < self._starts.shape[0]:
            shared = max(shared, bits_shared_32(address ^ self._starts[behind]))
        scope_bits[0] = shared + 1
        return self._values[first]


cdef inline int _shared_128(uint64_t high, uint64_t low) noexcept nogil:
    return bits_shared_64(high) if high else 64 + bits_shared_64(low)


cdef struct Embedded:
    int offset_bits
    bint inverted


cdef Embedded EMBEDDED_AT[8]
assert len(EMBEDDINGS) <= 8
for _index, _embedding in enumerate(EMBEDDINGS):
    EMBEDDED_AT[_index].offset_bits, EMBEDDED_AT[_index].inverted = _embedding.offset_bits, _embedding.inverted


cdef uint32_t _inside(int index, uint64_t high, uint64_t low) noexcept:
    """The IPv4 address in an IPv6 address. None crosses the middle."""
    cdef int offset = EMBEDDED_AT[index].offset_bits
    cdef uint32_t address = <uint32_t>(low >> (96 - offset)) if offset >= 64 else <uint32_t>(high >> (32 - offset))
    return address ^ 0xFFFFFFFF if EMBEDDED_AT[index].inverted else address


cdef class _Map:
    """`geo.Geo.find`."""

    cdef _Runs32 _runs4
    cdef _Runs128 _runs6

    def __init__(self, geo):
        self._runs4, self._runs6 = _Runs32(geo.runs4), _Runs128(geo.runs6)

    cdef int find(self, const uint8_t *address, int size, int *scope_bits) noexcept:
        cdef uint64_t high, low
        cdef int place
        if size == 4:
            return self._runs4.look(_get32(address), scope_bits)
        high, low = _get64(address), _get64(address + 8)
        place = self._runs6.look(high, low, scope_bits)
        if place < 0:
            high, low = _inside(-1 - place, high, low), EMBEDDED_AT[-1 - place].offset_bits
            place = self._runs4.look(<uint32_t>high, scope_bits)
            scope_bits[0] += <int>low
        return place


cdef class _FastestMap:
    """`fastest.Fastest.find`, over a `_Map`."""

    cdef _Map _below
    cdef _Runs64 _runs4, _runs6
    cdef _Runs128 _embedded
    cdef int _places_below

    def __init__(self, _Map below not None, fastest):
        self._below = below
        self._places_below = len(fastest.geo.places)
        self._runs4, self._runs6 = _Runs64(fastest.runs4), _Runs64(fastest.runs6)
        self._embedded = _Runs128(EMBEDDED)

    cdef int find(self, const uint8_t *address, int size, int *scope_bits) noexcept:
        cdef uint64_t high, low
        cdef int value, index, bits = 0, overlay_bits = 0, place = self._below.find(address, size, scope_bits)
        if size == 4:
            value = self._runs4.look(_get32(address) >> 8, &overlay_bits)
        else:
            high, low = _get64(address), _get64(address + 8)
            index = self._embedded.look(high, low, &bits)
            if index:
                value = self._runs4.look(_inside(-1 - index, high, low) >> 8, &overlay_bits)
                overlay_bits += EMBEDDED_AT[-1 - index].offset_bits
            else:
                value = self._runs6.look(high >> 16, &overlay_bits)
                overlay_bits = max(overlay_bits, bits)
        scope_bits[0] = max(scope_bits[0], overlay_bits)
        return self._places_below + value - 1 if value else place


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


cdef class HotShelf:
    """`shelf.Shelf` and `udp.PlainUdp`."""

    cdef dict _kept, _negative, _zones
    cdef _Map _map
    cdef _FastestMap _fastest
    cdef HotLimiter _limiter
    cdef bytes _secrets
    cdef _Answer _truncated, _not_ours
    cdef Py_ssize_t _payload_bytes, _added, _answers_max
    cdef uint64_t _queries, _steered, _limited_count, _send_failed
    cdef uint64_t _rcodes[16]
    cdef uint8_t *_in
    cdef uint8_t *_out
    cdef sockaddr_storage _from[BATCH]
    cdef iovec _in_vectors[BATCH]
    cdef iovec _out_vectors[BATCH]
    cdef mmsghdr _received[BATCH]
    cdef mmsghdr _replies[BATCH]

    def __cinit__(self):
        cdef int index
        # Most of it is never touched, and so never there: queries are short.
        self._in = <uint8_t *>calloc(BATCH, QUERY_BYTES)
        self._out = <uint8_t *>calloc(BATCH, REPLY_BYTES)
        if not self._in or not self._out:
            raise MemoryError
        memset(self._received, 0, sizeof(self._received))
        memset(self._replies, 0, sizeof(self._replies))
        for index in range(BATCH):
            self._in_vectors[index].iov_base = self._in + index * <Py_ssize_t>QUERY_BYTES
            self._in_vectors[index].iov_len = QUERY_BYTES
            self._received[index].msg_hdr.msg_iov = &self._in_vectors[index]
            self._received[index].msg_hdr.msg_iovlen = 1
            self._received[index].msg_hdr.msg_name = &self._from[index]
            self._out_vectors[index].iov_base = self._out + index * <Py_ssize_t>REPLY_BYTES
            self._replies[index].msg_hdr.msg_iov = &self._out_vectors[index]
            self._replies[index].msg_hdr.msg_iovlen = 1

    def __init__(self, tables, HotLimiter limiter not None, *, Py_ssize_t answers_max=ANSWERS_MAX):
        self._kept, self._negative = {}, {}
        self._map = _Map(tables.steering.geo)
        if tables.steering.fastest is not None:
            self.lay(tables.steering.fastest)
        self._zones = tables.zones
        self._limiter = limiter
        self._secrets = b"".join(tables.cookie_secrets)
        self._payload_bytes = tables.udp_payload_bytes_max
        self._answers_max = answers_max
        self._truncated = _answer_of(TRUNCATED_TEMPLATE)
        self._not_ours = _answer_of(make_template(b"", NOT_OURS))

    def __dealloc__(self):
        free(self._in)
        free(self._out)

    @property
    def shelf(self):
        """As `udp.UdpPath` has it."""
        return self

    # -- what is kept ---------------------------------------------------------------------------------------------

    def __len__(self):
        """How many questions and negative answers."""
        return len(self._kept) + len(self._negative)

    def answers(self, double until, bint by_speed=False):
        """For `add` and `keep`: none yet, and valid before `until` (BOOTTIME). Places are those of the common map, or
        `by_speed` of the one for `fastest`."""
        cdef HotAnswers answers = HotAnswers.__new__(HotAnswers)
        answers.until, answers.by_speed, answers.places = until, by_speed, {}
        return answers

    def lay(self, fastest):
        """Another map for `fastest`; what was kept by the former is forgotten already."""
        self._fastest = _FastestMap(self._map, fastest)

    def add(self, HotAnswers answers not None, int place, template):
        """An answer for one place or EVERYWHERE."""
        if place == EVERYWHERE:
            answers.everywhere = _answer_of(template)
        else:
            answers.places[place] = _answer_of(template)
        self._added += 1

    def keep(self, bytes question not None, HotAnswers answers not None):
        """The answers to a question (name in lower case)."""
        self._make_room()
        self._kept[question] = answers

    def keep_negative(self, bytes encloser not None, template):
        """The answer for every name below `encloser` that does not exist."""
        self._make_room()
        if len(template.body.pointers) <= POINTERS_MAX:
            self._negative[encloser] = _answer_of(template)

    cdef _make_room(self):
        if len(self) + self._added >= self._answers_max:
            self.clear()

    def forget(self, questions):
        """Drop what is kept for these, if anything is."""
        for question in questions:
            self._kept.pop(question, None)

    def clear(self):
        """Drop everything."""
        self._kept.clear()
        self._negative.clear()
        self._added = 0

    def collect(self, dict counters):
        """Adds what was counted since the last time."""
        cdef int rcode
        counters["queries"] += self._queries
        counters["steered"] += self._steered
        counters["limited"] += self._limited_count
        counters["send_failed"] += self._send_failed
        for rcode in range(16):
            if self._rcodes[rcode]:
                counters[RCODES[rcode]] += self._rcodes[rcode]
        self._queries = self._steered = self._limited_count = self._send_failed = 0
        memset(self._rcodes, 0, sizeof(self._rcodes))

    # -- sockets --------------------------------------------------------------------------------------------------

    def serve(self, udp, *, double now, double wall):
        """What is left to be answered of what is there to be read."""
        cdef int descriptor = udp.fileno(), count, index, replies = 0
        cdef Py_ssize_t size
        cdef mmsghdr *message
        cdef const uint8_t *source
        cdef int source_size
        cdef list waiting = []
        for index in range(BATCH):
            self._received[index].msg_hdr.msg_namelen = sizeof(sockaddr_storage)
        count = recvmmsg(descriptor, self._received, BATCH, MSG_DONTWAIT, NULL)
        for index in range(count):  # below 0: nothing there, or an ICMP error for an earlier answer
            message = &self._received[index]
            if self._from[index].ss_family == AF_INET:
                source, source_size = <const uint8_t *>&(<sockaddr_in *>&self._from[index]).sin_addr, 4
            else:
                source, source_size = <const uint8_t *>&(<sockaddr_in6 *>&self._from[index]).sin6_addr, 16
            verdict = self._take(
                self._in + index * <Py_ssize_t>QUERY_BYTES,
                message.msg_len,
                source,
                source_size,
                now,
                wall,
                self._out + replies * <Py_ssize_t>REPLY_BYTES,
                &size,
            )
            if verdict is not None:
                waiting.append((
                    PyBytes_FromStringAndSize(<char *>self._in_vectors[index].iov_base, message.msg_len),
                    PyBytes_FromStringAndSize(<char *>source, source_size),
                    PyBytes_FromStringAndSize(<char *>&self._from[index], message.msg_hdr.msg_namelen),
                    verdict,
                ))
            elif size:
                self._out_vectors[replies].iov_len = size
                self._replies[replies].msg_hdr.msg_name = &self._from[index]
                self._replies[replies].msg_hdr.msg_namelen = message.msg_hdr.msg_namelen
                replies += 1
        if replies:
            self._send_all(descriptor, replies)
        return waiting

    cdef void _send_all(self, int descriptor, int replies) noexcept:
        cdef int sent = 0, done
        while sent < replies:
            done = sendmmsg(descriptor, &self._replies[sent], replies - sent, MSG_DONTWAIT)
            if done > 0:
                sent += done
            elif errno != EINTR:  # the first of them could not be sent: the others may be
                self._send_failed += 1
                sent += 1

    def send(self, udp, bytes reply not None, bytes address not None):
        """One answer; a client that cannot be reached is counted."""
        if sendto(
            udp.fileno(),
            PyBytes_AS_STRING(reply),
            PyBytes_GET_SIZE(reply),
            MSG_DONTWAIT,
            <const sockaddr *>PyBytes_AS_STRING(address),
            PyBytes_GET_SIZE(address),
        ) < 0:
            self._send_failed += 1

    # -- one packet -----------------------------------------------------------------------------------------------

    def take(self, bytes packet not None, bytes source not None, *, double now, double wall):
        """The answer, or None for silence; or the limiter's verdict, with which the packet is to go the whole way."""
        assert len(source) in (4, 16)
        cdef Py_ssize_t size
        verdict = self._take(
            <const uint8_t *>PyBytes_AS_STRING(packet),
            PyBytes_GET_SIZE(packet),
            <const uint8_t *>PyBytes_AS_STRING(source),
            PyBytes_GET_SIZE(source),
            now,
            wall,
            self._out,
            &size,
        )
        if verdict is not None:
            return verdict
        return PyBytes_FromStringAndSize(<char *>self._out, size) if size else None

    cdef object _take(
        self,
        const uint8_t *packet,
        Py_ssize_t packet_size,
        const uint8_t *source,
        int source_size,
        double now,
        double wall,
        uint8_t *out,
        Py_ssize_t *size,
    ):
        """None: `size` bytes of an answer are in `out`, 0 for silence. Else the verdict for the whole way."""
        cdef Plain plain
        cdef object verdict = self._limiter._verdict(source, source_size, now)
        size[0] = 0
        if not _parse_plain(&plain, packet, packet_size, self._payload_bytes):
            return verdict
        if verdict is not PASS and self._signer(&plain, source, source_size, <int64_t>wall) >= 0:
            verdict = PASS  # nobody forges that address
        if verdict is not PASS:
            self._limited_count += 1
            if verdict is SLIP:
                plain.bytes_max = 512
                size[0] = self._patched(&plain, self._truncated, 0, source, source_size, <int64_t>wall, out)
            return None
        size[0] = self._answered(&plain, source, source_size, now, <int64_t>wall, out)
        return None if size[0] else PASS

    cdef Py_ssize_t _answered(
        self, Plain *plain, const uint8_t *source, int source_size, double now, int64_t wall, uint8_t *out
    ):
        cdef int scope_bits = 0, place, client_size
        cdef const uint8_t *client
        cdef Py_ssize_t size
        cdef _Answer answer
        cdef HotAnswers answers
        cdef void *found
        key = PyBytes_FromStringAndSize(<char *>plain.key, plain.question_size)
        found = <void *>PyDict_GetItem(self._kept, key)
        if not found:
            answer = self._nowhere(plain)
        elif (<HotAnswers>found).until <= now:
            return 0
        else:
            answers = <HotAnswers>found
            answer = answers.everywhere
            if answer is None:
                client, client_size = source, source_size
                if plain.client_size:
                    client, client_size = plain.client, plain.client_size
                if answers.by_speed and self._fastest is not None:
                    place = self._fastest.find(client, client_size, &scope_bits)
                else:
                    place = self._map.find(client, client_size, &scope_bits)
                answer = answers.places.get(place)
        if answer is None:
            return 0
        if not (answer.scoped and plain.client_size):
            scope_bits = 0
        size = self._patched(plain, answer, scope_bits, source, source_size, wall, out)
        if size:
            self._queries += 1
            self._rcodes[answer.flags & 0xF] += 1
            self._steered += answer.steered
        return size

    cdef _Answer _nowhere(self, Plain *plain):
        """What is said of a name that does not exist."""
        cdef Py_ssize_t position = 0
        if int(_get16(plain.key + plain.question_size - 4)) in _REFUSED_TYPES:
            return None
        name = PyBytes_FromStringAndSize(<char *>plain.key, plain.question_size - 4)
        zone = self._zones.get(name)
        while zone is None:
            if not plain.key[position]:
                return self._not_ours
            position += plain.key[position] + 1
            zone = self._zones.get(name[position:])
        nodes = zone.nodes
        position = 0
        while name[position:] not in nodes:
            position += plain.key[position] + 1
        return self._negative.get(name[position:]) if position else None

    cdef Py_ssize_t _patched(
        self,
        Plain *plain,
        _Answer answer,
        int scope_bits,
        const uint8_t *source,
        int source_size,
        int64_t wall,
        uint8_t *out,
    ):
        """The size of the message; 0 when it does not fit, so that something must be left out."""
        cdef Py_ssize_t question = plain.question_size, body = PyBytes_GET_SIZE(answer.content), options = 0, position
        cdef Py_ssize_t shift = question - answer.question_bytes
        cdef int index
        if plain.edns:
            options = 11 + PyBytes_GET_SIZE(answer.error)
            options += 4 + plain.subnet_size if plain.subnet else 0
            options += 4 + COOKIE_BYTES if plain.cookie else 0
        if 12 + question + body + options > min(plain.bytes_max, <Py_ssize_t>REPLY_BYTES):
            return 0
        memcpy(out, plain.packet, 2)
        _put16(out + 2, answer.flags | _get16(plain.packet + 2) & FLAGS_KEPT)
        _put16(out + 4, 1)
        _put16(out + 6, answer.answers)
        _put16(out + 8, answer.authorities)
        _put16(out + 10, answer.additionals + plain.edns)
        memcpy(out + 12, plain.packet + 12, question)
        position = 12 + question
        memcpy(out + position, PyBytes_AS_STRING(answer.content), body)
        if shift:
            for index in range(answer.pointer_count):
                _put16(
                    out + position + answer.pointers[index],
                    <uint32_t>(_get16(out + position + answer.pointers[index]) + shift),
                )
        position += body
        if plain.edns:
            self._put_opt(plain, answer, scope_bits, source, source_size, wall, out + position, options - 11)
        return position + options

    cdef void _put_opt(
        self,
        Plain *plain,
        _Answer answer,
        int scope_bits,
        const uint8_t *source,
        int source_size,
        int64_t wall,
        uint8_t *out,
        Py_ssize_t size,
    ) noexcept:
        out[0] = 0
        _put16(out + 1, 41)
        _put16(out + 3, self._payload_bytes)
        _put32(out + 5, plain.dnssec_ok)
        _put16(out + 9, size)
        out += 11
        if plain.subnet:
            _put16(out, 8)
            _put16(out + 2, plain.subnet_size)
            memcpy(out + 4, plain.packet + plain.subnet, plain.subnet_size)
            out[7] = scope_bits
            out += 4 + plain.subnet_size
        if plain.cookie:
            _put16(out, 10)
            _put16(out + 2, COOKIE_BYTES)
            self._put_cookie(plain, source, source_size, wall, out + 4)
            out += 4 + COOKIE_BYTES
        memcpy(out, PyBytes_AS_STRING(answer.error), PyBytes_GET_SIZE(answer.error))

    # -- cookies, as in cookie.py ---------------------------------------------------------------------------------

    cdef void _put_cookie(self, Plain *plain, const uint8_t *source, int source_size, int64_t wall, uint8_t *out) noexcept:
        cdef const uint8_t *cookie = plain.packet + plain.cookie
        cdef uint8_t signed_part[32]
        cdef uint64_t mark
        if self._signer(plain, source, source_size, wall) == 0 and _age(cookie, wall) <= 1800:
            memcpy(out, cookie, COOKIE_BYTES)
            return
        memcpy(out, cookie, 8)
        memcpy(out + 8, <const char *>b"\1\0\0\0", 4)
        _put32(out + 12, <uint32_t>wall)
        memcpy(signed_part, out, 16)
        memcpy(signed_part + 16, source, source_size)
        mark = _siphash24(<const uint8_t *>PyBytes_AS_STRING(self._secrets), signed_part, 16 + source_size)
        memcpy(out + 16, &mark, 8)

    cdef int _signer(self, Plain *plain, const uint8_t *source, int source_size, int64_t wall) noexcept:
        """The place of the secret that signed a valid cookie, or -1."""
        cdef const uint8_t *cookie = plain.packet + plain.cookie
        cdef uint8_t signed_part[32]
        cdef uint64_t mark, given
        cdef int place
        if plain.cookie_size != COOKIE_BYTES or cookie[8] != 1 or not -300 <= _age(cookie, wall) <= 3600:
            return -1
        memcpy(signed_part, cookie, 16)
        memcpy(signed_part + 16, source, source_size)
        memcpy(&given, cookie + 16, 8)
        for place in range(PyBytes_GET_SIZE(self._secrets) // 16):
            mark = _siphash24(<const uint8_t *>PyBytes_AS_STRING(self._secrets) + 16 * place, signed_part, 16 + source_size)
            if mark == given:
                return place
        return -1


cdef inline int32_t _age(const uint8_t *cookie, int64_t wall) noexcept nogil:
    """In seconds, by serial number arithmetic (RFC 1982)."""
    return <int32_t>(<uint32_t>wall - _get32(cookie + 12))
