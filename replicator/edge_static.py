"""Files that the edge serves from the disk by itself: those that a group's `static` patterns name.

Laws: a file is opened beneath the group's root by the kernel in one step, no symlink followed; only regular files are
served, never what begins with a dot; the gate is asked again when the file is open, so what is sent is what was judged.
What is not there is the application's to answer. The content hash is the validator; without one (excluded paths) it is
inode, size and modification time to the nanosecond.
"""

import asyncio
import mimetypes
import os
import re
import stat
from dataclasses import dataclass
from email.utils import formatdate
from functools import lru_cache

from aiohttp import web
from multidict import CIMultiDict

from anycastle.replicator.beneath import O_FOLDER, NotBeneath, open_beneath
from anycastle.replicator.edge_exchange import Exchange
from anycastle.replicator.edge_headers import entity_tag, none_match_fails
from anycastle.replicator.gate import Serve
from anycastle.replicator.listen import cut
from anycastle.replicator.settings import GroupSettings

COPIED_BYTES_MAX = 64 * 1024
"""Up to here a file goes out in one piece with its head; above, the kernel sends it."""
SLICE_BYTES = 1024 * 1024
"""Of a sendfile: a client must take so much in `silence_seconds_max`."""
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_TYPES = mimetypes.MimeTypes()
for _type, _suffix in (
    ("image/webp", ".webp"),
    ("image/avif", ".avif"),
    ("font/woff", ".woff"),
    ("font/woff2", ".woff2"),
    ("text/javascript", ".js"),
    ("text/javascript", ".mjs"),
    ("application/wasm", ".wasm"),
):
    _TYPES.add_type(_type, _suffix)
_ENCODINGS = {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz"}


@dataclass(slots=True)
class OpenFile:
    """A regular file; `close` it."""

    descriptor: int
    status: os.stat_result

    def close(self) -> None:
        os.close(self.descriptor)


def open_static(group: GroupSettings, path: bytes) -> OpenFile | None:
    """None when there is nothing that may be served."""
    try:
        root = os.open(group.root, O_FOLDER | os.O_CLOEXEC)
        try:
            descriptor = open_beneath(root, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        finally:
            os.close(root)
    except (OSError, NotBeneath):
        return None
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode):
        return OpenFile(descriptor, status)
    os.close(descriptor)
    return None


@lru_cache(1024)
def content_type(name: str) -> str:
    """By the last suffix; a compressed file is one, and not what is in it."""
    guessed, encoding = _TYPES.guess_type(f"x{os.path.splitext(name)[1]}")
    return _ENCODINGS.get(encoding, "application/octet-stream") if encoding else guessed or "application/octet-stream"


def validator(status: os.stat_result, verdict: Serve) -> str:
    """The entity tag."""
    if verdict.digest is not None:
        return entity_tag(verdict.digest)
    return f'"f-{status.st_ino:x}-{status.st_size:x}-{status.st_mtime_ns:x}"'


def byte_range(line: str, size: int) -> tuple[int, int] | None:
    """First byte and how many, of a Range with one range; None: the whole. Raises ValueError: 416.

    RFC 9110 section 14.1.2; several ranges may be answered with the whole (section 14.2).
    """
    found = _RANGE.fullmatch(line.strip())
    if found is None or found[1] == found[2] == "":
        return None
    if not found[1]:
        count = min(int(found[2]), size)
        first = size - count
    else:
        first = int(found[1])
        last = min(int(found[2]), size - 1) if found[2] else size - 1
        if found[2] and int(found[2]) < first:
            return None
        count = last - first + 1
    if count <= 0 or first >= size:
        raise ValueError(line)
    return first, count


@dataclass(frozen=True, slots=True)
class Plan:
    """What a request for a file is answered with: `count` bytes from `first` on, none when the status says so."""

    status: int
    headers: CIMultiDict[str]
    first: int = 0
    count: int = 0


def plan(method: str, asked: CIMultiDict[str], status: os.stat_result, verdict: Serve, kind: str) -> Plan:
    """Conditions in the order of RFC 9110 section 13.2.2; `kind` is the content type. Pure."""
    size, etag, modified = status.st_size, validator(status, verdict), formatdate(status.st_mtime, usegmt=True)
    dated = verdict.digest is None
    headers = CIMultiDict({"ETag": etag})
    if dated:
        headers["Last-Modified"] = modified
    unmodified = dated and "If-None-Match" not in asked and asked.get("If-Modified-Since") == modified
    if none_match_fails(asked, etag) or unmodified:
        return Plan(304, headers)
    headers["Accept-Ranges"] = "bytes"
    headers["Content-Type"] = kind
    if method == "HEAD":
        headers["Content-Length"] = str(size)
        return Plan(200, headers)
    if asked.get("If-Range", etag) not in (etag, modified if dated else etag):
        return Plan(200, headers, 0, size)
    try:
        part = byte_range(asked.get("Range", ""), size)
    except ValueError:
        headers["Content-Range"] = f"bytes */{size}"
        return Plan(416, headers)
    if part is None:
        return Plan(200, headers, 0, size)
    first, count = part
    headers["Content-Range"] = f"bytes {first}-{first + count - 1}/{size}"
    return Plan(206, headers, first, count)


async def send(exchange: Exchange, file: OpenFile, verdict: Serve, *, silence_seconds_max: float) -> web.StreamResponse:
    """The answer. The caller closes the file."""
    assert exchange.target.path is not None
    kind = content_type(os.fsdecode(exchange.target.path))
    planned = plan(exchange.request.method, exchange.headers, file.status, verdict, kind)
    headers = exchange.signed(planned.headers, "serve", verdict.version)
    if planned.count <= COPIED_BYTES_MAX:
        body = os.pread(file.descriptor, planned.count, planned.first)
        if len(body) == planned.count:
            return web.Response(status=planned.status, headers=headers, body=body or None)
    answer = web.StreamResponse(status=planned.status, headers=headers)
    answer.content_length = planned.count
    exchange.end_connection(answer)
    await answer.prepare(exchange.request)
    await _send_file(exchange, file, planned.first, planned.count, silence_seconds_max)
    return answer


async def _send_file(exchange: Exchange, file: OpenFile, first: int, count: int, silence_seconds_max: float) -> None:
    """A file that became shorter, and a client that takes nothing, end the connection."""
    transport, loop = exchange.request.transport, asyncio.get_running_loop()
    sent = 0
    with os.fdopen(file.descriptor, "rb", closefd=False) as opened:
        while sent < count and transport is not None:
            try:
                async with asyncio.timeout(silence_seconds_max):
                    piece = await loop.sendfile(transport, opened, first + sent, min(SLICE_BYTES, count - sent))
            except (OSError, RuntimeError):
                piece = 0
            if not piece:
                cut(exchange.request)
                return
            sent += piece
