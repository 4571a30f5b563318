"""The limiter (`limit.py`), compiled. Part of hot.pyx."""

cdef object PASS = Verdict.PASS
cdef object SLIP = Verdict.SLIP
cdef object DROP = Verdict.DROP
cdef double BURST = BURST_SECONDS

cdef enum:
    WAYS = 4


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
