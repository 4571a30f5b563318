"""The list of changes: it survives torn lines, full disks and its own growth."""

from pathlib import Path

import pytest

from anycastle.clock import SystemClock
from anycastle.health import audit, lines
from anycastle.health.access import Caller
from anycastle.health.audit import Audit

NIGHT = Caller("token night", "127.0.0.1")


def test_the_newest_come_first_and_torn_lines_are_left_out(tmp_path: Path) -> None:
    kept = Audit(tmp_path / "audit.log", SystemClock())
    assert kept.newest(10) == []
    kept.record(NIGHT, "drain", "1", "done")
    with (tmp_path / "audit.log").open("ab") as torn:
        torn.write(b'{"at":"2026')
    kept.record(NIGHT, "drain", "2", "done")
    kept.record(NIGHT, "drain", "3" * 5000, "done")
    assert [change.order[:3] for change in kept.newest(10)] == ["333", "2", "1"]
    assert len(kept.newest(1)[0].order) == audit.ORDER_CHARACTERS_MAX
    again = Audit(tmp_path / "audit.log", SystemClock())
    assert again.newest(2) == kept.newest(2)


def test_it_takes_a_bounded_amount_of_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "FILE_BYTES_MAX", 2000)
    kept = Audit(tmp_path / "audit.log", SystemClock())
    for number in range(100):
        kept.record(NIGHT, "drain", str(number), "done")
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 4000
    assert {file.name for file in tmp_path.iterdir()} == {"audit.log", "audit.log.1"}
    found = [int(change.order) for change in kept.newest(1000)]
    assert found == list(range(99, 99 - len(found), -1))
    assert len(found) > 10, "what was there before is still shown"


def test_a_list_that_cannot_be_written_stops_no_change(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    kept = Audit(tmp_path / "missing" / "audit.log", SystemClock())
    kept.record(NIGHT, "drain", "", "done")
    assert kept.fault.endswith("No such file or directory")
    assert "event=change-not-kept" in caplog.text
    (tmp_path / "missing").mkdir()
    kept.record(NIGHT, "drain", "", "done")
    assert kept.fault == ""
    (tmp_path / "elsewhere").write_text("")
    (tmp_path / "link").symlink_to("elsewhere")
    linked = Audit(tmp_path / "link", SystemClock())
    linked.record(NIGHT, "drain", "", "done")
    assert linked.fault, "a link planted there is not followed"
    assert (tmp_path / "elsewhere").read_text() == ""
