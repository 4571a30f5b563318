"""How far a replica is behind, from positions and our own clock."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anycastle.health.backlog import MARKS_MAX, Backlog


@pytest.mark.parametrize(
    ("looks", "expected"),
    [
        # (known, applied) at each second; lag at the end
        ([(100, 100)], 0.0),
        ([(100, 100), (100, 100), (200, 200)], 0.0),
        ([(100, 100), (200, 100)], 0.0),  # known since this very moment
        ([(100, 100), (200, 100), (200, 100), (200, 100)], 2.0),
        ([(100, 100), (200, 100), (300, 100), (300, 200)], 1.0),  # 300 is known for a second
        ([(100, 100), (200, 100), (300, 200), (400, 300), (500, 400)], 0.0),  # applied by the next look, always
        ([(100, 50), (100, 50)], 8.0),  # 7 as the server says, and a second
        ([(100, 50), (100, 100)], 0.0),
        ([(900, 100), (900, 100), (50, 10)], 0.0),  # made anew: another log
        ([(900, 100), (900, 100), (50, 10), (50, 10)], 1.0),
    ],
)
def test_lag(looks: list[tuple[int, int]], expected: float) -> None:
    backlog, lag = Backlog(), -1.0
    for second, (known, applied) in enumerate(looks):
        lag = backlog.lag_seconds(known, applied, told_seconds=7.0, now=100.0 + second)
    assert lag == expected


def test_an_idle_primary_is_no_lag_however_long() -> None:
    backlog = Backlog()
    for hour in range(100):
        assert backlog.lag_seconds(5, 5, told_seconds=3600.0 * hour, now=3600.0 * hour) == 0.0


def test_what_is_remembered_is_bounded_and_the_oldest_counts() -> None:
    backlog = Backlog()
    backlog.lag_seconds(0, 0, told_seconds=0.0, now=0.0)
    for second in range(1, 2 * MARKS_MAX):
        lag = backlog.lag_seconds(second, 0, told_seconds=0.0, now=float(second))
    assert lag == 2 * MARKS_MAX - 2
    assert len(backlog._marks) == MARKS_MAX


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=60))
def test_it_is_what_a_plain_memory_of_all_looks_says(steps: list[tuple[int, int]]) -> None:
    """Known and applied only grow, applied never beyond known."""
    backlog, seen, known, applied = Backlog(), [], 0, 0
    for second, (more, done) in enumerate(steps):
        known += more
        applied = min(known, applied + done)
        seen.append((known, float(second)))
        expected = next((second - since for position, since in seen if position > applied), 0.0)
        assert backlog.lag_seconds(known, applied, told_seconds=0.0, now=float(second)) == expected
