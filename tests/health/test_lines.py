"""A file of lines on real disks: torn, full, linked, too long."""

from pathlib import Path

import msgspec
import pytest

from anycastle.health import lines
from anycastle.health.lines import Lines


class Line(msgspec.Struct, frozen=True):
    number: int


def numbers(kept: Lines[Line], limit: int = 10_000) -> list[int]:
    return [line.number for line in kept.newest(limit)]


def test_the_newest_come_first_and_torn_lines_are_left_out(tmp_path: Path) -> None:
    kept = Lines(tmp_path / "lines", Line)
    assert numbers(kept) == []
    kept.append([Line(1), Line(2)])
    with (tmp_path / "lines").open("ab") as torn:
        torn.write(b'{"number":\xff')
    kept.append([Line(3)])
    assert numbers(kept) == [3, 2, 1]
    assert numbers(Lines(tmp_path / "lines", Line), 2) == [3, 2]
    assert [line.number for line in kept.newest(1, lambda line: line.number < 3)] == [2]
    assert (tmp_path / "lines").stat().st_mode & 0o777 == 0o600


def test_it_takes_a_bounded_amount_of_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "FILE_BYTES_MAX", 200)
    kept = Lines(tmp_path / "lines", Line)
    for number in range(100):
        kept.append([Line(number)])
        assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 400
    found = numbers(kept)
    assert found == list(range(99, 99 - len(found), -1))
    assert len(found) >= 10, "what was there before is still shown"


def test_a_full_disk_takes_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Lines(tmp_path / "lines", Line)
    kept.append([Line(1)])
    write = lines.os.write
    with monkeypatch.context() as full:
        full.setattr(lines.os, "write", lambda opened, text: write(opened, text[:5]))
        with pytest.raises(OSError, match="No space left on device"):
            kept.append([Line(2), Line(3)])
    kept.append([Line(4)])
    assert (tmp_path / "lines").read_text() == '{"number":1}\n{"number":4}\n'


def test_a_link_planted_there_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("")
    (tmp_path / "lines").symlink_to("elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        Lines(tmp_path / "lines", Line).append([Line(1)])
    assert (tmp_path / "elsewhere").read_text() == ""
