"""The token bucket holds its rate over any stretch of time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anycastle.replicator.pace import Pace


def test_no_limit_is_no_wait() -> None:
    pace = Pace(None)
    assert pace.piece_bytes(1000) == 1000
    assert [pace.delay(10**9, now=0.0) for _ in range(3)] == [0.0, 0.0, 0.0]


def test_pieces_are_small_when_the_rate_is() -> None:
    assert [Pace(rate).piece_bytes(256_000) for rate in (1, 10_000, 10**9)] == [1, 1000, 256_000]


def test_unused_time_is_not_saved_up() -> None:
    pace = Pace(1000)
    assert [pace.delay(100, now=t) for t in (0.0, 0.0, 50.0, 50.0)] == pytest.approx([0.0, 0.1, 0.0, 0.1])


@given(st.integers(10, 10**6), st.lists(st.floats(0, 0.5), min_size=2, max_size=50))
def test_never_faster_than_the_rate(rate: int, pauses: list[float]) -> None:
    pace, now, sent = Pace(rate), 0.0, []
    piece = pace.piece_bytes(10**6)
    for pause in pauses:
        now += pause
        sent.append(now + pace.delay(piece, now=now))
    for start in range(len(sent)):
        for end in range(start + 1, len(sent)):
            assert (end - start) * piece <= rate * (sent[end] - sent[start]) * (1 + 1e-9) + 1e-6
