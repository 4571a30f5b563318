"""What is packed comes out again, bounded; what does not pay is left alone."""

import contextlib
import os

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from anycastle.replicator.packing import LEAST_BYTES, SKIPPED, Packing, PackingError, unpack

TEXT = b"".join(b"<p>paragraph %d of a page</p>\n" % number for number in range(200))


@given(st.binary(max_size=20_000), st.integers(1, 50))
def test_what_is_packed_is_shorter_and_comes_out_again(data: bytes, times: int) -> None:
    packed = Packing().pack(data * times)
    if packed is not None:
        assert len(packed) <= 0.9 * len(data * times)
        assert unpack(packed, bytes_max=len(data * times)) == data * times


def test_text_pays_and_photos_are_hardly_tried() -> None:
    packing = Packing()
    assert packing.pack(TEXT) is not None
    assert packing.saved_bytes > len(TEXT) // 2
    assert packing.pack(TEXT[: LEAST_BYTES - 1]) is None
    assert packing.pack(os.urandom(10_000)) is None
    assert [packing.pack(TEXT) for _ in range(SKIPPED)] == [None] * SKIPPED
    assert packing.pack(TEXT) is not None


def test_a_bomb_is_refused_unread() -> None:
    bomb = zstandard.ZstdCompressor(level=19).compress(bytes(50_000_000))
    assert len(bomb) < 5000
    with pytest.raises(PackingError, match="packed from 50000000 bytes: expected 0 to 1000"):
        unpack(bomb, bytes_max=1000)
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(TEXT)
    with pytest.raises(PackingError, match="packed from -1 bytes"):
        unpack(unsized, bytes_max=10**6)


@given(st.binary(max_size=200), st.integers(0, 300), st.integers(0, 255))
def test_no_bytes_do_harm(rubbish: bytes, at: int, byte: int) -> None:
    packed = bytearray(zstandard.ZstdCompressor().compress(TEXT))
    packed[at % len(packed)] = byte
    for data in (rubbish, bytes(packed), bytes(packed[:at]), bytes(packed) + rubbish):
        with contextlib.suppress(PackingError):
            assert len(unpack(data, bytes_max=2 * len(TEXT))) <= 2 * len(TEXT)
