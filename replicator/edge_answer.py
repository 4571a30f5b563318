"""How the edge comes to an answer: the gate's verdict on a request, carried out.

Laws (design section 5, rules 5 to 7): a read is judged after it arrived, and again when its answer is at hand, each one
anew; a write's answer is held until the gate says that its changes are fenced, and a client that goes away does not
stop that; a request that may have had an effect is never sent twice; one that came from another member stays here.

    read    admit → Serve: file or application, admit again · Forward: first member that answers · Refuse: 503
    write   may_write, before_write → None: application, fence, released · Forward: first member reached · Refuse: 503
"""

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import assert_never

import aiohttp
from aiohttp import web
from multidict import CIMultiDict

from anycastle.clock import Clock
from anycastle.errors import AnycastleError
from anycastle.replicator import edge_headers as fields
from anycastle.replicator.edge_application import ApplicationDown, Applications
from anycastle.replicator.edge_elsewhere import Answered, Elsewhere, ForwardCall, Unanswered
from anycastle.replicator.edge_exchange import Exchange, NoAnswer, read_held
from anycastle.replicator.edge_gate import Eligible, GatePort
from anycastle.replicator.edge_home import Homes, home_first
from anycastle.replicator.edge_reason import word
from anycastle.replicator.edge_static import open_static, send
from anycastle.replicator.edge_tunnel import tunnel, wanted
from anycastle.replicator.gate import Forward, Refuse, Serve
from anycastle.replicator.settings import EdgeSettings, GroupSettings

log = logging.getLogger("anycastle.replicator.edge")

JUDGEMENTS_MAX = 4
"""Of one read whose content changes each time while the application reads it."""
RETRY_SECONDS = 1
"""Told to clients when nobody knows better."""
AT_HOME = "at home there"
SLOW_FENCE_SECONDS = 1.0
"""No round trip on earth takes that long: somebody is waited for."""
SLOW_TOLD_SECONDS = 5.0
"""Of one group; when one is waited for, so are all that follow."""


@dataclass(frozen=True, slots=True)
class Changed:
    """What was read is no longer what the gate judged: nothing was shown of it, and it is judged anew."""


class Answers:
    """One site's, for all its groups."""

    def __init__(
        self,
        settings: EdgeSettings,
        groups: Iterable[GroupSettings],
        gate: GatePort,
        *,
        forward: ForwardCall,
        eligible: Eligible,
        clock: Clock,
    ) -> None:
        groups = tuple(groups)
        self.applications = Applications(settings, groups)
        self.given: Counter[str] = Counter()
        """What became of requests (serve, write, forward, refuse, fault) -> how many."""
        self.reasons: Counter[str] = Counter()
        """The same of those that were not simply served, with the reason in a word: `refuse_not_current`."""
        self.slow_fences = 0
        self.fences_ended = 0
        """Refused ones too."""
        self.fence_microseconds = 0
        """What these took together."""
        self._slow_told: dict[str, float] = {}
        self.websockets = 0
        """Open now."""
        self.fences: asyncio.TaskGroup | None = None
        """Set while the edge runs."""
        self._settings = settings
        self._gate = gate
        self._elsewhere = Elsewhere(settings, forward)
        self._homes = Homes(settings, groups, eligible=eligible, clock=clock)

    async def answer(self, exchange: Exchange) -> web.StreamResponse:
        """Whatever it takes; what goes wrong is an answer too."""
        try:
            writes = exchange.target.writes(exchange.request.method)
            return await (self._write(exchange) if writes else self._read(exchange))
        except NoAnswer as fault:
            self.given["fault"] += 1
            self.reasons[f"fault_{fault.status}"] += 1
            return exchange.plain(fault.status, "fault", str(fault))

    # -- reads ------------------------------------------------------------------------------------------------------

    async def _read(self, exchange: Exchange) -> web.StreamResponse:
        """Judged before the application is asked, and again when it answers: what came in between must not show."""
        target, home = exchange.target, self._homes.elsewhere(exchange)
        if home and not target.static:
            passed = await self._pass_on(exchange, Forward((home,), AT_HOME), write=False)
            if not isinstance(passed, Unanswered):
                return passed
        for _ in range(JUDGEMENTS_MAX):
            verdict = await self._gate.admit(target.group.name, target.path, target.prefix, meanwhile=False)
            match verdict:
                case Forward():
                    return await self._forward(exchange, home_first(verdict, home), write=False)
                case Refuse():
                    return self._refuse(exchange, verdict)
                case Serve():
                    try:
                        answer = await self._serve_file(exchange, verdict) or await self._serve(exchange, verdict)
                    except ApplicationDown as down:
                        return await self._instead(exchange, down, write=False)
                    if not isinstance(answer, Changed):
                        return answer
                case _:
                    assert_never(verdict)
            if exchange.body.started:
                break
        return self._refuse(exchange, Refuse("it changed each time while it was read", RETRY_SECONDS))

    async def _still(self, exchange: Exchange, verdict: Serve) -> bool:
        """The gate says the same of it by now."""
        target = exchange.target
        again = await self._gate.admit(target.group.name, target.path, target.prefix, meanwhile=False)
        return isinstance(again, Serve) and again.version == verdict.version

    async def _serve_file(self, exchange: Exchange, verdict: Serve) -> web.StreamResponse | Changed | None:
        """From the disk; None when that is not for us to do."""
        target = exchange.target
        if not target.static or target.path is None or exchange.request.method not in ("GET", "HEAD"):
            return None
        file = open_static(target.group, target.path)
        if file is None:
            return None
        try:
            if not await self._still(exchange, verdict):
                return Changed()
            self.given["serve"] += 1
            return await send(exchange, file, verdict, silence_seconds_max=self._settings.silence_seconds_max)
        finally:
            file.close()

    async def _serve(self, exchange: Exchange, verdict: Serve) -> web.StreamResponse | Changed:
        """From the application here; `Changed` when the gate says something else by the time it answers.

        With a query it may be a picture made on the fly: then the hash says nothing.
        """
        if exchange.hops:
            await exchange.body.begin()  # as for a write
        upgrade = wanted(exchange.request)
        known = verdict.digest is not None and exchange.request.method != "OPTIONS" and "?" not in exchange.raw_path
        etag = fields.entity_tag(verdict.digest) if known and verdict.digest is not None else ""
        asked = fields.without_conditions(exchange.headers, etag) if etag else exchange.headers
        if upgrade is not None:
            self._count_websockets()
            asked = asked.copy()
            asked.update(upgrade)
        upstream = await self.applications.ask(exchange, asked, write=False, upgrade=upgrade is not None)
        if not await self._still(exchange, verdict):
            upstream.close()
            return Changed()
        self.given["serve"] += 1
        headers = fields.end_to_end(upstream.headers)
        if upstream.status == 101 and upgrade is not None:
            return await self._tunnel(exchange, upstream, headers, "serve")
        if upstream.status == 404:
            headers = fields.uncached(headers)  # the next upload may make it wrong
        if etag and upstream.status in (200, 206):
            headers = fields.tagged(headers, etag)
            if upstream.status == 200 and fields.none_match_fails(exchange.headers, etag):
                upstream.close()
                signed = exchange.signed(fields.not_modified(headers), "serve", verdict.version)
                return web.Response(status=304, headers=signed)
        return await exchange.relay(upstream, self._homes.mark(exchange, headers), "serve", verdict.version)

    # -- writes -----------------------------------------------------------------------------------------------------

    async def _write(self, exchange: Exchange) -> web.StreamResponse:
        group = exchange.target.group
        home = self._homes.elsewhere(exchange) if not group.writes else ""
        verdict = self._gate.may_write(group.name)
        if verdict is None and home:
            passed = await self._pass_on(exchange, Forward((home,), AT_HOME), write=True)
            if not isinstance(passed, Unanswered):
                return passed
        verdict = verdict or await self._gate.before_write(group.name, exchange.target.prefix)
        match verdict:
            case Forward():
                return await self._forward(exchange, home_first(verdict, home), write=True)
            case Refuse():
                return self._refuse(exchange, verdict)
            case None:
                try:
                    return await self._do(exchange)
                except ApplicationDown as down:
                    return await self._instead(exchange, down, write=True)
            case _:
                assert_never(verdict)

    async def _do(self, exchange: Exchange) -> web.StreamResponse:
        """The write itself, here."""
        group = exchange.target.group.name
        if exchange.hops:
            await exchange.body.begin()  # a member that gave up meanwhile must find that nothing was done
        with self._gate.writing(group):
            upstream = await self.applications.ask(exchange, exchange.headers, write=True)
            async with upstream:
                held = await self._hold(upstream, group)
            refusal = await self._fenced(exchange.target.group)
        if refusal is not None:
            return self._refuse(exchange, refusal)
        self.given["write"] += 1
        headers = self._homes.mark(exchange, fields.end_to_end(upstream.headers))
        headers.popall("Content-Length", None)
        signed = exchange.signed(headers, "write")
        return web.Response(status=upstream.status, reason=upstream.reason, headers=signed, body=held)

    async def _hold(self, upstream: aiohttp.ClientResponse, group: str) -> bytes:
        try:
            held = await read_held(upstream, bytes_max=self._settings.response_held_bytes_max)
        except (aiohttp.ClientError, OSError) as error:
            raise NoAnswer(502, f"the application of {group} broke off its answer") from error
        if held is None:
            limit = self._settings.response_held_bytes_max
            raise NoAnswer(502, f"the answer to a write may have at most {limit} bytes")
        return held

    async def _fenced(self, group: GroupSettings) -> Refuse | None:
        """The gate's word on a write. The fence runs on when the client's connection, and so our task, ends."""
        assert self.fences is not None
        return await asyncio.shield(self.fences.create_task(self._fence(group)))

    async def _fence(self, group: GroupSettings) -> Refuse | None:
        if group.settle_seconds:
            await asyncio.sleep(group.settle_seconds)  # what the software does after its answer is fenced with it
        loop = asyncio.get_running_loop()
        began, slow = loop.time(), loop.call_later(SLOW_FENCE_SECONDS, self._tell_slow, group.name)
        try:
            return await self._gate.fence(group.name)
        except AnycastleError as error:
            return Refuse(f"the write could not be fenced: {error}", RETRY_SECONDS)
        finally:
            slow.cancel()
            self.fences_ended += 1
            self.fence_microseconds += round((loop.time() - began) * 1e6)

    def _tell_slow(self, group: str) -> None:
        self.slow_fences += 1
        now = asyncio.get_running_loop().time()
        if now < self._slow_told.get(group, -math.inf) + SLOW_TOLD_SECONDS:
            return
        self._slow_told[group] = now
        waits = self._gate.waiting_for(group)
        log.warning("event=slow-fence group=%s seconds=%g waits_for=%r", group, SLOW_FENCE_SECONDS, waits)

    # -- elsewhere --------------------------------------------------------------------------------------------------

    def _refuse(self, exchange: Exchange, verdict: Refuse) -> web.Response:
        self.given["refuse"] += 1
        self.reasons[f"refuse_{word(verdict.reason)}"] += 1
        return exchange.plain(503, "refuse", verdict.reason, retry_after_seconds=verdict.retry_after_seconds)

    async def _forward(self, exchange: Exchange, verdict: Forward, *, write: bool) -> web.StreamResponse:
        if exchange.hops:
            return self._refuse(exchange, Refuse(f"passed on by {exchange.hops}: {verdict.reason}", RETRY_SECONDS))
        answer = await self._pass_on(exchange, verdict, write=write)
        if isinstance(answer, Unanswered):
            return self._refuse(exchange, Refuse(f"{verdict.reason}: {answer.problems}", RETRY_SECONDS))
        return answer

    async def _instead(self, exchange: Exchange, down: ApplicationDown, *, write: bool) -> web.StreamResponse:
        """Another site does what the application here was not asked for.

        Not a write where writers have an order: who is the first of them is for all sites to agree on (`GatePort`).
        Raises `down` when nobody does.
        """
        if exchange.hops:
            return self._refuse(exchange, Refuse(str(down), RETRY_SECONDS))
        group = exchange.target.group
        if not (write and group.writes):
            passed = await self._pass_on(exchange, Forward(self._gate.others(group.name), str(down)), write=write)
            if not isinstance(passed, Unanswered):
                return passed
        raise down

    async def _pass_on(self, exchange: Exchange, verdict: Forward, *, write: bool) -> web.StreamResponse | Unanswered:
        """Through the first of the sites that answers; `Unanswered` when nothing was done anywhere."""
        upgrade = None if write else wanted(exchange.request)
        if upgrade is not None:
            self._count_websockets()
        answer = await self._elsewhere.ask(exchange, verdict.sites, write=write, upgrade=upgrade)
        if isinstance(answer, Unanswered):
            return answer
        self.given["forward"] += 1
        self.reasons[f"forward_{word(verdict.reason)}"] += 1
        return await self._passed(exchange, answer, upgrade=upgrade is not None)

    async def _passed(self, exchange: Exchange, answer: Answered, *, upgrade: bool) -> web.StreamResponse:
        upstream, label = answer.upstream, f"forward {answer.site}"
        headers = fields.uncached(fields.end_to_end(upstream.headers))
        if upstream.status == 101 and upgrade:
            return await self._tunnel(exchange, upstream, headers, label)
        return await exchange.relay(upstream, headers, label, upstream.headers.get("X-Anycastle-Version"))

    # -- WebSockets -------------------------------------------------------------------------------------------------

    def _count_websockets(self) -> None:
        """Raises NoAnswer when there are enough."""
        if self.websockets >= self._settings.websockets_max:
            raise NoAnswer(503, f"at most {self._settings.websockets_max} WebSockets at a time")

    async def _tunnel(
        self, exchange: Exchange, upstream: aiohttp.ClientResponse, headers: CIMultiDict[str], verdict: str
    ) -> web.StreamResponse:
        self.websockets += 1
        self.given["websocket"] += 1
        try:
            silence = self._settings.websocket_silence_seconds_max
            return await tunnel(exchange, upstream, headers, verdict, silence_seconds_max=silence)
        finally:
            self.websockets -= 1
