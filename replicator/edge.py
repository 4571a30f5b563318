"""The edge: a streaming reverse proxy before unmodified software, which asks the gate before every answer.

Laws: a request is understood by us as by everybody behind us, or refused (`edge_request`); what is answered is decided
in `edge_answer`; when the edge ends, nobody is let in any more, and what is under way ends in order, within a bound.

    client → guard (time, connections) → HTTP library → request → target (group, path) → answer
    member → links → `handle_forwarded` →                         target (group, path) → answer
"""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable
from functools import partial
from weakref import WeakSet

from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from multidict import CIMultiDict

from anycastle.clock import Clock, SystemClock
from anycastle.errors import AnycastleError
from anycastle.replicator import edge_headers as fields
from anycastle.replicator.edge_access import AccessLog
from anycastle.replicator.edge_answer import RETRY_SECONDS, Answers
from anycastle.replicator.edge_client import Proxies, with_client
from anycastle.replicator.edge_elsewhere import ForwardCall
from anycastle.replicator.edge_exchange import VERDICT, Exchange, RequestBody, Voice
from anycastle.replicator.edge_forward import FORWARD_PATH, HOP_HEADER
from anycastle.replicator.edge_gate import Eligible, GatePort
from anycastle.replicator.edge_guard import Connection, Crowd, Guard, guard_of
from anycastle.replicator.edge_hosts import HostCounts
from anycastle.replicator.edge_request import RequestFault, check, origin_form
from anycastle.replicator.edge_target import TargetError, Targets
from anycastle.replicator.edge_tls import LOOK_SECONDS, Certificates
from anycastle.replicator.listen import HTTP_LOG, Inherited, bind_listener, let_leave, none_inherited, serving
from anycastle.replicator.round_trip import OnRoundTrip, RoundTrips
from anycastle.replicator.settings import EdgeSettings, GroupSettings

log = logging.getLogger("anycastle.replicator.edge")

IDLE_SECONDS = 75.0
"""A client's connection that asks nothing for so long is closed."""
LINGER_SECONDS = 2.0
"""What a client still sends when it is answered already is read for so long, so that it hears the answer."""
SHUTDOWN_SECONDS = 1.0
"""For requests that were not done when the time to finish was over."""


GIVEN = ("serve", "write", "forward", "refuse", "fault")
"""What becomes of requests: counted from zero, so that the first of a kind is seen as an increase."""


class EdgeError(AnycastleError):
    """The edge's listener cannot be had as configured."""


class Edge:
    """One site's edge, for all its groups."""

    def __init__(
        self,
        settings: EdgeSettings,
        groups: tuple[GroupSettings, ...],
        gate: GatePort,
        *,
        forward: ForwardCall,
        on_request: Callable[[str], None] = lambda group: None,
        on_round_trip: OnRoundTrip = lambda address, seconds: None,
        eligible: Eligible = lambda site, group, prefix: True,
        clock: Clock | None = None,
        inherited: Inherited = none_inherited,
    ) -> None:
        """`forward` is `Links.forward`; `on_request` hears the group of each request that belongs to one;
        `on_round_trip` hears once of each connection from outside that was answered.

        Raises EdgeTlsError when certificates cannot be used.
        """
        self.settings = settings
        self.round_trips = RoundTrips(on_round_trip)
        self.certificates = Certificates(settings.certificates) if settings.certificates else None
        self.hosts = HostCounts()
        self._answers = Answers(
            settings, groups, gate, forward=forward, eligible=eligible, clock=clock or SystemClock()
        )
        self._targets = Targets(groups)
        self._on_request = on_request
        self._proxies = Proxies(settings.trusted_proxies)
        self._crowd = Crowd(settings, self._proxies)
        self._access = AccessLog(settings.access_log, settings.site, self._proxies)
        self._outside = Voice(settings.site, told=settings.verdict_headers)
        self._between = Voice(settings.site, told=True)
        self._inherited = inherited
        self._listeners: list[tuple[socket.socket, ssl.SSLContext | None]] = []
        self._open: WeakSet[Guard] = WeakSet()
        """Connections from outside; those whose TLS handshake is under way, too."""
        self._under_way = 0

    @property
    def addresses(self) -> tuple[tuple[str, int], ...]:
        """Where it listens, after `bind`; those with TLS last."""
        return tuple(listener.getsockname()[:2] for listener, _ in self._listeners)

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """What it listens on, for the process that comes after."""
        return tuple(listener for listener, _ in self._listeners)

    @property
    def answers(self) -> dict[str, int]:
        """What became of requests (serve, write, forward, refuse, fault) -> how many."""
        return dict(self._answers.given)

    def counters(self) -> dict[str, int]:
        """For metrics: what only grows."""
        return {
            **dict.fromkeys(GIVEN, 0),
            **self._answers.given,
            **{f"reason_{reason}": count for reason, count in self._answers.reasons.items()},
            "round_trips": self.round_trips.sampled,
            "slow_fences": self._answers.slow_fences,
            "fences": self._answers.fences_ended,
            "fence_microseconds": self._answers.fence_microseconds,
            "clients_turned_away": self._crowd.turned_away,
            "clients_too_slow": self._crowd.too_slow,
            "access_lines_lost": self._access.lost,
            "certificate_reloads": self.certificates.reloads if self.certificates is not None else 0,
        }

    def levels(self, *, wall: float) -> dict[str, int]:
        """For metrics: how it stands now."""
        found = {"open_requests": self._under_way, "websocket_connections": self._answers.websockets}
        if self.certificates is not None:
            ends = min(each.valid_until for each in self.certificates.certificates)
            found["certificate_left_seconds"] = int(ends - wall)
        return found

    def faults(self, *, wall: float) -> tuple[str, ...]:
        """What an operator should know, a sentence each."""
        return self.certificates.faults(wall=wall) if self.certificates is not None else ()

    def bind(self) -> None:
        """Take the ports, so that a fault shows before anything starts. Raises EdgeError. `run` does it if need be."""
        if self._listeners:
            return
        tls = self.certificates.server if self.certificates is not None else None
        for address in self.settings.listen:
            self._listeners.append((bind_listener(address, "the edge", EdgeError, self._inherited), None))
        for address in self.settings.tls_listen:
            listener = bind_listener(address, "the edge with TLS", EdgeError, self._inherited)
            self._listeners.append((listener, tls))

    def close(self) -> None:
        """Let go of ports that were taken and never served."""
        for listener, _ in self._listeners:
            listener.close()
        self._listeners.clear()

    async def run(self) -> None:
        """Serve until cancelled; what is under way then may finish, within `drain_seconds_max`."""
        self.bind()
        self._outside.last = False
        with self._access.open():
            # The sum of the fields is checked here and answered 431; one alone beyond twice the limit is a plain 400.
            size = 2 * self.settings.header_bytes_max
            server = web.Server(self._handle)
            inner = partial(
                Connection,
                server,
                voice=self._outside,
                loop=asyncio.get_running_loop(),
                access_log=self._access.logger,
                access_log_class=self._access.line_class(),
                logger=HTTP_LOG,
                auto_decompress=False,
                lingering_time=LINGER_SECONDS,
                keepalive_timeout=IDLE_SECONDS,
                max_line_size=size,
                max_field_size=size,
            )
            accepting = serving(
                server,
                self._listeners,
                connections_max=self.settings.connections_max,
                shutdown_seconds=SHUTDOWN_SECONDS,
                connection=lambda: self._let_in(inner()),
                finish=self._finish,
            )
            answers = self._answers
            try:
                async with answers.applications.open(), asyncio.TaskGroup() as answers.fences, accepting:
                    await self._look_at_certificates()
            finally:
                answers.fences = None

    def _let_in(self, inner: RequestHandler) -> Guard:
        guard = Guard(self._crowd, inner)
        self._open.add(guard)
        return guard

    async def _look_at_certificates(self) -> None:
        """For ever."""
        while self.certificates is not None:
            await asyncio.sleep(LOOK_SECONDS)
            trouble = self.certificates.trouble
            if await asyncio.to_thread(self.certificates.look):
                log.info("event=edge-certificates-loaded")
            elif self.certificates.trouble != trouble:
                log.warning("event=edge-certificates-refused reason=%s", self.certificates.trouble)
        await asyncio.get_running_loop().create_future()

    async def _finish(self) -> None:
        """Answers that come now end their connections."""
        self._outside.last = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.settings.drain_seconds_max):
                await let_leave(lambda: any(guard.open for guard in self._open), lambda: self._under_way > 0)

    # -- from the request to its group ------------------------------------------------------------------------------

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """A request from outside."""
        guard = guard_of(request)
        if guard is not None:
            guard.begun()
        self._under_way += 1
        try:
            answer = await self._from_outside(request)
        finally:
            self._under_way -= 1
            if guard is not None:
                guard.ended()
        if not answer.prepared and (self._outside.last or "Transfer-Encoding" in request.headers):
            answer.force_close()  # as `Exchange.end_connection`
        self.round_trips.look(request.transport)  # before it may close; links between members never come here
        return answer

    async def _from_outside(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            check((request.version.major, request.version.minor), request.method, request.raw_headers)
            raw_path = origin_form(request.raw_path, request.headers["Host"])
        except RequestFault as fault:
            self._answers.given["fault"] += 1
            answer = self._outside.plain(fault.status, "fault", str(fault))
            answer.force_close()  # where it ends, and so where the next one begins, is not known
            return answer
        remote = request.remote or "unknown"
        headers = with_client(
            fields.end_to_end(request.headers),
            remote=remote,
            scheme=request.scheme,
            trusted=self._proxies.trusts(remote),
        )
        return await self._answer(request, raw_path, headers, hops="")

    async def handle_forwarded(self, request: web.BaseRequest) -> web.StreamResponse:
        """A request passed on by another member: `Links.edge_handler`. What it says of its client is believed."""
        hops = request.headers.get(HOP_HEADER) or "another member"
        raw_path = request.raw_path.removeprefix(FORWARD_PATH)
        self._under_way += 1
        try:
            return await self._answer(request, raw_path, fields.end_to_end(request.headers), hops=hops)
        finally:
            self._under_way -= 1

    async def _answer(
        self, request: web.BaseRequest, raw_path: str, headers: CIMultiDict[str], *, hops: str
    ) -> web.StreamResponse:
        voice = self._between if hops else self._outside
        if self._answers.fences is None:
            return voice.plain(503, "refuse", "this edge is not running", retry_after_seconds=RETRY_SECONDS)
        received = sum(len(name) + len(value) + 4 for name, value in request.raw_headers) + len(raw_path)
        if received > self.settings.header_bytes_max:
            self._answers.given["fault"] += 1
            line = f"the header fields may have at most {self.settings.header_bytes_max} bytes"
            return voice.plain(431, "fault", line)
        try:
            hosts = request.headers.getall("Host", ())
            target = self._targets.find(hosts[0] if len(hosts) == 1 else "", raw_path)
        except TargetError as error:
            self._answers.given["fault"] += 1
            fault = voice.plain(error.status, "fault", str(error))
            if error.status == 400:
                fault.force_close()
            return fault
        self._on_request(target.group.name)
        exchange = Exchange(
            request=request,
            target=target,
            raw_path=raw_path,
            headers=headers,
            body=RequestBody(request, self.settings),
            hops=hops,
            voice=voice,
        )
        answer = await self._answers.answer(exchange)
        if not answer.prepared:
            exchange.end_connection(answer)
        if not hops:
            refused = request.get(VERDICT) == "refuse"
            self.hosts.count(request.headers["Host"].lower(), write=target.writes(request.method), refused=refused)
        return answer
