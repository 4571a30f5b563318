"""Through another site's edge: in the gate's order, the first member that answers.

Laws: what came from another member goes no further, so no loop can form; a read goes to the next site until one
answers; a write too, but never once its body was begun or, if it has none, once it was sent. A body is begun only when
the other edge has judged the request and says so (100 Continue), and that edge asks its application only when the body
comes: so a site that is stopped costs a write a short time and not its outcome.

    who answers nothing        before the body   on to the next; at last 503 with Retry-After
                               after it          504: the outcome is unknown
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import aiohttp
from multidict import CIMultiDict

from anycastle.replicator import edge_headers as fields
from anycastle.replicator.edge_exchange import Exchange, NoAnswer
from anycastle.replicator.edge_forward import ForwardError, ForwardRequest
from anycastle.replicator.settings import EdgeSettings

FIRST_WORD_SECONDS = 1.0
"""Beyond what the other edge may wait for content: until it must have judged a request with a body."""

ForwardCall = Callable[[str, ForwardRequest], Awaitable[aiohttp.ClientResponse]]


@dataclass(frozen=True, slots=True)
class Answered:
    """`site` has it; the answer is the caller's to read."""

    site: str
    upstream: aiohttp.ClientResponse


@dataclass(frozen=True, slots=True)
class Unanswered:
    """Nobody did, and nothing was done."""

    problems: str


class Elsewhere:
    """The other sites."""

    def __init__(self, settings: EdgeSettings, forward: ForwardCall) -> None:
        self._settings = settings
        self._forward = forward

    async def ask(
        self, exchange: Exchange, sites: Sequence[str], *, write: bool, upgrade: CIMultiDict[str] | None = None
    ) -> Answered | Unanswered:
        """`upgrade`: the fields of a request that wants to leave HTTP. Raises NoAnswer: the outcome is unknown."""
        assert not exchange.hops, "it came from another member"
        body = exchange.body
        if body.fault is not None:
            raise body.fault
        problems: list[str] = []
        for site in sites:
            try:
                upstream = await self._ask(site, exchange, upgrade)
            except ForwardError as error:
                problems.append(str(error))
                if body.fault is not None:
                    raise body.fault from error
                if body.started or (write and error.sent and not body.exists):
                    raise NoAnswer(504, f"the request may or may not have been done: {error}") from error
                continue
            if not body.started and (body.exists or not write) and _refused(upstream):
                upstream.close()
                problems.append(f"{site} refused")
                continue
            return Answered(site, upstream)
        return Unanswered("; ".join(problems) or "no other site has it")

    async def _ask(self, site: str, exchange: Exchange, upgrade: CIMultiDict[str] | None) -> aiohttp.ClientResponse:
        group, body = exchange.target.group, exchange.body
        headers = fields.with_hop(exchange.headers, self._settings.site)
        headers.update(upgrade or {})
        if body.exists and not body.started:
            headers["Expect"] = "100-continue"
        request = ForwardRequest(
            method=exchange.request.method,
            raw_path=exchange.raw_path,
            headers=headers,
            body=body.stream(),
            silence_seconds_max=self._settings.application_timeout_seconds
            + max(group.fence_timeout_seconds + group.settle_seconds, group.wait_max_seconds),
            upgrade=upgrade is not None,
        )
        loop = asyncio.get_running_loop()
        seconds = group.wait_max_seconds + FIRST_WORD_SECONDS
        try:
            async with asyncio.timeout_at(loop.time() + seconds if body.exists else None) as first_word:
                body.on_start = lambda: first_word.reschedule(None)
                try:
                    return await self._forward(site, request)
                finally:
                    body.on_start = lambda: None
        except TimeoutError:
            raise ForwardError(f"{site} did not say a word for {seconds:g} s", sent=True) from None


def _refused(upstream: aiohttp.ClientResponse) -> bool:
    return upstream.status == 503 and upstream.headers.get("X-Anycastle-Verdict") == "refuse"
