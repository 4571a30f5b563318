"""What a request is about: host and raw URL path to group, content path and prefix. Pure.

Laws: a path that comes out of here is below its document root whatever the client sent; two spellings of a URL that the
usual web servers take for one file (`//`, `/./`, percent-encoding) come out as one path; what they might disagree about
(`..`, an encoded slash, NUL, a broken escape) is refused.

The prefix is the first `prefix_depth` components of the document root, each with its slash: the same words in which
steering and the view speak of pending content. A URL that maps to no file (a folder, a program) is judged by it whole,
since a program may read anything there. It never goes deeper than the document root, whatever the URL says.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from anycastle.errors import AnycastleError
from anycastle.health.view import content_prefix
from anycastle.replicator.entry import EntryError, check_path
from anycastle.replicator.settings import READS, GroupSettings

HOST_BYTES_MAX = 253
KEPT_TARGETS, KEPT_CHARS_MAX = 8192, 256
"""What was found is kept for so many requests, if they are short: some 8 MB."""
_HOST = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*|\[[0-9a-f:.]+\]")
_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_ENCODED_SEPARATOR = re.compile(rb"%(2[Ff]|00)")
_CAPTURE = "{1}"


class TargetError(AnycastleError):
    """A request that maps to nothing here; `status` is the answer that it deserves."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Target:
    """What a request is about."""

    group: GroupSettings
    path: bytes | None
    """The file it names, relative to the group's root; None when it maps to no file."""
    prefix: bytes
    """What the whole answer may depend on; see the module's text."""
    static: bool = False
    """The group's `static` patterns name it: the edge may serve the file by itself."""
    writing: bool = False
    """The group's `writing` patterns name it: it may change something whatever the method."""

    def writes(self, method: str) -> bool:
        """Whether such a request may change something, so that its answer is held until that is fenced."""
        return self.writing or method not in READS


@dataclass(frozen=True, slots=True)
class _Host:
    group: GroupSettings
    pattern: str


class Targets:
    """The map of all groups at this site."""

    def __init__(self, groups: Iterable[GroupSettings]) -> None:
        hosts = [_Host(group, pattern) for group in groups for pattern in group.hosts]
        self._exact = {host.pattern: host for host in hosts if not host.pattern.startswith("*.")}
        self._suffixes = {host.pattern[1:]: host for host in hosts if host.pattern.startswith("*.")}
        self._find_kept = lru_cache(KEPT_TARGETS)(self._find)

    def find(self, host_header: str, raw_path: str) -> Target:
        """Where a request goes; the query, if any, does not matter.

        `host_header` may carry a port; `raw_path` is as it stood on the request line. Raises TargetError:
        400 for what nobody should send, 404 for what is never served, 421 (RFC 9110 section 15.5.20) for an unknown
        host.
        """
        short = len(host_header) + len(raw_path) <= KEPT_CHARS_MAX
        return self._find_kept(host_header, raw_path) if short else self._find(host_header, raw_path)

    def _find(self, host_header: str, raw_path: str) -> Target:
        name = host_name(host_header)
        host, capture = self._host(name)
        document_root = host.group.document_root.replace(_CAPTURE, capture).strip("/").encode()
        below, is_file = decode_path(raw_path)
        prefix = content_prefix(document_root, host.group.prefix_depth) if document_root else b""
        path = b"/".join(part for part in (document_root, below) if part)
        if path:
            try:
                check_path(path)
            except EntryError as error:
                raise TargetError(404, str(error)) from error
        is_file = is_file and bool(path) and not _leads_through(below, host.group.dynamic)
        static = is_file and _is_static(below, host.group.static)
        writing = _leads_through(below, host.group.writing)
        return Target(host.group, path if is_file else None, prefix, static, writing)

    def _host(self, name: str) -> tuple[_Host, str]:
        """The most specific pattern wins; a star stands for one or more labels, as in DNS (RFC 4592)."""
        if name in self._exact:
            return self._exact[name], ""
        labels = name.split(".")
        for count in range(1, len(labels)):
            suffix = "." + ".".join(labels[count:])
            if suffix in self._suffixes:
                return self._suffixes[suffix], ".".join(labels[:count])
        raise TargetError(421, f"no group here serves the host {name}")


def host_name(host_header: str) -> str:
    """The host without port and last dot, in lower case. Raises TargetError(400) when it is not one."""
    name = re.sub(r":[0-9]*\Z", "", host_header.strip().lower()).removesuffix(".")
    if len(name) > HOST_BYTES_MAX or not _HOST.fullmatch(name):
        raise TargetError(400, "the Host header is not a host name")
    return name


def decode_path(raw_path: str) -> tuple[bytes, bool]:
    """The path below the document root, and whether it can name a file (it is no folder by its spelling)."""
    raw = raw_path.partition("?")[0].encode("utf-8", "surrogateescape")
    if not raw.startswith(b"/") or b"#" in raw or b"\0" in raw:
        raise TargetError(400, "expected a URL path that starts with a slash")
    if _BROKEN_ESCAPE.search(raw) or _ENCODED_SEPARATOR.search(raw):
        raise TargetError(400, "the URL path holds a broken escape, an encoded slash or NUL")
    parts = [unquote_to_bytes(part) for part in raw.split(b"/")]
    if b".." in parts:
        raise TargetError(400, "the URL path climbs with '..'")
    is_file = parts[-1] not in (b"", b".")
    return b"/".join(part for part in parts if part not in (b"", b".")), is_file


def _is_static(below: bytes, static: tuple[str, ...]) -> bool:
    """Whether a pattern matches; what begins with a dot is nobody's business, but for RFC 8615."""
    hidden = any(part.startswith(b".") for part in below.removeprefix(b".well-known/").split(b"/"))
    return not hidden and any(fnmatchcase(below, pattern.encode()) for pattern in static)


def _leads_through(below: bytes, programs: tuple[str, ...]) -> bool:
    """Whether the path, or one above it (`/index.php/article/7`), matches a pattern of programs."""
    patterns = [pattern.encode() for pattern in programs]
    parts = below.split(b"/")
    above = [b"/".join(parts[: count + 1]) for count in range(len(parts))]
    return any(fnmatchcase(path, pattern) for path in above for pattern in patterns)
