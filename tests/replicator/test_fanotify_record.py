"""Real buffers of Linux 6.18 (tmpfs), and what must be refused."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anycastle.replicator.fanotify_record import (
    ATTRIB,
    CLOSE_WRITE,
    CREATE,
    DELETE,
    MODIFY,
    ONDIR,
    Q_OVERFLOW,
    RENAME,
    Record,
    records,
    writing,
)
from anycastle.replicator.watch_event import WatchError

ROOT = bytes.fromhex("c74dfaf05d945f610c000000010000002b07c8550100000000000000")
PHOTO = bytes.fromhex("c74dfaf05d945f610c000000010000005586c9730200000000000000")
FOLDER = bytes.fromhex("c74dfaf05d945f610c00000001000000622438100300000000000000")

WRITE = bytes.fromhex(
    "64000000030018000a01000000000000ffffffffd9390000"
    "02002c00c74dfaf05d945f610c000000010000002b07c855010000000000000070686f746f2e6a7067000000"
    "01002000c74dfaf05d945f610c000000010000005586c9730200000000000000"
)
MKDIR = bytes.fromhex(
    "5c000000030018000001004000000000ffffffffd9390000"
    "02002400c74dfaf05d945f610c000000010000002b07c855010000000000000064697200"
    "01002000c74dfaf05d945f610c00000001000000622438100300000000000000"
)
CHMOD_FOLDER = bytes.fromhex(
    "3c000000030018000400004000000000ffffffffd9390000"
    "02002400c74dfaf05d945f610c000000010000006224381003000000000000002e000000"
)
RENAMED = bytes.fromhex(
    "88000000030018000000001000000000ffffffffd9390000"
    "0a002c00c74dfaf05d945f610c000000010000002b07c855010000000000000070686f746f2e6a7067000000"
    "0c002400c74dfaf05d945f610c0000000100000062243810030000000000000070000000"
    "01002000c74dfaf05d945f610c000000010000005586c9730200000000000000"
)
LINK = bytes.fromhex(
    "38000000030018000400000000000000ffffffffd9390000"
    "01002000c74dfaf05d945f610c000000010000005586c9730200000000000000"
    "5c000000030018000001000000000000ffffffffd9390000"
    "02002400c74dfaf05d945f610c000000010000002b07c855010000000000000071000000"
    "01002000c74dfaf05d945f610c000000010000005586c9730200000000000000"
)
OVERFLOW = bytes.fromhex("18000000030018000040000000000000ffffffff00000000")


@pytest.mark.parametrize(
    ("buffer", "expected"),
    [
        (WRITE, [Record(CREATE | MODIFY | CLOSE_WRITE, ROOT, b"photo.jpg", b"", b"", PHOTO)]),
        (MKDIR, [Record(CREATE | ONDIR, ROOT, b"dir", b"", b"", FOLDER)]),
        (CHMOD_FOLDER, [Record(ATTRIB | ONDIR, FOLDER, b".", b"", b"", b"")]),
        (RENAMED, [Record(RENAME, ROOT, b"photo.jpg", FOLDER, b"p", PHOTO)]),
        (
            LINK,
            [Record(ATTRIB, b"", b"", b"", b"", PHOTO), Record(CREATE, ROOT, b"q", b"", b"", PHOTO)],
        ),
        (OVERFLOW, [Record(Q_OVERFLOW, b"", b"", b"", b"", b"")]),
        (b"", []),
    ],
    ids=["write", "mkdir", "chmod of a folder", "rename", "link", "overflow", "nothing"],
)
def test_real_buffers(buffer: bytes, expected: list[Record]) -> None:
    assert list(records(buffer)) == expected


def test_several_events_in_one_read() -> None:
    assert [record.name for record in records(WRITE + MKDIR + WRITE)] == [b"photo.jpg", b"dir", b"photo.jpg"]


def test_information_that_was_not_asked_for_is_passed_over() -> None:
    pidfd = bytes.fromhex("0400080007000000")
    longer = (len(MKDIR) + len(pidfd)).to_bytes(4, "little") + MKDIR[4:] + pidfd
    assert list(records(longer)) == list(records(MKDIR))


@pytest.mark.parametrize(
    ("at", "new", "message"),
    [
        (0, b"\xff\x00", "event of 255 bytes"),
        (0, b"\x10\x00", "event of 16 bytes"),
        (4, b"\x02", "event version 2: expected 3"),
        (26, b"\x00\x00", "information of 0 bytes"),
        (26, b"\xff\x00", "information of 255 bytes"),
        (26, b"\x08\x00", "expected a handle"),
        (36, b"\xff\xff", "a handle of 65535 bytes"),
        (56, b"dirs", "a name without its end"),
    ],
)
def test_contradictions_are_refused(at: int, new: bytes, message: str) -> None:
    with pytest.raises(WatchError, match=message):
        list(records(MKDIR[:at] + new + MKDIR[at + len(new) :]))


def test_a_torn_event_is_refused() -> None:
    with pytest.raises(WatchError, match="expected a whole event"):
        list(records(WRITE + MKDIR[:20]))


@given(st.lists(st.tuples(st.integers(0, len(RENAMED + LINK) - 1), st.integers(0, 255)), max_size=6))
def test_no_buffer_makes_it_fail_otherwise(damage: list[tuple[int, int]]) -> None:
    buffer = bytearray(RENAMED + LINK)
    for at, byte in damage:
        buffer[at] = byte
    with contextlib.suppress(WatchError):
        assert len(list(records(bytes(buffer)))) <= len(buffer) // 24


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (CREATE, True),
        (MODIFY, True),
        (CREATE | MODIFY | CLOSE_WRITE, False),
        (MODIFY | DELETE, False),
        (CREATE | ONDIR, False),
        (ATTRIB, None),
        (ATTRIB | MODIFY, True),
    ],
)
def test_what_a_mask_says_of_writers(mask: int, expected: bool | None) -> None:
    assert writing(mask) is expected
