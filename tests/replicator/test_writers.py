"""A file somebody holds open for writing is told from one that came to rest."""

import mmap
import os
from pathlib import Path

from anycastle.replicator.writers import is_held_for_writing


def asked(file: Path) -> bool:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        return is_held_for_writing(descriptor)
    finally:
        os.close(descriptor)


def test_open_for_writing_until_closed(tmp_path: Path) -> None:
    file = tmp_path / "a"
    with file.open("wb") as writer:
        writer.write(b"x")
        assert asked(file)
    assert not asked(file)


def test_readers_do_not_count(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"x")
    with file.open("rb"):
        assert not asked(file)


def test_shared_writable_mapping_counts(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"x" * 4096)
    with file.open("r+b") as opened:
        mapping = mmap.mmap(opened.fileno(), 4096)
    assert asked(file)
    mapping.close()
    assert not asked(file)
