"""Frames: what one end encodes the other decodes, and nothing hostile gets past the border."""

import contextlib
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anycastle.replicator.entry import Entry, Kind, Version
from anycastle.replicator.link_frame import (
    LAST,
    PIECE,
    SEQ_MAX,
    WHOLE,
    Assembler,
    FrameError,
    common_version,
    decode,
    encode,
    hello_fault,
    urgent,
    version_fault,
)
from anycastle.replicator.message import (
    OLDEST,
    PROTOCOL,
    Ack,
    Entries,
    Fenced,
    FenceQuery,
    Gossip,
    Hello,
    Landed,
    LandedUpto,
    LeaseGrant,
    LeaseRequest,
    Mark,
    Message,
)

LIMIT = 100_000
HELLO = Hello("ams", PROTOCOL, 7, ("ams", "nyc"), ())


def entry(**changes: Any) -> Entry:
    base = Entry("ams", 1, "blogs", b"a/b.jpg", 5, Kind.FILE, Version(4, "nyc"), b"d" * 32, 10, 0o644)
    return msgspec.structs.replace(base, **changes)


def announce(*entries: Entry) -> Entries:
    return Entries("blogs", "ams", entries)


GOOD: list[Message] = [
    HELLO,
    LeaseRequest(1.5, 7, {"blogs": {"ams": 3}}, {}, {"blogs": {}}),
    LeaseGrant(1.5, 7, {"blogs": {"ams": 3}}, {}, 3.0, {"blogs": (2, 3)}),
    Entries("blogs", "ams", (), after=2, upto=5, lost=True),
    Entries("blogs", "ams", (entry(), entry(seq=2, kind=Kind.ABSENT, digest=b"")), {b"d" * 32: b"body"}),
    announce(entry(kind=Kind.SYMLINK, digest=b"", target=b"../elsewhere")),
    Mark("blogs", "ams", 0, 9, b"a/"),
    Mark("blogs", "ams", 0, 9, b""),
    Ack("blogs", "ams", 9, {"nyc": 1.5}),
    FenceQuery("blogs", "ams", 9),
    Fenced({"blogs": {"ams": 9}}),
    Landed({"blogs": {"ams": LandedUpto(9)}}, {"blogs": ""}),
    Gossip(b"\x00\xff"),
]


@pytest.mark.parametrize("message", GOOD, ids=lambda m: type(m).__name__)
def test_round_trip(message: Message) -> None:
    assert decode(encode(message, frame_bytes_max=LIMIT)) == message


def test_only_entries_wait() -> None:
    assert {type(m) for m in GOOD if not urgent(m)} == {Entries}


BAD: list[Message] = [
    announce(entry(path=b"../x")),
    announce(entry(path=b"/etc/passwd")),
    announce(entry(path=b"a/../../x")),
    announce(entry(path=b".anycastle/tmp/x")),
    announce(entry(path=b"a\0b")),
    announce(entry(path=b"")),
    announce(entry(seq=0)),
    announce(entry(), entry(seq=3)),
    announce(entry(origin="nyc")),
    announce(entry(group="other")),
    announce(entry(digest=b"short")),
    announce(entry(kind=Kind.ABSENT)),
    announce(entry(lamport=0)),
    announce(entry(lamport=2**63)),
    announce(entry(size=-1)),
    announce(entry(mode=0o100644)),
    announce(entry(uid=-1)),
    announce(entry(mtime_ns=2**63)),
    announce(entry(target=b"x")),
    announce(entry(kind=Kind.SYMLINK, digest=b"", target=b"")),
    announce(entry(kind=Kind.SYMLINK, digest=b"", target=b"a\0")),
    Entries("blogs", "ams", (), {b"short": b""}),
    Entries("blogs", "ams", (), lost=True),
    Entries("blogs", "ams", (entry(),), after=0, upto=5, lost=True),
    LeaseGrant(1.0, 7, {}, {}, 3.0, {"blogs": (3, 2)}),
    Mark("blogs", "ams", 9, 8, b"a/"),
    Mark("blogs", "ams", 0, 8, b"../"),
    Ack("blogs", "ams", -1, {}),
    Ack("blogs", "ams", 1, {"nyc": math.nan}),
    FenceQuery("blogs", "ams", 2**63),
    Fenced({"blogs": {"ams": -1}}),
    LeaseRequest(math.inf, 7, {}, {}, {}),
    LeaseRequest(1.0, -1, {}, {}, {}),
    LeaseGrant(1.0, 7, {}, {"blogs": {"ams": SEQ_MAX + 1}}),
    Landed({"blogs": {"ams": LandedUpto(-1)}}, {}),
    msgspec.structs.replace(HELLO, incarnation=-1),
]


@pytest.mark.parametrize("message", BAD, ids=lambda m: type(m).__name__)
def test_what_cannot_be_is_refused(message: Message) -> None:
    frame = encode(message, frame_bytes_max=LIMIT)
    with pytest.raises(FrameError):
        decode(frame)


def test_too_long_a_frame_is_not_made() -> None:
    with pytest.raises(FrameError, match=r"Gossip frame of \d+ bytes: expected at most 100000"):
        encode(Gossip(b"x" * LIMIT), frame_bytes_max=LIMIT)


@given(st.binary())
def test_any_bytes_are_a_message_or_a_frame_error(frame: bytes) -> None:
    with contextlib.suppress(FrameError):
        assert isinstance(decode(frame), Message)


@given(st.sampled_from(GOOD), st.data())
def test_damaged_frames_are_a_message_or_a_frame_error(message: Message, data: st.DataObject) -> None:
    frame = bytearray(encode(message, frame_bytes_max=LIMIT))
    frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(FrameError):
        assert isinstance(decode(bytes(frame)), Message)


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(FrameError):
        decode(b"\x91" * 100_000)


@pytest.mark.parametrize(
    ("hello", "fault"),
    [
        (HELLO, ""),
        (Gossip(b""), "its first message is Gossip"),
        (msgspec.structs.replace(HELLO, member="nyc"), "its certificate says 'ams'"),
    ],
)
def test_what_opens_a_link(hello: Message, fault: str) -> None:
    reason = hello_fault(hello, certified="ams")
    assert fault in reason
    assert bool(fault) == bool(reason)


@given(st.lists(st.binary(min_size=1, max_size=50), min_size=1), st.binary(max_size=50))
def test_urgent_frames_pass_between_pieces(pieces: list[bytes], whole: bytes) -> None:
    assembler = Assembler(frame_bytes_max=LIMIT)
    for piece in pieces[:-1]:
        assert assembler.feed(PIECE + piece) is None
        assert assembler.feed(WHOLE + whole) == whole
    assert assembler.feed(LAST + pieces[-1]) == b"".join(pieces)


@pytest.mark.parametrize(
    ("before", "last"),
    [
        (b"", b""),
        (b"", b"x123"),
        (b"", PIECE),
        (b"", LAST),
        (b"", WHOLE + b"12345"),
        (b"", LAST + b"12345"),
        (PIECE + b"123", LAST + b"45"),
        (PIECE + b"1234", PIECE + b"5"),
    ],
)
def test_bad_pieces(before: bytes, last: bytes) -> None:
    assembler = Assembler(frame_bytes_max=4)
    if before:
        assert assembler.feed(before) is None
    with pytest.raises(FrameError):
        assembler.feed(last)


def speaks(member: str, oldest: int, newest: int) -> Hello:
    return msgspec.structs.replace(HELLO, member=member, protocol=oldest, newest=newest)


@pytest.mark.parametrize(
    ("ours", "theirs", "version"),
    [
        ((1, 1), (1, 1), 1),
        ((1, 0), (1, 2), 1),
        ((1, 3), (2, 4), 3),
        ((2, 2), (1, 2), 2),
        ((1, 1), (2, 2), 0),
        ((1, 2), (3, 5), 0),
    ],
)
def test_a_link_speaks_the_greatest_version_that_both_speak(
    ours: tuple[int, int], theirs: tuple[int, int], version: int
) -> None:
    one, other = speaks("ams", *ours), speaks("nyc", *theirs)
    assert common_version(one, other) == common_version(other, one) == version
    fault = version_fault(one, other)
    assert fault == version_fault(other, one), "both sides say the same"
    assert bool(fault) == (not version)


def test_what_is_too_far_apart_is_refused_with_both_ranges_and_what_to_do() -> None:
    assert version_fault(speaks("nyc", 3, 5), speaks("ams", 1, 0)) == (
        "no common protocol version: ams speaks 1, nyc speaks 3 to 5; "
        "upgrade ams, by way of a release that speaks a version of each"
    )


def test_the_first_release_understands_our_hello() -> None:
    class FirstHello(msgspec.Struct, frozen=True, tag="hello"):
        member: str
        protocol: int
        incarnation: int

    frame = encode(msgspec.structs.replace(HELLO, protocol=OLDEST, newest=PROTOCOL + 1), frame_bytes_max=10_000)
    assert msgspec.msgpack.decode(frame, type=FirstHello).protocol == 1


@given(st.text(), st.dictionaries(st.text().filter(lambda key: key != "type"), st.booleans() | st.text()))
def test_a_kind_that_is_not_known_is_ignored_only_from_newer_members(kind: str, fields: dict[str, object]) -> None:
    frame = msgspec.msgpack.encode({"type": f"new-{kind}", **fields})
    assert decode(frame, from_newer=True) is None
    with pytest.raises(FrameError):
        decode(frame)


def test_a_known_kind_with_a_fault_is_refused_from_newer_members_too() -> None:
    for broken in ({"type": "fenced", "fenced": 1}, {"type": 1}, {}, [1]):
        with pytest.raises(FrameError):
            decode(msgspec.msgpack.encode(broken), from_newer=True)


def test_fields_that_are_not_known_are_ignored() -> None:
    frame = msgspec.msgpack.encode({"type": "fenced", "fenced": {}, "new": [1, {"deep": b"x"}]})
    assert decode(frame) == Fenced({})
