"""Runs one member as a process: signals, the control socket, the dashboard's port, and the member between them."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator

from aiohttp import web

from anycastle.app import StartError, prepare
from anycastle.clock import Clock
from anycastle.config import Config, MemberConfig, short_path
from anycastle.health.dashboard import make_app
from anycastle.ports import Ports


async def serve(config: Config, settings: MemberConfig, clock: Clock) -> None:
    """Until SIGTERM or SIGINT; SIGHUP reloads. Raises AnycastleError, with nothing begun, when it cannot start."""
    with prepare(config, settings, clock) as member:
        ports = Ports(member)
        reload = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, member.stop)
        loop.add_signal_handler(signal.SIGHUP, reload.set)
        async with _face(ports, settings), asyncio.TaskGroup() as tasks:
            reloading = tasks.create_task(_reload(ports, reload))
            await member.run()
            reloading.cancel()


async def _reload(ports: Ports, wanted: asyncio.Event) -> None:
    """One after the other; signals that come meanwhile ask for one more."""
    while True:
        await wanted.wait()
        wanted.clear()
        await ports.reload_or_log()


@contextlib.asynccontextmanager
async def _face(ports: Ports, settings: MemberConfig) -> AsyncIterator[None]:
    """The Unix socket for commands, and the dashboard where configured."""
    async with contextlib.AsyncExitStack() as undo:
        path = settings.control_socket
        unix = await _runner(undo, make_app(ports, token=None))
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
            tcp = await _runner(undo, make_app(ports, token=settings.dashboard.token))
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
