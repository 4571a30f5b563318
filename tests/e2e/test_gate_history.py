"""The checker of users' histories: what it finds wrong, and that it agrees with trying all orders."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from tests.e2e.gate_history import Seen, atomic, longest_gap, stale, window


def write(token: str, began: float, ended: float, status: int = 200) -> Seen:
    return Seen("p", "upload", "nginx", "ams", began, ended, status, token)


def read(token: str | None, began: float, ended: float, status: int | None = None) -> Seen:
    return Seen("p", "file", "edge", "nyc", began, ended, status or (200 if token else 404), token)


def test_what_is_missing_or_old_after_success() -> None:
    first, second = write("a", 0, 1), write("b", 2, 3)
    assert not stale([first, second, read("a", 2.9, 4), read("b", 2.1, 2.2), read(None, 0.9, 1.5)])
    assert [wrong.why for wrong in stale([first, read(None, 1.1, 2)])] == ["missing, after a succeeded"]
    assert [wrong.why for wrong in stale([first, second, read("a", 3.1, 4)])] == ["a is old: b succeeded"]
    assert [wrong.why for wrong in stale([first, read("half a", 3.1, 4)])] == ["half a was never written before that"]
    assert [wrong.why for wrong in stale([second, read("b", 1, 1.5)])] == ["b was never written before that"]
    assert not stale([first, second, read(None, 4, 5, status=503)]), "no answer is no wrong answer"


def test_a_write_without_success_may_come_late_but_only_once() -> None:
    unsure, second = write("a", 0, 1, status=503), write("b", 2, 3)
    assert not stale([unsure, second, read("a", 4, 5)])
    assert not atomic([unsure, second, read("b", 3, 4), read("a", 5, 6)])
    assert atomic([unsure, second, read("b", 3, 4), read("a", 5, 6), read("b", 7, 8)])


def test_nobody_goes_back() -> None:
    first, second = write("a", 0, 1), write("b", 2, 9)
    assert not atomic([first, second, read("a", 3, 5), read("b", 4, 6)])
    (wrong,) = atomic([first, second, read("b", 3, 4), read("a", 5, 6)])
    assert wrong.by == read("a", 5, 6)
    assert not stale([first, second, read("b", 3, 4), read("a", 5, 6)]), "b has not succeeded yet"


def test_overlapping_writes_have_one_order_for_all() -> None:
    writes = [write("a", 0, 4), write("b", 1, 5)]
    assert not atomic([*writes, read("a", 6, 7), read("a", 8, 9)])
    assert atomic([*writes, read("a", 6, 7), read("b", 8, 9)])
    assert not stale([*writes, read("a", 6, 7), read("b", 8, 9)]), "neither is before the other"


def test_the_story_points_at_what_is_wrong() -> None:
    path = [write("a", 10, 11), read(None, 12, 13), read("a", 14, 15)]
    (wrong,) = stale(path)
    lines = window(path, wrong, 10)
    assert [line.startswith("→") for line in lines] == [False, True, False]
    assert "2.000 to    3.000  edge at nyc reads nothing (404)" in lines[1]


def test_the_longest_time_without_an_answer() -> None:
    assert longest_gap([read("a", 0, 2), read("a", 2, 3), read("a", 3, 4, status=503)], 0, 10) == (7, 3)
    assert longest_gap([], 1, 3) == (2, 1)


@st.composite
def histories(draw: st.DrawFn) -> list[Seen]:
    """Up to five requests with times that are all different, of two writes and nothing."""
    count = draw(st.integers(2, 6))
    times = draw(st.permutations(range(2 * count)))
    spans = [sorted(times[2 * number : 2 * number + 2]) for number in range(count)]
    writes = [
        write(token, *spans.pop(), draw(st.sampled_from((200, 503)))) for token in "ab"[: draw(st.integers(1, 2))]
    ]
    tokens = st.sampled_from([None, *(each.token for each in writes)])
    return [*writes, *(read(draw(tokens), *span) for span in spans)]


def possible(history: list[Seen]) -> bool:
    """Try all orders, with and without each write that was not answered with success."""
    unsure = [each for each in history if each.wrote and not each.served]
    for dropped in itertools.chain.from_iterable(itertools.combinations(unsure, n) for n in range(len(unsure) + 1)):
        done = [each for each in history if each not in dropped]
        if any(_legal(order) for order in itertools.permutations(done)):
            return True
    return False


def _legal(order: tuple[Seen, ...]) -> bool:
    now: str | None = None
    for number, each in enumerate(order):
        if any(later.served and later.ended < each.began for later in order[number + 1 :]):
            return False
        if each.wrote:
            now = each.token
        elif each.token != now:
            return False
    return True


@given(histories())
def test_zones_agree_with_trying_all_orders(history: list[Seen]) -> None:
    wrong = bool(atomic(history)) or any("never written" in each.why for each in stale(history))
    assert wrong == (not possible(history))
