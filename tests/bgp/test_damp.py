import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anycastle.bgp.damp import HOLD_DOWN_MAX_SECONDS, NO_MEMORY, damp
from anycastle.bgp.route import RouteState, Wanted, badness

PREFIX = ipaddress.ip_network("198.51.100.0/24")


def routes(state: str) -> tuple[Wanted, ...]:
    return (Wanted(prefix=PREFIX, state=RouteState(state), reason="why"),)


class Line:
    """Feeds one prefix through `damp` and shows what comes out."""

    def __init__(self, hold_down_seconds: float = 5.0) -> None:
        self.memory = NO_MEMORY
        self.hold_down = {PREFIX: hold_down_seconds}

    def at(self, now: float, state: str) -> str:
        (shown,), self.memory = damp(routes(state), self.memory, self.hold_down, now=now)
        return shown.state.value


def test_the_first_announcement_is_not_held() -> None:
    assert Line().at(0.0, "normal") == "normal"


def test_withdrawn_at_once_and_back_after_the_hold_down() -> None:
    line = Line()
    assert [line.at(*step) for step in ((0.0, "normal"), (1.0, "withdrawn"), (1.1, "normal"), (5.9, "degraded"))] == [
        "normal",
        "withdrawn",
        "withdrawn",
        "withdrawn",
    ]
    assert line.at(6.0, "normal") == "normal"


def test_a_degraded_route_gets_better_after_the_hold_down_but_worse_at_once() -> None:
    line = Line()
    steps = ((0.0, "normal"), (1.0, "degraded"), (2.0, "normal"), (3.0, "withdrawn"), (7.9, "degraded"))
    assert [line.at(*step) for step in steps] == ["normal", "degraded", "degraded", "withdrawn", "withdrawn"]
    assert [line.at(8.0, "degraded"), line.at(8.1, "drained"), line.at(8.2, "normal")] == [
        "degraded",
        "drained",
        "normal",
    ]


def updates(period_seconds: float, bad: str, hold_down_seconds: float = 5.0) -> int:
    """What a router hears of a signal that flips for five minutes; decided twice a second, as the announcer does."""
    line, shown, count = Line(hold_down_seconds), "withdrawn", 0
    for tick in range(600):
        now = tick * 0.5
        before, shown = shown, line.at(now, bad if now % period_seconds >= period_seconds / 2 else "normal")
        count += shown != before
    return count


@pytest.mark.parametrize("period_seconds", [1.0, 2.0, 3.0, 7.0, 12.0, 30.0])
def test_a_flapping_signal_costs_a_bounded_number_of_updates(period_seconds: float) -> None:
    """The numbers of docs/bgp.md."""
    assert updates(period_seconds, "withdrawn") <= 14
    assert updates(period_seconds, "degraded") <= 26
    assert updates(1.0, "withdrawn", hold_down_seconds=0.0) == 600  # what damping is for


def time_away(line: Line, start: float) -> float:
    """One withdrawal at `start`; how long the route then stays away."""
    assert line.at(start - 0.001, "normal") == "normal"
    assert line.at(start, "withdrawn") == "withdrawn"
    now = start
    while line.at(now, "normal") == "withdrawn":
        now += 0.25
    return now - start


def test_beyond_the_flap_budget_each_withdrawal_doubles_the_time_away() -> None:
    line, now, away = Line(), 10.0, []
    for _ in range(9):
        away.append(time_away(line, now))
        now += away[-1] + 1.0
    assert away[:5] == [5.0, 5.0, 10.0, 20.0, 40.0]
    assert away == sorted(away)
    assert time_away(line, now + 24 * 3600.0) == 5.0


def test_doubling_ends_at_the_limit_but_a_longer_hold_down_is_kept() -> None:
    for hold_down, expected in ((100.0, [100.0, 100.0, 200.0, 300.0, 300.0]), (400.0, [400.0] * 3)):
        line, now, away = Line(hold_down), 10.0, []
        for _ in expected:
            away.append(time_away(line, now))
            now += away[-1] + 0.01
        assert away == pytest.approx(expected)


def test_a_drain_is_no_flap() -> None:
    line = Line()
    for round_ in range(6):
        start = 100.0 * round_
        states = [line.at(start + n, s) for n, s in enumerate(("normal", "drained", "withdrawn", "withdrawn"))]
        assert states == ["normal", "drained", "withdrawn", "withdrawn"]
    assert time_away(line, 1000.0) == 5.0


@given(st.lists(st.tuples(st.floats(0.0, 400.0), st.sampled_from(RouteState)), max_size=60))
def test_it_only_ever_takes_away_and_never_holds_longer_than_the_limit(steps: list[tuple[float, RouteState]]) -> None:
    line, now = Line(), 0.0
    worse_at = -HOLD_DOWN_MAX_SECONDS
    shown = "withdrawn"
    for pause, state in steps:
        now += pause
        before, shown = shown, line.at(now, state.value)
        assert badness(RouteState(shown)) >= badness(state)
        if badness(RouteState(shown)) > badness(RouteState(before)) and shown != "drained":
            worse_at = now
        if now - worse_at >= HOLD_DOWN_MAX_SECONDS:
            assert shown == state.value
        if badness(RouteState(shown)) < badness(RouteState(before)) and before != "drained":
            assert now - worse_at >= line.hold_down[PREFIX]
