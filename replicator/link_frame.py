"""Messages to frames and back: the border between what a peer sent and what the rest believes.

Laws: a frame is at most `frame_bytes_max` long, in either direction; what `decode` returns is well formed (paths stay
below their root, sequence numbers are dense and fit SQLite, times are finite), so nobody behind it checks again; bulk
frames travel in pieces, small ones unless the link just took one in no time, so that a lease never waits behind more
than one piece however thin the line.

One WebSocket message is one tag byte and: a whole urgent frame, a piece of a bulk frame, or its last piece, whose tag
says whether the frame was packed (which the receiver has offered in its Hello).
"""

import math
from collections.abc import Iterable
from typing import assert_never, get_args

import msgspec

from anycastle.errors import AnycastleError
from anycastle.replicator.entry import PATH_BYTES_MAX, Entry, EntryError, Kind, check_path
from anycastle.replicator.message import (
    Ack,
    Bodies,
    Entries,
    Fenced,
    FenceQuery,
    Gossip,
    Hello,
    Landed,
    LeaseGrant,
    LeaseRequest,
    Mark,
    Message,
    Vectors,
)
from anycastle.replicator.packing import PackingError, unpack

PIECE_BYTES = 16 * 1024
"""Crosses a 64 kbit/s line in two seconds: less than a lease term and than the silence that closes a link."""
SEQ_MAX = 2**63 - 1
DIGEST_BYTES = 32
WHOLE, PIECE, LAST, LAST_PACKED = b"w", b"p", b"l", b"z"

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)
_KINDS = frozenset(str(each.__struct_config__.tag) for each in get_args(Message))


class _AnyKind(msgspec.Struct):
    """As much of a message as everybody can read."""

    type: str


_kind_decoder = msgspec.msgpack.Decoder(_AnyKind)


class FrameError(AnycastleError):
    """A frame that is too long or says something that cannot be; the link it came from is closed."""


def encode(message: Message, *, frame_bytes_max: int) -> bytes:
    """One frame. Raises FrameError when it would be refused by the receiver: the caller made too large a batch."""
    frame = _encoder.encode(message)
    if len(frame) > frame_bytes_max:
        raise FrameError(f"a {type(message).__name__} frame of {len(frame)} bytes: expected at most {frame_bytes_max}")
    return frame


def decode(frame: bytes, *, from_newer: bool = False) -> Message | None:
    """What the frame says; None for a kind that is not known here, if it is from somebody who speaks a newer version.

    Raises FrameError; never anything else, whatever the bytes.
    """
    try:
        message = _decoder.decode(frame)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        if from_newer and _is_unknown_kind(frame):
            return None
        raise FrameError(f"not a message: {error}") from error
    try:
        _check(message)
    except EntryError as error:
        raise FrameError(f"{type(message).__name__}: {error}") from error
    return message


def urgent(message: Message) -> bool:
    """Whether it overtakes what is bulky (entries, bodies): coarse marks are there to come before them."""
    return not isinstance(message, Entries | Bodies)


def hello_fault(hello: Message, *, certified: str) -> str:
    """Why the first message of a link does not open it; the empty string when it does.

    `certified` is the member that the peer's certificate names.
    """
    if not isinstance(hello, Hello):
        return f"its first message is {type(hello).__name__}, expected Hello"
    if hello.member != certified:
        return f"it says it is {hello.member!r:.80}, its certificate says {certified!r}"
    return ""


def common_version(ours: Hello, theirs: Hello) -> int:
    """The greatest version that both speak; 0 when there is none."""
    (our_oldest, our_newest), (their_oldest, their_newest) = ours.speaks(), theirs.speaks()
    newest = min(our_newest, their_newest)
    return newest if newest >= max(our_oldest, their_oldest) else 0


def version_fault(ours: Hello, theirs: Hello) -> str:
    """Why two members cannot speak, in the same words on both sides; the empty string when they can."""
    if common_version(ours, theirs):
        return ""
    one, other = sorted((ours, theirs), key=lambda hello: hello.speaks())
    return (
        f"no common protocol version: {one.member} speaks {_range(one)}, {other.member} speaks {_range(other)}; "
        f"upgrade {one.member}, by way of a release that speaks a version of each"
    )


def _range(hello: Hello) -> str:
    oldest, newest = hello.speaks()
    return f"{oldest} to {newest}" if oldest != newest else f"{oldest}"


def _is_unknown_kind(frame: bytes) -> bool:
    try:
        return _kind_decoder.decode(frame).type not in _KINDS
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False


class Assembler:
    """Puts the pieces of bulk frames together again."""

    def __init__(self, *, frame_bytes_max: int) -> None:
        self._frame_bytes_max = frame_bytes_max
        self._partial = bytearray()

    def feed(self, data: bytes) -> bytes | None:
        """One WebSocket message; returns the frame that it completes. Raises FrameError."""
        tag, body = data[:1], data[1:]
        held = 0 if tag == WHOLE else len(self._partial)
        if held + len(body) > self._frame_bytes_max:
            raise FrameError(f"a frame of more than {self._frame_bytes_max} bytes")
        if tag == WHOLE:
            return body
        if tag not in (PIECE, LAST, LAST_PACKED):
            raise FrameError(f"tag {tag!r}: expected whole, piece or last")
        if not body:
            raise FrameError("an empty piece")
        self._partial += body
        if tag == PIECE:
            return None
        frame = bytes(self._partial)
        self._partial.clear()
        return frame if tag == LAST else self._unpack(frame)

    def _unpack(self, frame: bytes) -> bytes:
        try:
            return unpack(frame, bytes_max=self._frame_bytes_max)
        except PackingError as error:
            raise FrameError(str(error)) from error


def _check(message: Message) -> None:
    match message:
        case Gossip():
            pass
        case Hello():
            _check_seq(message.incarnation, "incarnation", least=0)
            for life in (*message.lives, *message.knows.values()):
                _check_seq(life, "life", least=0)
            _check_vectors(message.told)
            _check_seq(message.protocol, "protocol", least=1)
            _check_seq(message.newest, "newest", least=0)
        case LeaseRequest():
            _check_number(message.sent, "sent")
            _check_seq(message.incarnation, "incarnation", least=0)
            for vectors in (message.recorded, message.detailed, message.fenced):
                _check_vectors(vectors)
        case LeaseGrant():
            _check_number(message.sent, "sent")
            _check_seq(message.incarnation, "incarnation", least=0)
            _check_vectors(message.recorded)
            _check_vectors(message.fenced)
            for detailed, recorded in message.yours.values():
                _check_seq(detailed, "a sequence number", least=0)
                _check_seq(recorded, "a sequence number", least=detailed)
        case Entries():
            _check_entries(message)
        case Bodies():
            _check_digests(message.bodies)
        case Mark():
            _check_mark(message)
        case Ack():
            _check_seq(message.upto, "upto", least=0)
            for seconds in message.outstanding.values():
                _check_number(seconds, "outstanding")
        case FenceQuery():
            _check_seq(message.upto, "upto", least=0)
        case Fenced():
            _check_vectors(message.fenced)
        case Landed():
            for origins in message.landed.values():
                for upto in origins.values():
                    _check_seq(upto.watermark, "watermark", least=0)
        case _:
            assert_never(message)


def _check_number(value: float, what: str) -> None:
    if not math.isfinite(value):
        raise FrameError(f"{what} is {value}: expected a finite number of seconds")


def _check_seq(value: int, what: str, *, least: int) -> None:
    if not least <= value <= SEQ_MAX:
        raise FrameError(f"{what} is {value}: expected {least} to {SEQ_MAX}")


def _check_vectors(vectors: Vectors) -> None:
    for origins in vectors.values():
        for seq in origins.values():
            _check_seq(seq, "a sequence number", least=0)


def _check_entries(message: Entries) -> None:
    _check_seq(message.after, "after", least=0)
    _check_seq(message.upto, "upto", least=0)
    after, upto = message.stretch()
    if message.upto and not after < upto:
        raise FrameError(f"a stretch from {after} to {upto}")
    if message.lost and (message.entries or not message.upto):
        raise FrameError(f"{len(message.entries)} entries in a stretch that was lost: expected none, and its end")
    expected = after + 1
    for entry in message.entries:
        if entry.group != message.group or entry.origin != message.origin:
            raise FrameError(f"entry of {entry.group}/{entry.origin} among those of {message.group}/{message.origin}")
        if entry.seq != expected and not (message.upto and expected < entry.seq <= upto):
            raise FrameError(f"entry {entry.seq} where {expected} follows")
        expected = entry.seq + 1
        _check_entry(entry)
    _check_digests(message.bodies)
    _check_digests(message.coming)


def _check_digests(digests: Iterable[bytes]) -> None:
    if any(len(digest) != DIGEST_BYTES for digest in digests):
        raise FrameError(f"a body whose digest is not {DIGEST_BYTES} bytes long")


def _check_entry(entry: Entry) -> None:
    check_path(entry.path)
    _check_seq(entry.seq, "seq", least=1)
    _check_seq(entry.lamport, "lamport", least=1)
    _check_seq(entry.parent.lamport, "parent", least=0)
    _check_seq(entry.size, "size", least=0)
    if len(entry.digest) != (DIGEST_BYTES if entry.kind is Kind.FILE else 0):
        raise FrameError(f"a {entry.kind.name} with a digest of {len(entry.digest)} bytes")
    if not 0 <= entry.mode <= 0o7777:
        raise FrameError(f"mode {entry.mode:o}: expected permission bits only")
    if not (0 <= entry.uid < 2**32 and 0 <= entry.gid < 2**32):
        raise FrameError(f"owner {entry.uid}:{entry.gid}: expected 32-bit numbers")
    if not -SEQ_MAX <= entry.mtime_ns <= SEQ_MAX:
        raise FrameError(f"mtime of {entry.mtime_ns} ns: expected 63 bits")
    if (
        len(entry.target) > PATH_BYTES_MAX
        or b"\0" in entry.target
        or bool(entry.target) != (entry.kind is Kind.SYMLINK)
    ):
        raise FrameError(f"a {entry.kind.name} with a link target of {len(entry.target)} bytes")


def _check_mark(mark: Mark) -> None:
    _check_seq(mark.after, "after", least=0)
    _check_seq(mark.upto, "upto", least=mark.after)
    if mark.prefix:
        check_path(mark.prefix.removesuffix(b"/"))
