"""What the kernel writes to a fanotify descriptor, as records (fanotify(7); include/uapi/linux/fanotify.h).

Laws: bytes in, records out, no call to the kernel. Only the forms we ask for are understood (FAN_REPORT_DFID_NAME with
FID and TARGET_FID); anything that contradicts its own lengths is a WatchError, for the stream cannot be trusted then.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from anycastle.replicator.watch_event import WatchError

MODIFY = 0x0000_0002
ATTRIB = 0x0000_0004
CLOSE_WRITE = 0x0000_0008
CREATE = 0x0000_0100
DELETE = 0x0000_0200
Q_OVERFLOW = 0x0000_4000
RENAME = 0x1000_0000
ONDIR = 0x4000_0000
EVENT_ON_CHILD = 0x0800_0000

_INFO_FID = 1
_INFO_DFID_NAME = 2
_INFO_DFID = 3
_INFO_OLD_DFID_NAME = 10
_INFO_NEW_DFID_NAME = 12
_WITH_HANDLE = frozenset({_INFO_FID, _INFO_DFID_NAME, _INFO_DFID, _INFO_OLD_DFID_NAME, _INFO_NEW_DFID_NAME})

_METADATA = struct.Struct("=IBBHQii")  # event_len, vers, reserved, metadata_len, mask, fd, pid
_METADATA_VERSION = 3
# A record of information: type 1, padding 1, length 2, fsid 8, handle_bytes 4, handle_type 4, handle, name, NUL.
_INFO = struct.Struct("=BBH")
_LENGTH = struct.Struct("=I")
_INFO_BYTES_MIN = _INFO.size
_FSID_AT = 4
_LENGTH_AT = 12
_HANDLE_AT = 20
HANDLE_BYTES_MAX = 128
"""MAX_HANDLE_SZ of the kernel."""


class Record(NamedTuple):
    """One event, perhaps merged of several. A tuple because there are as many as the machine writes to its disk.

    Handles are `fsid(8) handle_bytes(4) handle_type(4) handle`, empty when not told.
    """

    mask: int
    folder: bytes
    """The folder that holds (held) `name`, or the folder itself with the name `.`."""
    name: bytes
    new_folder: bytes
    """Of RENAME only."""
    new_name: bytes
    target: bytes
    """The file or folder that the event is about."""


def records(buffer: bytes) -> Iterator[Record]:
    """All events of one read; raises WatchError."""
    at, end = 0, len(buffer)
    while at < end:
        if end - at < _METADATA.size:
            raise WatchError(f"fanotify: {end - at} bytes left over: expected a whole event")
        length, version, _, head, mask, _, _ = _METADATA.unpack_from(buffer, at)
        if version != _METADATA_VERSION:
            raise WatchError(f"fanotify: event version {version}: expected {_METADATA_VERSION}")
        if not _METADATA.size <= head <= length <= end - at:
            raise WatchError(f"fanotify: event of {length} bytes, head {head}: {end - at} are there")
        yield _record(buffer, mask, at + head, at + length)
        at += length


def writing(mask: int) -> bool | None:
    """What a record says of writers: True not closed yet, False closed (or gone), None nothing.

    CREATE alone counts as not closed; whoever can look at the file knows better (`WatchedRoot.may_be_open`).
    A recreated file is another object and has a record of its own, so DELETE is the last word on this one.
    """
    if mask & ONDIR or mask & (CLOSE_WRITE | DELETE):
        return False
    if mask & (MODIFY | CREATE):
        return True
    return None


def _record(buffer: bytes, mask: int, at: int, end: int) -> Record:
    folder = name = new_folder = new_name = target = b""
    while at < end:
        if end - at < _INFO_BYTES_MIN:
            raise WatchError(f"fanotify: {end - at} bytes: expected a record of information")
        kind, _, length = _INFO.unpack_from(buffer, at)
        following = at + length
        if not at + _INFO_BYTES_MIN <= following <= end:
            raise WatchError(f"fanotify: information of {following - at} bytes where {end - at} are left")
        if kind in _WITH_HANDLE:
            handle, name_at = _handle(buffer, at, following)
            if kind == _INFO_FID:
                target = handle
            elif kind == _INFO_DFID:
                folder, name = handle, b"."
            elif kind == _INFO_NEW_DFID_NAME:
                new_folder, new_name = handle, _name(buffer, name_at, following)
            else:
                folder, name = handle, _name(buffer, name_at, following)
        at = following
    return Record(mask, folder, name, new_folder, new_name, target)


def _handle(buffer: bytes, at: int, end: int) -> tuple[bytes, int]:
    """The handle with its filesystem, and where it ends."""
    if end - at < _HANDLE_AT:
        raise WatchError(f"fanotify: {end - at} bytes: expected a handle")
    (length,) = _LENGTH.unpack_from(buffer, at + _LENGTH_AT)
    stop = at + _HANDLE_AT + length
    if length > HANDLE_BYTES_MAX or stop > end:
        raise WatchError(f"fanotify: a handle of {length} bytes where {end - at - _HANDLE_AT} are left")
    return buffer[at + _FSID_AT : stop], stop


def _name(buffer: bytes, start: int, end: int) -> bytes:
    stop = buffer.find(b"\0", start, end)
    if stop < 0:
        raise WatchError("fanotify: a name without its end")
    return buffer[start:stop]
