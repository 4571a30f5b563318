"""The edge: a streaming reverse proxy before unmodified software, which asks the gate before every answer.

Laws (design section 5, rules 5 to 7): a read is judged after it arrived, each one anew; a write's answer is held until
the gate says that its changes are fenced, and a client that goes away does not stop that; a request that may have had
an effect is never sent twice; a request that came from another member is never passed on again.

    read    admit → Serve: application, admit again · Forward: first member that answers · Refuse: 503
    write   may_write, before_write → None: application, fence, released · Forward: first member reached · Refuse: 503
"""

import asyncio
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Protocol, assert_never

import aiohttp
from aiohttp import web
from multidict import CIMultiDict

from anycastle.errors import AnycastleError
from anycastle.replicator import edge_headers as fields
from anycastle.replicator.edge_application import ApplicationFault, Applications
from anycastle.replicator.edge_exchange import Exchange, RequestBody, plain_answer, read_held
from anycastle.replicator.edge_forward import FORWARD_PATH, HOP_HEADER, ForwardError, ForwardRequest
from anycastle.replicator.edge_target import TargetError, Targets
from anycastle.replicator.gate import Forward, Refuse, Serve
from anycastle.replicator.listen import HTTP_LOG, bind_listener, serving
from anycastle.replicator.round_trip import OnRoundTrip, RoundTrips
from anycastle.replicator.settings import READS, EdgeSettings, GroupSettings

IDLE_SECONDS = 75.0
"""A client's connection that asks nothing for so long is closed."""
SHUTDOWN_SECONDS = 1.0
JUDGEMENTS_MAX = 4
"""Of one read whose content changes each time while the application reads it."""
RETRY_SECONDS = 1
"""Told to clients when nobody knows better."""

ForwardCall = Callable[[str, ForwardRequest], Awaitable[aiohttp.ClientResponse]]


class EdgeError(AnycastleError):
    """The edge's listener cannot be had as configured."""


class GatePort(Protocol):
    """What the edge asks of the replicator."""

    async def admit(
        self, group: str, path: bytes | None, prefix: bytes, *, meanwhile: bool = True
    ) -> Serve | Forward | Refuse:
        """Judge a read; waits, within the group's bound, for what will soon be known.

        Without `meanwhile` only for what is known already: then ask again when the answer is made.
        """
        ...

    def may_write(self, group: str) -> Forward | Refuse | None:
        """Judge a write before it reaches the application; None lets it."""
        ...

    async def before_write(self, group: str, prefix: bytes) -> Forward | Refuse | None:
        """Wait until what is known below the prefix is here, for software reads before it writes; None lets it."""
        ...

    async def fence(self, group: str) -> Refuse | None:
        """Wait until every change made so far in the group is fenced, and landed at as many sites as it asks for."""
        ...


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
    ) -> None:
        """`forward` is `Links.forward`; `on_request` hears the group of each request that belongs to one;
        `on_round_trip` hears once of each connection from outside that was answered."""
        self.settings = settings
        self.answers: Counter[str] = Counter()
        """What became of requests (serve, write, forward, refuse, fault) -> how many."""
        self._targets = Targets(groups)
        self._applications = Applications(settings, groups)
        self._gate = gate
        self._forward_call = forward
        self._on_request = on_request
        self.round_trips = RoundTrips(on_round_trip)
        self._listeners: list[socket.socket] = []
        self._fences: asyncio.TaskGroup | None = None

    @property
    def addresses(self) -> tuple[tuple[str, int], ...]:
        """Where it listens, after `bind`."""
        return tuple(listener.getsockname()[:2] for listener in self._listeners)

    def bind(self) -> None:
        """Take the ports, so that a fault shows before anything starts. Raises EdgeError. `run` does it if need be."""
        for address in self.settings.listen[len(self._listeners) :]:
            self._listeners.append(bind_listener(address, "the edge", EdgeError))

    async def run(self) -> None:
        """Serve until cancelled; fences under way are then given up."""
        self.bind()
        # The sum of the fields is checked here and answered 431; one alone beyond twice the limit is a plain 400.
        size = 2 * self.settings.header_bytes_max
        server = web.Server(
            self._handle,
            access_log=None,
            logger=HTTP_LOG,
            auto_decompress=False,
            keepalive_timeout=IDLE_SECONDS,
            max_line_size=size,
            max_field_size=size,
        )
        accepting = serving(
            server,
            self._listeners,
            connections_max=self.settings.connections_max,
            shutdown_seconds=SHUTDOWN_SECONDS,
        )
        try:
            async with self._applications.open(), asyncio.TaskGroup() as self._fences, accepting:
                await asyncio.get_running_loop().create_future()
        finally:
            self._fences = None

    # -- from the request to its group ------------------------------------------------------------------------------

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """A request from outside."""
        headers = fields.end_to_end(request.headers)
        headers = fields.with_client(headers, remote=request.remote or "unknown", scheme=request.scheme)
        answer = await self._answer(request, request.raw_path, headers, hops="")
        self.round_trips.look(request.transport)  # before it may close; links between members never come here
        return answer

    async def handle_forwarded(self, request: web.BaseRequest) -> web.StreamResponse:
        """A request passed on by another member: `Links.edge_handler`. What it says of its client is believed."""
        hops = request.headers.get(HOP_HEADER) or "another member"
        raw_path = request.raw_path.removeprefix(FORWARD_PATH)
        return await self._answer(request, raw_path, fields.end_to_end(request.headers), hops=hops)

    async def _answer(
        self, request: web.BaseRequest, raw_path: str, headers: CIMultiDict[str], *, hops: str
    ) -> web.StreamResponse:
        site = self.settings.site
        if self._fences is None:
            return plain_answer(site, 503, "refuse", "this edge is not running", retry_after_seconds=RETRY_SECONDS)
        received = sum(len(name) + len(value) + 4 for name, value in request.raw_headers) + len(raw_path)
        if received > self.settings.header_bytes_max:
            self.answers["fault"] += 1
            line = f"the header fields may have at most {self.settings.header_bytes_max} bytes"
            return plain_answer(site, 431, "fault", line)
        try:
            hosts = request.headers.getall("Host", ())
            target = self._targets.find(hosts[0] if len(hosts) == 1 else "", raw_path)
        except TargetError as error:
            self.answers["fault"] += 1
            return plain_answer(site, error.status, "fault", str(error))
        self._on_request(target.group.name)
        body = RequestBody(request, bytes_max=self.settings.body_bytes_max)
        exchange = Exchange(
            request=request, target=target, raw_path=raw_path, headers=headers, body=body, hops=hops, site=site
        )
        try:
            return await (self._read(exchange) if request.method in READS else self._write(exchange))
        except ApplicationFault as fault:
            self.answers["fault"] += 1
            return exchange.plain(fault.status, "fault", str(fault))

    # -- reads ------------------------------------------------------------------------------------------------------

    async def _read(self, exchange: Exchange) -> web.StreamResponse:
        """Judged before the application is asked, and again when it answers: what came in between must not show."""
        target = exchange.target
        for _ in range(JUDGEMENTS_MAX):
            verdict = await self._gate.admit(target.group.name, target.path, target.prefix, meanwhile=False)
            match verdict:
                case Forward():
                    return await self._forward(exchange, verdict, write=False)
                case Refuse():
                    return self._refuse(exchange, verdict)
                case Serve():
                    answer = await self._serve(exchange, verdict)
                    if answer is not None:
                        return answer
                case _:
                    assert_never(verdict)
            if exchange.body.started:
                break
        return self._refuse(exchange, Refuse("it changed each time while it was read", RETRY_SECONDS))

    async def _serve(self, exchange: Exchange, verdict: Serve) -> web.StreamResponse | None:
        """From the application here; None when the gate says something else by the time it answers.

        With a query it may be a picture made on the fly: then the hash says nothing.
        """
        known = verdict.digest is not None and exchange.request.method != "OPTIONS" and "?" not in exchange.raw_path
        etag = fields.entity_tag(verdict.digest) if known and verdict.digest is not None else ""
        asked = fields.without_conditions(exchange.headers, etag) if etag else exchange.headers
        upstream = await self._applications.ask(exchange, asked, write=False)
        target = exchange.target
        again = await self._gate.admit(target.group.name, target.path, target.prefix, meanwhile=False)
        if not isinstance(again, Serve) or again.version != verdict.version:
            upstream.close()
            return None
        self.answers["serve"] += 1
        headers = fields.end_to_end(upstream.headers)
        if upstream.status == 404:
            headers = fields.uncached(headers)  # the next upload may make it wrong
        if etag and upstream.status in (200, 206):
            headers = fields.tagged(headers, etag)
            if upstream.status == 200 and fields.none_match_fails(exchange.headers, etag):
                upstream.close()
                return web.Response(status=304, headers=exchange.answer_headers(fields.not_modified(headers), "serve"))
        return await exchange.relay(upstream, headers, "serve")

    # -- writes -----------------------------------------------------------------------------------------------------

    async def _write(self, exchange: Exchange) -> web.StreamResponse:
        group = exchange.target.group.name
        verdict = self._gate.may_write(group) or await self._gate.before_write(group, exchange.target.prefix)
        match verdict:
            case Forward():
                return await self._forward(exchange, verdict, write=True)
            case Refuse():
                return self._refuse(exchange, verdict)
            case None:
                pass
            case _:
                assert_never(verdict)
        upstream = await self._applications.ask(exchange, exchange.headers, write=True)
        async with upstream:
            held = await self._hold(upstream, group)
        refusal = await self._fenced(group)
        if refusal is not None:
            return self._refuse(exchange, refusal)
        self.answers["write"] += 1
        headers = fields.end_to_end(upstream.headers)
        headers.popall("Content-Length", None)
        return web.Response(
            status=upstream.status, reason=upstream.reason, headers=exchange.answer_headers(headers, "write"), body=held
        )

    async def _hold(self, upstream: aiohttp.ClientResponse, group: str) -> bytes:
        try:
            held = await read_held(upstream, bytes_max=self.settings.response_held_bytes_max)
        except (aiohttp.ClientError, OSError) as error:
            raise ApplicationFault(502, f"the application of {group} broke off its answer") from error
        if held is None:
            limit = self.settings.response_held_bytes_max
            raise ApplicationFault(502, f"the answer to a write may have at most {limit} bytes")
        return held

    async def _fenced(self, group: str) -> Refuse | None:
        """The gate's word on a write. The fence runs on when the client's connection, and so our task, ends."""
        assert self._fences is not None
        return await asyncio.shield(self._fences.create_task(self._fence(group)))

    async def _fence(self, group: str) -> Refuse | None:
        try:
            return await self._gate.fence(group)
        except AnycastleError as error:
            return Refuse(f"the write could not be fenced: {error}", RETRY_SECONDS)

    # -- elsewhere --------------------------------------------------------------------------------------------------

    def _refuse(self, exchange: Exchange, verdict: Refuse) -> web.Response:
        self.answers["refuse"] += 1
        return exchange.plain(503, "refuse", verdict.reason, retry_after_seconds=verdict.retry_after_seconds)

    async def _forward(self, exchange: Exchange, verdict: Forward, *, write: bool) -> web.StreamResponse:
        """Through the first member, in the gate's order, that answers."""
        if exchange.hops:
            return self._refuse(exchange, Refuse(f"passed on by {exchange.hops}: {verdict.reason}", RETRY_SECONDS))
        if exchange.body.too_long:
            raise ApplicationFault(413, f"a request body may have at most {self.settings.body_bytes_max} bytes")
        problems: list[str] = []
        for site in verdict.sites:
            try:
                upstream = await self._forward_call(site, self._forward_request(exchange))
            except ForwardError as error:
                problems.append(str(error))
                if exchange.body.too_long:
                    raise ApplicationFault(413, "the request body is too long") from error
                if exchange.body.started or (write and error.sent):
                    raise ApplicationFault(502, f"the request may or may not have been done: {error}") from error
                continue
            if not write and not exchange.body.started and _refused(upstream):
                upstream.close()
                problems.append(f"{site} refused")
                continue
            self.answers["forward"] += 1
            headers = fields.uncached(fields.end_to_end(upstream.headers))
            return await exchange.relay(upstream, headers, f"forward {site}")
        tried = "; ".join(problems) or "no other site has it"
        return self._refuse(exchange, Refuse(f"{verdict.reason}: {tried}", RETRY_SECONDS))

    def _forward_request(self, exchange: Exchange) -> ForwardRequest:
        group = exchange.target.group
        return ForwardRequest(
            method=exchange.request.method,
            raw_path=exchange.raw_path,
            headers=fields.with_hop(exchange.headers, self.settings.site),
            body=exchange.body.stream(),
            silence_seconds_max=self.settings.application_timeout_seconds
            + max(group.fence_timeout_seconds, group.wait_max_seconds),
        )


def _refused(upstream: aiohttp.ClientResponse) -> bool:
    return upstream.status == 503 and upstream.headers.get("X-Anycastle-Verdict") == "refuse"
