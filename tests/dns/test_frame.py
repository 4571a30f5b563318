"""Frames between the control process and its workers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anycastle.dns.frame import FrameBuffer, Kind, encode_frame

frames = st.lists(st.tuples(st.sampled_from(Kind), st.binary(max_size=50)), max_size=6)


@given(frames, st.lists(st.integers(1, 20)))
def test_frames_survive_any_pieces(sent: list[tuple[Kind, bytes]], sizes: list[int]) -> None:
    stream = b"".join(encode_frame(kind, payload) for kind, payload in sent)
    buffer = FrameBuffer()
    received = []
    for size in [*sizes, len(stream)]:
        received += list(buffer.feed(stream[:size]))
        stream = stream[size:]
    assert received == sent


def test_a_broken_stream_is_not_guessed_at() -> None:
    with pytest.raises(AssertionError):
        list(FrameBuffer().feed(b"\xff\xff\xff\xff\x01"))
