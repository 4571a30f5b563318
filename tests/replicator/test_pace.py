"""The token bucket holds its rate over any stretch of time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anycastle.replicator.pace import Pace
from anycastle.replicator.settings import HourRate


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


@pytest.mark.parametrize(
    ("hour", "rate"),
    [(0, None), (5, None), (6, 1000), (7, 1000), (8, 50), (19, 50), (20, 1000), (21, 1000), (22, None)],
)
def test_the_hour_of_the_day_decides(hour: int, rate: int | None) -> None:
    """And it is asked for each piece, so a transfer that lasts goes on at the rate of its hour."""
    clock = [12]
    pace = Pace(1000, (HourRate(8, 20, 50), HourRate(22, 6, None)), lambda: clock[0])
    assert pace.delay(50, now=0.0) == 0.0
    assert pace.delay(50, now=0.0) == pytest.approx(1.0)
    clock[0] = hour
    assert pace.rate == rate
    assert pace.piece_bytes(10**6) == (10**6 if rate is None else rate // 10)


def test_what_goes_first_waits_for_its_kind_only_and_is_counted_for_all() -> None:
    pace = Pace(1000)
    assert [pace.delay(500, now=0.0) for _ in range(3)] == pytest.approx([0.0, 0.5, 1.0])
    assert [pace.delay_first(100, now=0.0) for _ in range(2)] == pytest.approx([0.0, 0.1])
    assert pace.delay(1, now=0.0) == pytest.approx(1.7)


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 100), st.floats(0, 0.3)), min_size=5, max_size=60))
def test_two_kinds_together_keep_the_rate_over_time(takes: list[tuple[bool, int, float]]) -> None:
    """What is taken in all can never end earlier than the rate allows; bodies wait for what goes before them."""
    pace, now, total = Pace(1000), 0.0, 0
    for first, count, pause in takes:
        now += pause
        (pace.delay_first if first else pace.delay)(count, now=now)
        total += count
    assert pace.delay(1, now=now) >= total / 1000 - now - 1e-9
