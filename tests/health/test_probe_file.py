"""Probes of files and filesystems, on real ones."""

import os
import subprocess
import time
from pathlib import Path

import pytest

from anycastle.health.probe_file import FILE_BYTES_MAX
from anycastle.health.settings import DiskCheck, FileCheck
from tests.health.probing import look


async def test_a_file(tmp_path: Path) -> None:
    file = tmp_path / "ok"
    assert await look(FileCheck(file=file)) == (False, "no such file or directory")
    file.write_text("all is well")
    assert await look(FileCheck(file=file, contains="is well", age_max_seconds=60.0)) == (True, "is there")
    assert await look(FileCheck(file=file, contains="is bad")) == (False, "does not hold the text 'is bad'")
    os.utime(file, (time.clock_gettime(time.CLOCK_REALTIME) - 100,) * 2)
    assert await look(FileCheck(file=file, age_max_seconds=90.0)) == (False, "was last modified more than 90 s ago")
    assert await look(FileCheck(file=file, age_max_seconds=200.0)) == (True, "is there")
    file.write_text("x" * FILE_BYTES_MAX + "well")
    assert await look(FileCheck(file=file, contains="well")) == (False, "does not hold the text 'well'")


async def test_what_is_no_file_does_not_hang_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert await look(FileCheck(file=tmp_path / "pipe")) == (False, "is no regular file")
    assert await look(FileCheck(file=tmp_path)) == (False, "is no regular file")


@pytest.fixture
def small_disk(tmp_path: Path):  # type: ignore[no-untyped-def]
    """A filesystem of 1 MiB and 20 files."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1M,nr_inodes=20", "tmpfs", str(folder)]
    if os.getuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs root, to mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


async def test_room_on_a_disk(small_disk: Path) -> None:
    folder = small_disk
    assert await look(DiskCheck(folder=folder, free_min_bytes=900_000, free_min_share=0.9)) == (True, "has room")
    (folder / "big").write_bytes(b"x" * 600_000)
    assert await look(DiskCheck(folder=folder, free_min_bytes=900_000)) == (False, "less than 900 kB is free")
    assert await look(DiskCheck(folder=folder, free_min_share=0.5)) == (False, "less than 50 % is free")
    assert await look(DiskCheck(folder=folder, free_min_share=0.3, files_min_share=0.5)) == (True, "has room")
    for number in range(12):
        (folder / str(number)).touch()
    check = DiskCheck(folder=folder, free_min_share=0.3, files_min_share=0.5)
    assert await look(check) == (False, "less than 50 % of its files (inodes) are free")
    assert await look(DiskCheck(folder=folder / "gone")) == (False, "no such file or directory")
