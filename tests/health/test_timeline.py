"""The timeline over restarts, full disks and storms."""

from pathlib import Path

import pytest

from anycastle.health import lines, timeline
from anycastle.health.event import TEXT_CHARACTERS_MAX, Event, Kind, Wanted
from anycastle.health.timeline import Timeline

ALL = Wanted()


def event(number: int, *, site: str = "nyc", place: str = "", text: str = "", kind: Kind = Kind.HEALTH) -> Event:
    return Event(wall=float(number), kind=kind, site=site, place=place, text=text or str(number))


def texts(kept: Timeline, wanted: Wanted = ALL, limit: int = 100) -> list[str]:
    return [each.text for each in kept.newest(limit, wanted)]


def test_what_was_told_is_found_at_once_and_after_a_restart(tmp_path: Path) -> None:
    kept = Timeline(tmp_path)
    for number in range(5):
        kept.record(event(number, site="nyc" if number % 2 else "ams", place=f"photos:{number}/"))
    assert (kept.recorded, kept.waiting) == (5, 5)
    assert texts(kept) == ["4", "3", "2", "1", "0"]
    assert kept.waiting == 0
    again = Timeline(tmp_path)
    again.record(event(5))
    assert texts(again, limit=2) == ["5", "4"]
    assert texts(again, Wanted(site="ams")) == ["4", "2", "0"]
    assert texts(again, Wanted(place="photos:3/x")) == ["3"]


def test_long_words_are_cut(tmp_path: Path) -> None:
    kept = Timeline(tmp_path)
    kept.record(event(1, place="photos:", text="x" * 5000))
    (found,) = kept.newest(10, ALL)
    assert (len(found.text), found.place) == (TEXT_CHARACTERS_MAX + 2, "photos:")


def test_a_disk_that_takes_nothing_costs_only_what_has_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(timeline, "WAITING_MAX", 3)
    kept = Timeline(tmp_path / "missing")
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


def test_content_never_pushes_out_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "FILE_BYTES_MAX", 5000)
    kept = Timeline(tmp_path)
    kept.record(event(0, text="drained", kind=Kind.DRAIN))
    for number in range(1, 301):
        kept.record(event(number, place="photos:alice/", kind=Kind.CONTENT))
        kept.write()
    kept.record(event(301, text="undrained", kind=Kind.DRAIN))
    found = texts(kept, limit=1000)
    assert (found[0], found[1], found[-1]) == ("undrained", "300", "drained")
    assert 20 < len(found) < 200
    assert texts(kept, limit=2) == ["undrained", "300"]


def test_whether_a_run_ended_in_order(tmp_path: Path) -> None:
    kept = Timeline(tmp_path)
    assert kept.ended_in_order(), "there was none"
    kept.record(event(1, kind=Kind.START))
    assert not kept.ended_in_order()
    kept.record(event(3, kind=Kind.STOP))
    kept.record(event(2, kind=Kind.CONFLICT))
    kept.write()
    assert Timeline(tmp_path).ended_in_order()
