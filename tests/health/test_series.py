"""The last hour in numbers: rates, means, gaps, and bounds."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anycastle.health import series
from anycastle.health.series import POINT_SECONDS, POINTS_MAX, SERIES_MAX, History, Key, Sample

LAG: Key = ("lag_seconds", "nyc")
QUERIES: Key = ("dns_queries_per_second", "")
FENCE: Key = ("fence_seconds", "")


def shown(history: History) -> dict[Key, tuple[float | None, ...]]:
    return {(each.name, each.label): each.values for each in history.report().series}


def test_levels_stand_counts_become_rates_and_sums_become_means() -> None:
    history = History()
    assert history.report().number == 0
    history.take(Sample(levels={LAG: 1.5}, counts={QUERIES: 100}, means={FENCE: (9.0, 3)}), now=1000.0, wall=50.0)
    assert shown(history) == {LAG: (1.5,)}, "nothing has grown yet"
    history.take(Sample(levels={LAG: 0.0}, counts={QUERIES: 600}, means={FENCE: (10.0, 5)}), now=1005.0, wall=55.0)
    history.take(Sample(levels={LAG: 0.0}, counts={QUERIES: 600}, means={FENCE: (10.0, 5)}), now=1010.0, wall=60.0)
    assert shown(history) == {LAG: (1.5, 0.0, 0.0), QUERIES: (100.0, 0.0), FENCE: (0.5, None)}
    report = history.report()
    assert (report.number, report.wall, report.point_seconds, report.points_max) == (3, 60.0, 5.0, 720)
    assert [each.values for each in history.report(1).series] == [(0.0,), (None,), (0.0,)]


def test_what_was_not_taken_is_a_gap_and_what_came_too_soon_is_left_out() -> None:
    history = History()
    for now in (1000.0, 1001.0, 1004.9, 1005.1, 1021.0):
        history.take(Sample(levels={LAG: now}, counts={QUERIES: now}), now=now, wall=now)
    assert shown(history) == {LAG: (1000.0, 1005.0, None, None, 1021.0), QUERIES: (1.0, None, None, 1.0)}
    assert history.report().number == 5


def test_a_counter_that_begins_anew_is_a_gap_and_not_a_negative_rate() -> None:
    history = History()
    for number, count in enumerate((10, 20, 3, 8)):
        history.take(Sample(counts={QUERIES: count}), now=1000.0 + number * POINT_SECONDS, wall=0.0)
    assert shown(history) == {QUERIES: (2.0, None, 1.0)}


def test_a_site_that_comes_later_or_goes_keeps_its_place_in_time() -> None:
    history = History()
    for number in range(POINTS_MAX + 10):
        levels = {LAG: float(number)} | ({("lag_seconds", "sgp"): 7.0} if number == 5 else {})
        history.take(Sample(levels=levels), now=number * POINT_SECONDS, wall=0.0)
        if number == 6:
            assert shown(history)["lag_seconds", "sgp"] == (7.0, None)
    assert set(shown(history)) == {LAG}, "an hour later nothing tells of it"
    assert len(shown(history)[LAG]) == POINTS_MAX


def test_there_is_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(series, "POINTS_MAX", 5)
    history = History()
    for number in range(30):
        levels = {("lag_seconds", f"s{number}-{each}"): 1.0 for each in range(SERIES_MAX)}
        history.take(Sample(levels=levels), now=number * POINT_SECONDS, wall=0.0)
        assert len(history.report().series) <= SERIES_MAX
    history.take(Sample(levels={LAG: 1.0}), now=1e9, wall=0.0)
    assert set(shown(history)) == {LAG}


@given(
    st.lists(st.tuples(st.floats(0.1, 60.0), st.dictionaries(st.sampled_from("abc"), st.integers(0, 9)), st.booleans()))
)
def test_whatever_comes_the_report_is_whole_and_bounded(steps: list[tuple[float, dict[str, int], bool]]) -> None:
    history, now = History(), 1000.0
    for seconds, found, level in steps:
        now += seconds
        keyed = {("x", name): float(value) for name, value in found.items()}
        history.take(Sample(levels=keyed) if level else Sample(counts=keyed), now=now, wall=now)
        report = history.report()
        assert all(len(each.values) <= min(report.number, POINTS_MAX) for each in report.series)
        assert all(value is None or value >= 0.0 for each in report.series for value in each.values)
        assert msgspec.json.decode(msgspec.json.encode(report), type=type(report)) == report
