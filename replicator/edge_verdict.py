"""The gate for a web server that serves by itself: judges reads over a Unix socket, as nginx's `auth_request` asks.

Laws: the map from URL to path and the judgement are those of the built-in edge (`Targets.find`, `GatePort`); a request
that is not plainly understood is refused and its connection closed; what waits is bounded by the group's `wait_max`,
and a connection asks one thing at a time. While nothing is under way in a group, what was asked before is answered as
before (`edge_recall`).

    asked      any target; Host and X-Original-URI (else the target itself), X-Original-Method (else the method)
    204        serve it; ETag is the content's hash, where it is one file; X-Anycastle-Version
    403        not from here: X-Anycastle-Verdict is `forward` (X-Anycastle-Forward: sites, best first), `write` (to the
               built-in edge, which fences), or `unchanged` (X-Original-If-None-Match names what would be served)
    503        nobody can vouch for it: Retry-After and X-Anycastle-Reason
    400 …      as the built-in edge would answer: 404, 421, 431
"""

import asyncio
import contextlib
import grp
import os
import pwd
import re
import socket
import stat
from collections import Counter
from collections.abc import Callable, Iterable
from http import HTTPStatus
from pathlib import Path
from typing import Protocol, assert_never

from anycastle.errors import AnycastleError
from anycastle.replicator.edge_headers import entity_tag, tag_listed
from anycastle.replicator.edge_recall import Answer, Recall
from anycastle.replicator.edge_target import Target, TargetError, Targets
from anycastle.replicator.gate import Forward, Refuse, Serve, Verdict, Wait
from anycastle.replicator.listen import BACKLOG, FULL, let_leave, let_nobody_in
from anycastle.replicator.settings import GroupSettings, VerdictSettings

REASON_CHARS_MAX = 200
RECEIVED_BYTES = 4096
"""At a time: a question or some. Left to itself, asyncio makes and frees a quarter of a MiB for each."""
RETRY_SECONDS = 1

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_HEAD = re.compile(
    rb"(" + _TOKEN + rb") ([!-~\x80-\xff]+) HTTP/1\.([01])\r\n((?:" + _TOKEN + rb":[\t -~\x80-\xff]*\r\n)*)\r\n"
)
"""RFC 9112 sections 2 to 5; what it lets servers reject is: bare CR or LF, folded lines, space before a colon."""
_FIELD = re.compile(
    rb"(?:\A|\n)(host|x-original-(?:uri|method|if-none-match)|content-length|transfer-encoding|connection):"
    rb"[\t ]*([^\r]*?)[\t ]*\r",
    re.IGNORECASE,
)
_CLOSED = {HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE}


class VerdictError(AnycastleError):
    """The socket cannot be had as configured."""


class VerdictPort(Protocol):
    """What is asked of the replicator: see `edge.GatePort`."""

    def judge(self, group: str, path: bytes | None, prefix: bytes) -> Verdict:
        """The gate's word on a read at this moment."""
        ...

    async def admit(self, group: str, path: bytes | None, prefix: bytes) -> Serve | Forward | Refuse:
        """The same; waits, within the group's bound, for what will soon be known."""
        ...


class VerdictService:
    """One site's, for all its groups."""

    def __init__(
        self,
        settings: VerdictSettings,
        groups: Iterable[GroupSettings],
        gate: VerdictPort,
        *,
        recall: Recall | None = None,
        on_request: Callable[[str], None] = lambda group: None,
        inherited: Callable[[str], socket.socket | None] = lambda path: None,
    ) -> None:
        """`recall`: answers that may be given again; without it everything is judged anew.

        `on_request` hears the group of each request that belongs to one.

        `inherited`: the path that it was bound to -> the socket of the process before, which is ours from then on.
        """
        self.settings = settings
        self.handed_on = False
        """The process that comes after listens on the same socket: at the end it stays where it is."""
        self.gate = gate
        self.on_request = on_request
        self.recall = recall
        self.targets = Targets(groups)
        self.answers: Counter[str] = Counter()
        """Verdict -> how many."""
        self.connections: set[_Connection] = set()
        self.tasks: asyncio.TaskGroup | None = None
        self.ending = False
        """Answers that are given now end their connections."""
        self._inherited = inherited
        self._listener: socket.socket | None = None

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """What it listens on, for the process that comes after."""
        return (self._listener,) if self._listener is not None else ()

    def bind(self) -> None:
        """Take the socket, so that a fault shows before anything starts. Raises VerdictError. `run` does it if need."""
        if self._listener is None:
            self._listener = _listen(self.settings, self._inherited)

    def close(self) -> None:
        """Let go of the socket; may be called twice."""
        if self._listener is not None:
            self._listener.close()
            if not self.handed_on:
                self.settings.socket.unlink(missing_ok=True)
            self._listener = None

    async def run(self) -> None:
        """Answer until cancelled."""
        self.bind()
        assert self._listener is not None
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.TaskGroup() as self.tasks:
                server = await loop.create_unix_server(self.protocol, sock=self._listener, backlog=BACKLOG)
                try:
                    await loop.create_future()
                finally:
                    await let_nobody_in((server,))
                    self.ending = True
                    # A question that waits does so no longer than its group lets it.
                    await let_leave(
                        lambda: bool(self.connections), lambda: any(each.waits for each in self.connections)
                    )
                    for connection in tuple(self.connections):
                        connection.abort()
        finally:
            self.tasks = None
            self.close()

    def protocol(self) -> "_Connection":
        """For one more connection."""
        return _Connection(self)


class _Connection(asyncio.BufferedProtocol):
    """One kept connection of the web server."""

    def __init__(self, service: VerdictService) -> None:
        self._service = service
        self._received = bytearray(RECEIVED_BYTES)
        self._buffer = b""
        self._waiting: asyncio.Task[None] | None = None
        self._last = False
        """Nothing more is read: the answer to what was asked is the last."""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if len(self._service.connections) >= self._service.settings.connections_max:
            transport.write(FULL)
            transport.close()
        else:
            self._service.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._service.connections.discard(self)
        self._transport = None
        if self._waiting is not None:
            self._waiting.cancel()

    @property
    def waits(self) -> bool:
        """For the answer to what it asked."""
        return self._waiting is not None

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def pause_writing(self) -> None:
        """Who does not read its answers, or waits for one and goes on asking, is not listened to meanwhile."""
        assert self._transport is not None
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        if self._transport is not None and self._waiting is None:
            self._transport.resume_reading()

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._received

    def buffer_updated(self, nbytes: int) -> None:
        self.take(bytes(self._received[:nbytes]))

    def take(self, data: bytes) -> None:
        """Some bytes that were sent to us."""
        self._buffer = self._buffer + data if self._buffer else data
        if self._waiting is None:
            self._answer_all()
        elif len(self._buffer) > self._service.settings.header_bytes_max:
            self.pause_writing()

    def _answer_all(self) -> None:
        """Each whole request in the buffer, in order; up to one that has to wait."""
        while self._transport is not None and not self._last and self._waiting is None and self._buffer:
            end = self._buffer.find(b"\r\n\r\n")
            size = len(self._buffer) if end < 0 else end + 4
            if size > self._service.settings.header_bytes_max:
                self._fault(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the head is too long")
            elif end < 0:
                return
            else:
                head, self._buffer = self._buffer[:size], self._buffer[size:]
                self._ask(head)

    def _ask(self, head: bytes) -> None:
        service = self._service
        known = service.recall.find(head) if service.recall is not None and not service.ending else None
        if known is not None and self._transport is not None:
            service.on_request(known.group)
            service.answers[known.verdict] += 1
            self._transport.write(known.text)
            return
        found = _HEAD.fullmatch(head)
        if found is None:
            self._fault(HTTPStatus.BAD_REQUEST, "this is no HTTP/1.1 request")
            return
        method, target, minor, lines = found.groups()
        named = [(name.lower(), value) for name, value in _FIELD.findall(lines)]
        fields: dict[bytes, bytes] = dict(named)
        if len(fields) != len(named):
            self._fault(HTTPStatus.BAD_REQUEST, "a field stands twice")
            return
        if b"transfer-encoding" in fields or fields.get(b"content-length", b"0") not in (b"0", b""):
            self._fault(HTTPStatus.BAD_REQUEST, "expected a request without a body")
            return
        wanted = minor == b"0" or fields.get(b"connection", b"").lower() == b"close"
        self._last = wanted or service.ending
        uri = fields.get(b"x-original-uri", target).decode("utf-8", "surrogateescape")
        try:
            about = service.targets.find(fields.get(b"host", b"").decode("latin-1"), uri)
        except TargetError as error:
            self._fault(HTTPStatus(error.status), str(error))
            return
        asked = _Asked(head, about, fields.get(b"x-original-method", method), "?" in uri, fields)
        service.on_request(about.group.name)
        if about.writes(asked.method.decode("latin-1")):
            self._say("write", HTTPStatus.FORBIDDEN, f"X-Anycastle-Forward: {service.settings.site}\r\n")
            return
        verdict = service.gate.judge(about.group.name, about.path, about.prefix)
        if isinstance(verdict, Wait):
            assert service.tasks is not None
            self._waiting = service.tasks.create_task(self._wait(asked))
        else:
            self._tell(asked, verdict)

    async def _wait(self, asked: "_Asked") -> None:
        target = asked.target
        try:
            verdict = await self._service.gate.admit(target.group.name, target.path, target.prefix)
        finally:
            self._waiting = None
        if self._transport is not None:
            self._tell(asked, verdict)
            if not self._last:
                self._transport.resume_reading()
            self._answer_all()

    def _tell(self, asked: "_Asked", verdict: Serve | Forward | Refuse) -> None:
        match verdict:
            case Serve():
                known = verdict.digest is not None and not asked.query and asked.method != b"OPTIONS"
                etag = entity_tag(verdict.digest) if known and verdict.digest is not None else ""
                fields = f"X-Anycastle-Version: {verdict.version}\r\n" + (f"ETag: {etag}\r\n" if etag else "")
                if etag and tag_listed(asked.if_none_match, etag):
                    said = "unchanged", self._say("unchanged", HTTPStatus.FORBIDDEN, fields)
                else:
                    said = "serve", self._say("serve", HTTPStatus.NO_CONTENT, fields)
                if self._service.recall is not None and not self._last:
                    self._service.recall.keep(asked.head, Answer(asked.target.group.name, *said))
            case Forward():
                fields = f"X-Anycastle-Forward: {', '.join(verdict.sites)}\r\n{_reason(verdict.reason)}"
                self._say("forward", HTTPStatus.FORBIDDEN, fields)
            case Refuse():
                fields = f"Retry-After: {verdict.retry_after_seconds}\r\n{_reason(verdict.reason)}"
                self._say("refuse", HTTPStatus.SERVICE_UNAVAILABLE, fields)
            case _:
                assert_never(verdict)

    def _fault(self, status: HTTPStatus, line: str) -> None:
        self._last = self._last or status in _CLOSED
        self._say("fault", status, _reason(line))

    def _say(self, verdict: str, status: HTTPStatus, fields: str) -> bytes:
        """Returns what was said."""
        self._service.answers[verdict] += 1
        length = "" if status is HTTPStatus.NO_CONTENT else "Content-Length: 0\r\n"
        last = "Connection: close\r\n" if self._last else ""
        site = self._service.settings.site
        assert self._transport is not None
        text = (
            f"HTTP/1.1 {status} {status.phrase}\r\nX-Anycastle-Site: {site}\r\nX-Anycastle-Verdict: {verdict}\r\n"
            f"{fields}{length}{last}\r\n"
        ).encode("ascii")
        self._transport.write(text)
        if self._last:
            self._transport.close()
        return text


class _Asked:
    """A request that is understood, and needs the gate."""

    __slots__ = ("head", "if_none_match", "method", "query", "target")

    def __init__(self, head: bytes, target: Target, method: bytes, query: bool, fields: dict[bytes, bytes]) -> None:
        self.head = head
        self.target = target
        self.method = method
        self.query = query
        """With a query it may be a picture made on the fly: then the hash says nothing."""
        self.if_none_match = fields.get(b"x-original-if-none-match", b"").decode("latin-1")


def _reason(text: str) -> str:
    """A header field's worth of it."""
    printable = "".join(char if " " <= char <= "~" else "?" for char in text[:REASON_CHARS_MAX])
    return f"X-Anycastle-Reason: {printable}\r\n"


def account_ids(owner: str) -> tuple[int, int]:
    """`user` or `user:group` -> ids, -1 for a group that is not said. Raises VerdictError."""
    user, colon, group = owner.partition(":")
    try:
        return pwd.getpwnam(user).pw_uid, grp.getgrnam(group).gr_gid if colon else -1
    except KeyError:
        raise VerdictError(f"edge.verdict.owner {owner}: there is no such account on this machine") from None


def _listen(settings: VerdictSettings, inherited: Callable[[str], socket.socket | None]) -> socket.socket:
    """Made under another name and renamed into place when it is ready, so it is never missing at a restart."""
    path = settings.socket
    new = path.with_name(f".{path.name}.new")  # nobody can connect before it listens, and then its rights are right
    user, group = account_ids(settings.owner) if settings.owner else (-1, -1)
    kept = inherited(str(new))
    try:
        if kept is not None:
            os.chown(path, user, group)
            path.chmod(settings.mode)
            return kept
        _check_free(path)
    except OSError as error:
        raise VerdictError(f"cannot give verdicts on {path}: {error.strerror or error}") from error
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.setblocking(False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new.unlink(missing_ok=True)
        listener.bind(str(new))
        os.chown(new, user, group)
        new.chmod(settings.mode)
        listener.listen(BACKLOG)
        new.rename(path)
    except OSError as error:
        listener.close()
        with contextlib.suppress(OSError):
            new.unlink()
        raise VerdictError(f"cannot give verdicts on {path}: {error.strerror or error}") from error
    return listener


def _check_free(path: Path) -> None:
    """A socket that a killed run left behind is ours to replace; nothing else is. Raises OSError, VerdictError."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise VerdictError(f"cannot give verdicts on {path}: something else is there, expected nothing or a socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking, contextlib.suppress(ConnectionRefusedError):
        asking.connect(str(path))
        raise VerdictError(f"cannot give verdicts on {path}: somebody listens there already")
