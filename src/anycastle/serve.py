"""Runs one member as a process: signals, the control socket, the dashboard's port, and the member between them."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator

from aiohttp import web

from anycastle.app import Member, StartError, prepare
from anycastle.clock import Clock
from anycastle.config import Config, MemberConfig, short_path
from anycastle.config_tokens import read_tokens
from anycastle.health.access import Access, Caller
from anycastle.health.audit import Audit
from anycastle.health.dashboard import make_app
from anycastle.notify import Notifier
from anycastle.ports import Ports

AUDIT_FILE = "audit.log"
"""In `state_dir`."""
_SIGNAL = Caller("whoever may send signals", "SIGHUP")


async def serve(config: Config, settings: MemberConfig, clock: Clock) -> None:
    """Until SIGTERM or SIGINT; SIGHUP reloads. Raises AnycastleError, with nothing begun, when it cannot start."""
    notifier = Notifier()
    with prepare(config, settings, clock) as member:
        ports = Ports(member)
        reload = asyncio.Event()
        loop = asyncio.get_running_loop()

        def stop() -> None:
            notifier.stopping()
            member.stop()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop)
        loop.add_signal_handler(signal.SIGHUP, reload.set)
        audit = Audit(settings.state_dir / AUDIT_FILE, clock)
        async with _face(ports, settings, audit), asyncio.TaskGroup() as tasks:
            beside = (
                tasks.create_task(_tell(member, notifier)),
                tasks.create_task(_reload(ports, reload, audit, member, notifier)),
            )
            await member.run()
            for task in beside:
                task.cancel()


async def _tell(member: Member, notifier: Notifier) -> None:
    """The service manager hears when users are served, and that the loop lives."""
    await member.ready.wait()
    notifier.ready(f"member {member.settings.member} serves")
    await notifier.watch()


async def _reload(ports: Ports, wanted: asyncio.Event, audit: Audit, member: Member, notifier: Notifier) -> None:
    """One after the other; signals that come meanwhile ask for one more."""
    await member.ready.wait()
    while True:
        await wanted.wait()
        wanted.clear()
        notifier.reloading()
        refusal = await ports.reload_or_log()
        notifier.ready(
            f"the last reload was refused: {refusal}" if refusal else f"member {member.settings.member} serves"
        )
        audit.record(_SIGNAL, "reload", "", f"refused: {refusal}" if refusal else "done")


@contextlib.asynccontextmanager
async def _face(ports: Ports, settings: MemberConfig, audit: Audit) -> AsyncIterator[None]:
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
            host, port = settings.dashboard.listen
            access = Access(settings.dashboard.token_file, read_tokens, settings.dashboard.reading)
            tcp = await _runner(undo, make_app(ports, access=access, audit=audit))
            try:
                await web.TCPSite(tcp, host, port).start()
            except OSError as error:
                raise StartError(f"the dashboard cannot listen on {host}:{port}: {error.strerror}") from error
        yield


async def _runner(undo: contextlib.AsyncExitStack, app: web.Application) -> web.AppRunner:
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=2.0)
    await runner.setup()
    undo.push_async_callback(runner.cleanup)
    return runner
