"""Compression between members: zstandard, of one frame or piece at a time, where it pays.

Laws: what was packed says how long it is before anything is unpacked, and more than the receiver allows is refused
unread; what did not become a tenth shorter goes as it is, and then the next ones are not even tried for a while, so
that photos and films cost next to nothing.
"""

import zstandard

from anycastle.errors import AnycastleError

ZSTANDARD = "zstd"
"""As members name it to each other."""
LEVEL = 1
"""Some 400 MB/s, and for text hardly worse than what is slower."""
LEAST_BYTES = 512
WORTH = 0.9
SKIPPED = 15
"""After one that did not pay."""


class PackingError(AnycastleError):
    """What came cannot be unpacked, or would be too long."""


class Packing:
    """For one stream of similar things. Not for several threads at once."""

    def __init__(self) -> None:
        self.saved_bytes = 0
        self._compressor = zstandard.ZstdCompressor(level=LEVEL, write_content_size=True)
        self._skip = 0

    def pack(self, data: bytes) -> bytes | None:
        """Shorter; None when it is to be sent as it is."""
        if len(data) < LEAST_BYTES:
            return None
        if self._skip:
            self._skip -= 1
            return None
        packed = self._compressor.compress(data)
        if len(packed) > len(data) * WORTH:
            self._skip = SKIPPED
            return None
        self.saved_bytes += len(data) - len(packed)
        return packed


def unpack(packed: bytes, *, bytes_max: int) -> bytes:
    """What was packed, at most `bytes_max` long. Raises PackingError; takes no more memory than that."""
    try:
        size = zstandard.frame_content_size(packed)
        if not 0 <= size <= bytes_max:
            raise PackingError(f"packed from {size} bytes: expected 0 to {bytes_max}")
        data = zstandard.ZstdDecompressor().decompress(packed, allow_extra_data=False) if size else b""
    except zstandard.ZstdError as error:
        raise PackingError(f"not zstandard: {error}") from error
    if len(data) != size:
        raise PackingError(f"unpacked {len(data)} bytes, expected {size}")
    return data
