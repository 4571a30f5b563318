# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The short way from a packet to its answer, compiled: `limit.Limiter`, `shelf.Shelf` and `udp.PlainUdp` once more, line
by line, with datagrams received and sent in batches.

Law: it does what those do; tests/dns/test_shelf.py holds each against the other on random input. Whatever it does not
know at once goes the whole way, in Python. All that is kept is Python objects; what is written by hand here is only buffers
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

include "hot_socket.pxi"
include "hot_limit.pxi"
include "hot_query.pxi"
include "hot_map.pxi"
include "hot_cookie.pxi"

cdef enum:
    BATCH = 64
    QUERY_BYTES = 65535
    REPLY_BYTES = 8192
    POINTERS_MAX = 16

# Header, question, body, and an OPT with subnet, cookie and an error of a line of text.
assert 12 + KEY_BYTES_MAX + BODY_BYTES_MAX + 11 + 24 + 28 + 1024 < REPLY_BYTES

cdef int EVERYWHERE = _EVERYWHERE
cdef int FLAGS_KEPT = 0x0110  # RD and CD
cdef list RCODES = [f"rcode_{Rcode(number).name.lower()}" if number in iter(Rcode) else "" for number in range(16)]


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


cdef class HotShelf:
    """`shelf.Shelf` and `udp.PlainUdp`."""

    cdef dict _kept, _negative, _names
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
        self._names = {origin: zone.nodes.names() for origin, zone in tables.zones.items()}
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
        if verdict is not PASS and _signer(self._secrets, &plain, source, source_size, <int64_t>wall) >= 0:
            verdict = PASS  # nobody forges that address
        if verdict is not PASS:
            self._limited_count += 1
            if verdict is SLIP:
                plain.bytes_max = 512
                size[0] = self._patched(&plain, self._truncated, 0, source, source_size, <int64_t>wall, out)
            return None
        size[0] = self._answered(&plain, source, source_size, now, <int64_t>wall, out)
        return None if size[0] else PASS

    def answer(self, bytes packet not None, bytes source not None, *, double now, double wall):
        """The kept answer, without asking the limiter; None where there is none."""
        assert len(source) in (4, 16)
        cdef Plain plain
        cdef Py_ssize_t size = 0
        cdef const uint8_t *asked = <const uint8_t *>PyBytes_AS_STRING(packet)
        cdef const uint8_t *asker = <const uint8_t *>PyBytes_AS_STRING(source)
        if _parse_plain(&plain, asked, PyBytes_GET_SIZE(packet), self._payload_bytes):
            size = self._answered(&plain, asker, PyBytes_GET_SIZE(source), now, <int64_t>wall, self._out)
        return PyBytes_FromStringAndSize(<char *>self._out, size) if size else None

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
        names = self._names.get(name)
        while names is None:
            if not plain.key[position]:
                return self._not_ours
            position += plain.key[position] + 1
            names = self._names.get(name[position:])
        position = 0
        while name[position:] not in names:
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
            _put_cookie(self._secrets, plain, source, source_size, wall, out + 4)
            out += 4 + COOKIE_BYTES
        memcpy(out, PyBytes_AS_STRING(answer.error), PyBytes_GET_SIZE(answer.error))
