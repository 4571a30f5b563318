"""Runs one member as a process: signals, the control socket, the dashboard's port, and the member between them.

A restart is one more process that takes over (`takeover`): while that one reads what it needs, this one serves on; then
this one's member ends, all but its DNS workers; when the other cannot go on from there, a member begins anew here.
"""

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web

from anycastle.app import Member, StartError, prepare
from anycastle.clock import Clock
from anycastle.config import Config, MemberConfig, short_path
from anycastle.config_tokens import read_tokens
from anycastle.dns.server import DnsServer
from anycastle.dns.tables import Tables, build_tables
from anycastle.health.access import Access, Caller
from anycastle.health.audit import Audit
from anycastle.health.dashboard import make_app
from anycastle.loading import shown
from anycastle.notify import Notifier
from anycastle.ports import Ports
from anycastle.replicator.listen import bind_listener
from anycastle.takeover import REFUSED_WORDS, Inheritance, Predecessor, Successor

log = logging.getLogger("anycastle.serve")

AUDIT_FILE = "audit.log"
"""In `state_dir`."""
DNS_LEAVE_SECONDS_MAX = 10.0
"""For zone transfers that are under way when another process has taken over."""
_SIGNAL = Caller("whoever may send signals", "SIGHUP")


async def serve(config: Config, settings: MemberConfig, clock: Clock, predecessor: Predecessor | None = None) -> None:
    """Until SIGTERM or SIGINT, or until another process has taken over; SIGHUP reloads.

    Raises AnycastleError, with nothing begun, when it cannot start.
    """
    await _Service(config, settings, clock).run(predecessor)


class _Service:
    """What outlives a member."""

    def __init__(self, config: Config, settings: MemberConfig, clock: Clock) -> None:
        self._config = config
        self._settings = settings
        self._clock = clock
        self._notifier = Notifier()
        self._audit = Audit(settings.state_dir / AUDIT_FILE, clock)
        self._stop = asyncio.Event()
        self._reload = asyncio.Event()

    async def run(self, predecessor: Predecessor | None) -> None:
        tables = _read_tables(self._settings)
        inheritance: Inheritance | None = None
        before: Callable[[], Awaitable[None]] = _nobody
        if predecessor is not None:
            await predecessor.gives_way()
            inheritance, before = predecessor.inheritance, predecessor.goes
        self._heed_signals()
        refused = ""
        while True:
            with prepare(self._config, self._settings, self._clock, tables=tables, inheritance=inheritance) as member:
                member.restart_refused = f"{REFUSED_WORDS}{refused}" if refused else ""
                successor = await self._live(member, before)
            if successor is None:
                return
            refused = await self._hand_over(successor)
            if not refused:
                await _close(member.dns)
                return
            log.error("event=restart-refused reason=%r", refused)
            tables, inheritance = member.tables, successor.inheritance()
            before = _closing(member.dns)

    def _heed_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload.set)

    async def _live(self, member: Member, before: Callable[[], Awaitable[None]]) -> Successor | None:
        """One member, from its first to its last moment; who is to take over, if anybody."""
        ports = Ports(member, self._notifier.variables)
        async with _face(ports, self._settings, self._audit, member), asyncio.TaskGroup() as tasks:
            beside = (
                tasks.create_task(self._tell(member, before)),
                tasks.create_task(self._reload_when_asked(ports, member)),
                tasks.create_task(self._end(member)),
            )
            await member.run()
            for task in beside:
                task.cancel()
        return ports.successor if member.gives_way else None

    async def _end(self, member: Member) -> None:
        await self._stop.wait()
        self._notifier.stopping()
        member.stop()

    async def _tell(self, member: Member, before: Callable[[], Awaitable[None]]) -> None:
        """Who was before may go, and the service manager hears when users are served, and that the loop lives."""
        await member.ready.wait()
        await before()
        self._notifier.ready(f"member {member.settings.member} serves")
        await self._notifier.watch()

    async def _reload_when_asked(self, ports: Ports, member: Member) -> None:
        """One after the other; signals that come meanwhile ask for one more."""
        await member.ready.wait()
        while True:
            await self._reload.wait()
            self._reload.clear()
            self._notifier.reloading()
            refusal = await ports.reload_or_log()
            self._notifier.ready(
                f"the last reload was refused: {refusal}" if refusal else f"member {member.settings.member} serves"
            )
            self._audit.record(_SIGNAL, "reload", "", f"refused: {refusal}" if refusal else "done")

    async def _hand_over(self, successor: Successor) -> str:
        """Nothing is ours any more. Why it did not take over; empty when it did, or when all of this is to end."""
        async with asyncio.TaskGroup() as tasks:
            stopping = tasks.create_task(self._stop.wait())
            taking = tasks.create_task(successor.takes_over())
            watching = tasks.create_task(self._notifier.watch())
            await asyncio.wait((stopping, taking), return_when=asyncio.FIRST_COMPLETED)
            watching.cancel()
            stopping.cancel()
            if not taking.done():
                taking.cancel()
                await successor.stop()
                return ""
        refusal = taking.result()
        if not refusal:
            log.info("event=taken-over process=%d", successor.process)
            self._notifier.gives_way(successor.process)
            successor.release()
        return refusal


def _read_tables(settings: MemberConfig) -> Tables | None:
    """Zones, steered names and geography; None where there is no nameserver."""
    if settings.dns is None:
        return None
    with shown() as progress:
        return build_tables(settings.dns, progress)


async def _nobody() -> None:
    """There was no process before."""


def _closing(dns: DnsServer | None) -> Callable[[], Awaitable[None]]:
    return lambda: _close(dns)


async def _close(dns: DnsServer | None) -> None:
    """Of the member before, whose workers answered until now."""
    if dns is not None:
        await dns.close(seconds_max=DNS_LEAVE_SECONDS_MAX)


@contextlib.asynccontextmanager
async def _face(ports: Ports, settings: MemberConfig, audit: Audit, member: Member) -> AsyncIterator[None]:
    """The Unix socket for commands, and the dashboard where configured."""
    async with contextlib.AsyncExitStack() as undo:
        path = settings.control_socket
        unix = await _runner(undo, make_app(ports, access=Access(None, read_tokens), audit=audit))
        try:
            path.unlink(missing_ok=True)  # of a run that was killed: the ledger is ours, so nobody listens there
            undo.callback(path.unlink, missing_ok=True)  # commands find a member by its socket
            with short_path(path) as short:
                await web.UnixSite(unix, short).start()
            path.chmod(0o600)
        except OSError as error:
            raise StartError(f"cannot listen for commands on {path}: {error.strerror or error}") from error
        if settings.dashboard is not None:
            shown = settings.dashboard
            access = Access(shown.token_file, read_tokens, shown.reading, hosts=shown.hosts)
            tcp = await _runner(undo, make_app(ports, access=access, audit=audit))
            listener = bind_listener(settings.dashboard.listen, "the dashboard", StartError, member.inherited)
            member.beside = (listener,)
            await web.SockSite(tcp, listener).start()
        yield


async def _runner(undo: contextlib.AsyncExitStack, app: web.Application) -> web.AppRunner:
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=2.0)
    await runner.setup()
    undo.push_async_callback(runner.cleanup)
    return runner
