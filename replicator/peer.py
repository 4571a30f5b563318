"""Links: this member's connections with the others, all mutual TLS 1.3 on one port.

Laws: at most one link per pair, dialled by the member with the lesser name; who a peer is comes from its certificate
alone; LinkUp, Received and LinkDown of a member reach `on_event` in that order and never from two links at once.
On the same port peers pull bodies (`body`) and pass on clients' requests to our edge (`/edge/…`).
"""

import asyncio
import logging
import os
import socket
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from random import SystemRandom

import aiohttp
import msgspec
from aiohttp import web
from yarl import URL

from anycastle.clock import Clock
from anycastle.errors import AnycastleError
from anycastle.replicator.acquaintance import Acquaintance
from anycastle.replicator.body import (
    BODY_PATH,
    CHUNK_BYTES,
    SMALL_PATH,
    BodySource,
    FetchError,
    asked,
    body_path,
    read_body,
    read_small,
    serve_body,
    serve_small,
    small_path,
)
from anycastle.replicator.body_thread import LARGE_BYTES, BodyReader, Where, pieces
from anycastle.replicator.certificate import DAY_SECONDS
from anycastle.replicator.edge_forward import FORWARD_PATH, ForwardError, ForwardRequest, once, raw_url
from anycastle.replicator.event import LinkDown, LinkUp, Received
from anycastle.replicator.identity import Identity
from anycastle.replicator.link import CLOSE_SECONDS, Link, LinkFault, Socket, der_of, message_bytes_max
from anycastle.replicator.listen import HTTP_LOG, Inherited, bind_listener, none_inherited, serving
from anycastle.replicator.listing import LISTING_PATH, Listing, ListingSource, listing_path, read_listing, serve_listing
from anycastle.replicator.message import Hello, Message
from anycastle.replicator.pace import Pace
from anycastle.replicator.packing import ZSTANDARD
from anycastle.replicator.pki import member_of, server_name
from anycastle.replicator.settings import LinkSettings

LINK_PATH = "/link"
REDIAL_SECONDS_MIN = 0.05
REDIAL_SECONDS_MAX = 2.0
LINK_GOOD_SECONDS = 5.0
"""A link that lasted so long makes the next redial quick again."""
FETCH_SILENCE_SECONDS = 10.0
CONNECT_SECONDS = 2.0
FILES_LOOK_SECONDS = 2.0
"""How often the TLS files are looked at for a change."""
CONNECTIONS_MAX = 2000
"""On the members' listener; a client's request that is forwarded here takes one."""
FIELD_BYTES_MAX = 64 * 1024
"""Of a forwarded request's header field; the edge in front has enforced its own, smaller limit."""

LinkEvent = LinkUp | LinkDown | Received
EdgeHandler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

_log = logging.getLogger("anycastle.replicator.peer")


class LinkError(AnycastleError):
    """The members' listener cannot be had as configured."""


class Links:
    """All links of one member."""

    def __init__(
        self,
        settings: LinkSettings,
        hello: Hello,
        *,
        compatible: Callable[[Hello], str],
        on_event: Callable[[LinkEvent], None],
        bodies: BodySource,
        clock: Clock,
        inherited: Inherited = none_inherited,
    ) -> None:
        """`compatible` says why a peer's rosters do not go with ours (rule 8), or the empty string.

        Raises PkiError when the TLS files cannot be used.
        """
        assert hello.member == settings.member
        self.settings = settings
        self.edge_handler: EdgeHandler | None = None
        """Answers what other members' edges forward here; set by the app."""
        self.acquaintance: Acquaintance | None = None
        """Knows whom we met before; set by the app."""
        self.listings: ListingSource | None = None
        """Tells other members what is alive here; set by the replica."""
        self.refused: Counter[str] = Counter()
        """Kind of fault -> how often a peer or stranger was turned away for it."""
        self.reconnects = 0
        self._hello = msgspec.structs.replace(hello, packing=(ZSTANDARD,) if settings.compress else ())
        self._compatible = compatible
        self._on_event = on_event
        self._bodies = bodies
        self._clock = clock
        self.identity = Identity(settings.tls)
        self._paces = {
            member: Pace(settings.body_bytes_per_second, settings.body_hours, self._hour) for member in settings.peers
        }
        self._fetches = asyncio.Semaphore(settings.fetches_max)
        self._fetch_threads = ThreadPoolExecutor(settings.fetches_max, "fetch")
        self._links: dict[str, Link] = {}
        self._told: set[tuple[str, str]] = set()
        self._refusals: dict[str, str] = {}
        self._unknown = 0
        """On links that are gone."""
        self._inherited = inherited
        self._listener: socket.socket | None = None
        self._session: aiohttp.ClientSession | None = None
        self._broken: asyncio.Future[None] | None = None

    @property
    def _client_ssl(self) -> ssl.SSLContext:
        return self.identity.client

    @property
    def address(self) -> tuple[str, int]:
        """Where the listener is bound, after `bind`."""
        assert self._listener is not None
        host, port = self._listener.getsockname()[:2]
        return host, port

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """What it listens on, for the process that comes after."""
        return (self._listener,) if self._listener is not None else ()

    def bind(self) -> None:
        """Take the port, so that a fault shows before anything starts. Raises LinkError. `run` does it if need be."""
        if self._listener is None:
            self._listener = bind_listener(self.settings.listen, "the members' links", LinkError, self._inherited)

    async def run(self) -> None:
        """Listen and dial until cancelled."""
        self.bind()
        assert self._listener is not None
        self._broken = asyncio.get_running_loop().create_future()
        server = web.Server(
            self._serve,
            access_log=None,
            logger=HTTP_LOG,
            auto_decompress=False,
            max_line_size=FIELD_BYTES_MAX,
            max_field_size=FIELD_BYTES_MAX,
        )
        try:
            async with (
                serving(
                    server,
                    [(self._listener, self.identity.server)],
                    connections_max=CONNECTIONS_MAX,
                    shutdown_seconds=CLOSE_SECONDS,
                ),
                self._new_session() as self._session,
            ):
                await self._run_links(self._broken)
        finally:
            self._broken.cancel()
            self._fetch_threads.shutdown(wait=False, cancel_futures=True)

    async def _run_links(self, broken: asyncio.Future[None]) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for member in sorted(self.settings.peers):
                    if self.settings.member < member:
                        group.create_task(self._dial(member))
                group.create_task(self._look_at_files())
                await broken
        finally:
            for link in tuple(self._links.values()):
                link.close("this member stops")

    async def _look_at_files(self) -> None:
        """A renewed certificate is used by the next connection; who is trusted no longer is cut off at once."""
        while True:
            await asyncio.sleep(FILES_LOOK_SECONDS)
            trouble = self.identity.trouble
            if await asyncio.to_thread(self.identity.look):
                ends = self.identity.certificates[0].valid_until - self._clock.wall()
                _log.info("event=certificates-loaded days_left=%.0f", ends / DAY_SECONDS)
                for link in tuple(self._links.values()):
                    if not self.identity.trusts(link.certificate):
                        link.close("its certificate is of an authority that is trusted no longer")
            elif self.identity.trouble != trouble:
                _log.warning("event=certificates-refused reason=%s", self.identity.trouble)

    def send(self, member: str, message: Message) -> bool:
        """Queue a message for a member; False when there is no link or its queue is full (try again later).

        Urgent messages overtake entries and marks. Raises FrameError when the message is longer than a frame may be.
        """
        link = self._links.get(member)
        return link is not None and link.send(message)

    def connected(self) -> frozenset[str]:
        return frozenset(self._links)

    def version(self, member: str) -> int:
        """Of the protocol, on the link that is up; 0 when there is none."""
        link = self._links.get(member)
        return link.version if link is not None else 0

    def refusal(self, member: str) -> str:
        """Why the last try to have a link with the member was refused; the empty string when it was not."""
        return self._refusals.get(member, "")

    def unknown_messages(self) -> int:
        """Of kinds that only newer members know, which were ignored."""
        return self._unknown + sum(link.unknown for link in self._links.values())

    def saved_bytes(self, member: str) -> int:
        """What packing did not have to send on the link that is up."""
        link = self._links.get(member)
        return link.saved_bytes if link is not None else 0

    def queued_bytes(self, member: str) -> int:
        """What waits to go out to the member."""
        link = self._links.get(member)
        return link.queued_bytes if link is not None else 0

    async def fetch(
        self, member: str, group: str, digest: bytes, size: int, offset: int
    ) -> AsyncIterator[bytes | memoryview]:
        """The content `digest` of `size` bytes from `offset` on, in chunks of at most 1 MiB, each good until the next.

        Raises FetchError when not all of it comes; what was yielded is good to go on from. At most `fetches_max` at a
        time, others wait. Leave it early only through `contextlib.aclosing`.
        """
        async with self._fetches:
            try:
                if size - offset >= LARGE_BYTES:
                    reader = BodyReader(self._where(member), body_path(group, digest), size=size, offset=offset)
                    async with aclosing(pieces(reader, self._fetch_threads)) as coming:
                        async for piece in coming:
                            yield piece
                    return
                async with self._open_session().get(
                    self._url(member, body_path(group, digest)),
                    ssl=self._client_ssl,
                    server_hostname=server_name(member),
                    headers=asked(offset, packed=self.settings.compress),
                    timeout=aiohttp.ClientTimeout(sock_connect=CONNECT_SECONDS, sock_read=FETCH_SILENCE_SECONDS),
                    read_bufsize=CHUNK_BYTES,
                ) as response:
                    async for chunk in read_body(response, size=size, offset=offset):
                        yield chunk
            except (aiohttp.ClientError, OSError) as error:
                raise FetchError(
                    f"{group} {digest.hex()[:16]} from {member}: {error or type(error).__name__}"
                ) from error

    async def fetch_small(self, member: str, group: str, digests: Sequence[bytes]) -> dict[bytes, bytes]:
        """Many small contents in one round trip, as many as it has; the caller checks them. Raises FetchError."""
        async with self._fetches:
            try:
                async with self._open_session().post(
                    self._url(member, small_path(group)),
                    ssl=self._client_ssl,
                    server_hostname=server_name(member),
                    data=b"".join(digests),
                    timeout=aiohttp.ClientTimeout(sock_connect=CONNECT_SECONDS, sock_read=FETCH_SILENCE_SECONDS),
                ) as response:
                    return await read_small(response, digests)
            except (aiohttp.ClientError, OSError) as error:
                raise FetchError(f"{group} from {member}: {error or type(error).__name__}") from error

    async def listing(self, member: str, group: str, origin: str, after: int) -> Listing:
        """What of a journal is alive at a member. Raises FetchError, ListingError."""
        try:
            async with self._open_session().get(
                self._url(member, listing_path(group, origin, after)),
                ssl=self._client_ssl,
                server_hostname=server_name(member),
                timeout=aiohttp.ClientTimeout(sock_connect=CONNECT_SECONDS, sock_read=FETCH_SILENCE_SECONDS),
            ) as response:
                return await read_listing(response)
        except (aiohttp.ClientError, OSError) as error:
            raise FetchError(f"listing of {group} from {member}: {error or type(error).__name__}") from error

    async def forward(self, member: str, request: ForwardRequest) -> aiohttp.ClientResponse:
        """Pass a client's request to another member's edge; the caller reads and releases the response.

        Raises ForwardError, at once when there is no link with that member and as soon as the link is lost: it would
        not answer this either. An answer under way breaks off then too.
        """
        link = self._links.get(member)
        if link is None:
            raise ForwardError(f"no link with {member}", sent=False)
        try:
            async with link.while_open():
                answer = await self._open_session().request(
                    request.method,
                    self._url(member, FORWARD_PATH + request.raw_path),
                    ssl=self._client_ssl,
                    server_hostname=server_name(member),
                    headers=request.headers,
                    skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent", "Content-Type"),
                    data=request.body,
                    allow_redirects=False,
                    read_until_eof=not request.upgrade,
                    middlewares=(once,),
                    timeout=aiohttp.ClientTimeout(sock_connect=CONNECT_SECONDS, sock_read=request.silence_seconds_max),
                )
            link.close_with(answer)
            return answer
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise ForwardError(f"{member} cannot be reached: {error}", sent=False) from error
        except (aiohttp.ClientError, OSError) as error:
            raise ForwardError(f"{member} did not answer: {error or type(error).__name__}", sent=True) from error

    def _new_session(self) -> aiohttp.ClientSession:
        source = self.settings.source_address
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(local_addr=(source, 0) if source is not None else None, limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
            max_line_size=FIELD_BYTES_MAX,
            max_field_size=FIELD_BYTES_MAX,
        )

    def _where(self, member: str) -> Where:
        return Where(
            address=self.settings.peers[member],
            source_address=self.settings.source_address,
            tls=self._client_ssl,
            name=server_name(member),
            connect_seconds=CONNECT_SECONDS,
            silence_seconds=FETCH_SILENCE_SECONDS,
        )

    def _open_session(self) -> aiohttp.ClientSession:
        assert self._session is not None, "Links.run is not running"
        return self._session

    def _url(self, member: str, raw_path: str) -> URL:
        host, port = self.settings.peers[member]
        return raw_url(URL.build(scheme="https", host=host, port=port), raw_path)

    async def _dial(self, member: str) -> None:
        """Keep a link with a member of a greater name."""
        random = SystemRandom()
        failures = 0
        while True:
            began = self._clock.now()
            try:
                async with asyncio.timeout(self.settings.hello_timeout_seconds):
                    websocket = await self._open_session().ws_connect(
                        self._url(member, LINK_PATH),
                        ssl=self._client_ssl,
                        server_hostname=server_name(member),
                        max_msg_size=message_bytes_max(self.settings),
                        timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_SECONDS),
                        autoclose=False,
                    )
            except (aiohttp.ClientError, OSError, ssl.SSLError) as error:
                self._tell(member, "unreachable", why_unreachable(error))
            else:
                await self._speak(self._link(member, websocket))
            self.reconnects += 1
            failures = 0 if self._clock.now() - began > LINK_GOOD_SECONDS else failures + 1
            await asyncio.sleep(redial_seconds(failures, random.uniform(0.5, 1.0)))

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        member = member_of(request.get_extra_info("peercert"))
        if member is None or member not in self.settings.peers:
            self.refused["stranger"] += 1
            self._tell(str(member), "stranger", "its certificate names no member that we know")
            return web.Response(status=403, text="not a member\n", headers={"Connection": "close"})
        if not self.identity.trusts(der_of(request)):  # a connection from before the authority was taken away
            self.refused["untrusted"] += 1
            return web.Response(status=403, text="not trusted any longer\n", headers={"Connection": "close"})
        path = request.raw_path
        if path == LINK_PATH:
            return await self._accept(member, request)
        if path.startswith(BODY_PATH):
            return await serve_body(request, self._bodies, self._paces[member], self._clock)
        if path.startswith(SMALL_PATH):
            return await serve_small(request, self._bodies, self._paces[member], self._clock)
        if path.startswith(LISTING_PATH) and self.listings is not None:
            return await serve_listing(request, self.listings)
        if path.startswith(FORWARD_PATH + "/") and self.edge_handler is not None:
            return await self.edge_handler(request)
        return web.Response(status=404, text="nothing here\n")

    async def _accept(self, member: str, request: web.BaseRequest) -> web.StreamResponse:
        websocket = web.WebSocketResponse(
            timeout=CLOSE_SECONDS, max_msg_size=message_bytes_max(self.settings), compress=False, autoclose=False
        )
        if self.settings.member < member or not websocket.can_prepare(request).ok:
            self.refused["dial"] += 1
            return web.Response(status=400, text="expected a WebSocket, from the member with the lesser name\n")
        await websocket.prepare(request)
        await self._speak(self._link(member, websocket))
        return websocket

    def _link(self, member: str, websocket: Socket) -> Link:
        return Link(member, websocket, self.settings, self._paces[member], self._clock)

    def _hour(self) -> int:
        """Of the day, as clocks on the wall have it here."""
        return time.localtime(self._clock.wall()).tm_hour

    async def _speak(self, link: Link) -> None:
        """Everything from the Hello to the end of one link."""
        fault, reason = "", "this member stops"
        try:
            ours = self.acquaintance.greet(self._hello, link.member) if self.acquaintance is not None else self._hello
            hello = await link.open(ours, self._fault)
            self._up(link, hello)
            reason = await link.run(lambda message: self._receive(link, message))
        except LinkFault as error:
            reason = fault = str(error)
            self.refused[error.kind] += 1
            self._refusals[link.member] = fault
            self._tell(link.member, error.kind, fault)
        except (aiohttp.ClientError, OSError) as error:
            reason = f"{error or type(error).__name__}"
        finally:
            self._down(link, reason)
            await link.shut(fault)

    def _fault(self, theirs: Hello) -> str:
        return self._compatible(theirs) or (self.acquaintance.fault(theirs) if self.acquaintance is not None else "")

    def _up(self, link: Link, hello: Hello) -> None:
        older = self._links.get(link.member)
        if older is not None:
            self._down(older, "replaced by a new link")
            older.close("replaced by a new link")
        self._links[link.member] = link
        self._refusals.pop(link.member, None)
        self._told = {(member, kind) for member, kind in self._told if member != link.member or kind != "unreachable"}
        _log.info("link with %s is up", link.member)
        knew = self.acquaintance is None or self.acquaintance.knew_another(hello)
        self._emit(LinkUp(link.member, hello.incarnation, knew))

    def _receive(self, link: Link, message: Message) -> None:
        if self._links.get(link.member) is link:
            self._emit(Received(link.member, message))

    def _down(self, link: Link, reason: str) -> None:
        if self._links.get(link.member) is link:
            del self._links[link.member]
            self._unknown += link.unknown
            link.lost()
            _log.info("link with %s is down: %s", link.member, reason)
            self._emit(LinkDown(link.member, reason))

    def _emit(self, event: LinkEvent) -> None:
        """A fault in the receiver of events is ours and not the peer's: it ends `run`, whichever task it came up in."""
        try:
            self._on_event(event)
        except Exception as error:
            if self._broken is not None and not self._broken.done():
                self._broken.set_exception(error)

    def _tell(self, member: str, kind: str, message: str) -> None:
        """Log a peer's fault, once per peer and kind: a hostile or broken peer does not fill the log."""
        if (member, kind) not in self._told and len(self._told) < 1000:
            self._told.add((member, kind))
            _log.warning("%s (%s): %s; further ones of this kind are only counted", member, kind, message)


def redial_seconds(failures: int, share: float) -> float:
    """How long to wait before the next dial; `share` is drawn at random, so that members do not come all at once."""
    return min(REDIAL_SECONDS_MAX, REDIAL_SECONDS_MIN * 2.0 ** min(failures, 10)) * share


def why_unreachable(error: Exception) -> str:
    """In the system's words where they are known: the HTTP library's hold an object's address instead."""
    if not isinstance(error, aiohttp.ClientConnectorError):
        return str(error) or type(error).__name__
    cause = error.os_error
    if cause.errno is None or isinstance(cause, (ssl.SSLError, socket.gaierror)):
        return f"{error.host}:{error.port}: {cause}"
    return f"{error.host}:{error.port}: {os.strerror(cause.errno)}"
