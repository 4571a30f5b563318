"""The timeline over restarts, full disks and storms."""

from pathlib import Path

import pytest

from anycastle.health import timeline
from anycastle.health.event import TEXT_CHARACTERS_MAX, Event, Kind, Wanted
from anycastle.health.timeline import Timeline

ALL = Wanted()


def event(number: int, *, site: str = "nyc", place: str = "", text: str = "") -> Event:
    return Event(wall=float(number), kind=Kind.HEALTH, site=site, place=place, text=text or str(number))


def texts(kept: Timeline, wanted: Wanted = ALL, limit: int = 100) -> list[str]:
    return [each.text for each in kept.newest(limit, wanted)]


def test_what_was_told_is_found_at_once_and_after_a_restart(tmp_path: Path) -> None:
    kept = Timeline(tmp_path / "timeline.log")
    for number in range(5):
        kept.record(event(number, site="nyc" if number % 2 else "ams", place=f"photos:{number}/"))
    assert (kept.recorded, kept.waiting) == (5, 5)
    assert texts(kept) == ["4", "3", "2", "1", "0"]
    assert kept.waiting == 0
    again = Timeline(tmp_path / "timeline.log")
    again.record(event(5))
    assert texts(again, limit=2) == ["5", "4"]
    assert texts(again, Wanted(site="ams")) == ["4", "2", "0"]
    assert texts(again, Wanted(place="photos:3/x")) == ["3"]


def test_long_words_are_cut(tmp_path: Path) -> None:
    kept = Timeline(tmp_path / "timeline.log")
    kept.record(event(1, place="photos:", text="x" * 5000))
    (found,) = kept.newest(10, ALL)
    assert (len(found.text), found.place) == (TEXT_CHARACTERS_MAX + 2, "photos:")


def test_a_disk_that_takes_nothing_costs_only_what_has_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(timeline, "WAITING_MAX", 3)
    kept = Timeline(tmp_path / "missing" / "timeline.log")
    for number in range(5):
        kept.record(event(number))
        kept.write()
    assert kept.fault.endswith("timeline.log: No such file or directory")
    assert caplog.text.count("event=timeline-not-kept") == 1
    assert (kept.lost, texts(kept)) == (2, ["2", "1", "0"])
    assert texts(kept, limit=1) == ["2"]
    (tmp_path / "missing").mkdir()
    assert texts(kept) == ["2", "1", "0"]
    assert (kept.fault, kept.waiting) == ("", 0)
