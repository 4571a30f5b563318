"""Serial numbers of zones: a circle of 2^32, on which "newer" is a direction (RFC 1982)."""

_HALF = 1 << 31


def is_newer(serial: int, other: int) -> bool:
    """Whether `serial` comes after `other`; false too half a circle away, which RFC 1982 section 3.2 leaves open."""
    return 0 < (serial - other) % (1 << 32) < _HALF
