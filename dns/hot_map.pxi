"""The maps (`runs.py`, `geo.Geo.find`, `fastest.Fastest.find`), compiled. Part of hot.pyx."""

cdef extern from *:
    """
    static inline int bits_shared_32(unsigned int difference) { return __builtin_clz(difference); }
    static inline int bits_shared_64(unsigned long long difference) { return __builtin_clzll(difference); }
    """
    int bits_shared_32(uint32_t difference) nogil
    int bits_shared_64(uint64_t difference) nogil


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
