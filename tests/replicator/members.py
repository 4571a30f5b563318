"""Real members on loopback for the tests of links and edge: one authority, free ports, everything closed at the end."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from anycastle.clock import SystemClock
from anycastle.replicator import pki
from anycastle.replicator.body import BodySource
from anycastle.replicator.event import LinkDown, LinkUp, Received
from anycastle.replicator.message import OLDEST, PROTOCOL, Hello
from anycastle.replicator.peer import LinkEvent, Links
from anycastle.replicator.settings import LinkSettings, Tls
from tests.ports import free_port

NAMES = ("ams", "nyc", "sgp")
HOST = "127.0.0.1"
DEADLINE_SECONDS = 10.0


def tls(folder: Path, member: str) -> Tls:
    return Tls(authority=folder / "ca.pem", certificate=folder / f"{member}.pem", key=folder / f"{member}.key")


def make_authority(folder: Path, names: tuple[str, ...] = NAMES) -> Path:
    pki.init(folder)
    for name in names:
        pki.issue(folder, name)
    return folder


def link_settings(folder: Path, names: tuple[str, ...] = NAMES, **changes: Any) -> dict[str, LinkSettings]:
    """Settings of every member, on ports that are free now."""
    ports = {name: (HOST, free_port()) for name in names}
    return {
        name: replace(
            LinkSettings(
                member=name,
                listen=ports[name],
                peers={other: ports[other] for other in names if other != name},
                tls=tls(folder, name),
            ),
            **changes,
        )
        for name in names
    }


def hello(member: str, names: tuple[str, ...] = NAMES, incarnation: int = 1, newest: int = PROTOCOL) -> Hello:
    return Hello(member, OLDEST, incarnation, names, (), newest=newest)


async def until(true: Callable[[], Any], what: str) -> None:
    """Poll until it holds; fail with words when it does not in time."""
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not true():  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"not in {DEADLINE_SECONDS} s: {what}") from None


@asynccontextmanager
async def running(*parts: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run them beside the test; a failure in one fails the test."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(part) for part in parts]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


async def no_bodies(group: str, digest: bytes) -> int | None:
    return None


class Member:
    """One member's links and what it heard from them."""

    def __init__(
        self,
        settings: LinkSettings,
        *,
        bodies: BodySource = no_bodies,
        incarnation: int = 1,
        newest: int = PROTOCOL,
        compatible: Callable[[Hello], str] = lambda hello: "",
    ) -> None:
        self.name = settings.member
        self.heard: list[LinkEvent] = []
        self.links = Links(
            settings,
            hello(self.name, incarnation=incarnation, newest=newest),
            compatible=compatible,
            on_event=self.heard.append,
            bodies=bodies,
            clock=SystemClock(),
        )

    def ups(self) -> list[LinkUp]:
        return [event for event in self.heard if isinstance(event, LinkUp)]

    def downs(self) -> list[LinkDown]:
        return [event for event in self.heard if isinstance(event, LinkDown)]

    def received(self) -> list[Received]:
        return [event for event in self.heard if isinstance(event, Received)]


@asynccontextmanager
async def listening(*members: Member) -> AsyncIterator[None]:
    """All of them running; whoever connects now is heard."""
    for member in members:
        member.links.bind()
    async with running(*(member.links.run() for member in members)):
        yield


@asynccontextmanager
async def meshed(*members: Member) -> AsyncIterator[None]:
    """All of them running, each linked with each other one."""
    async with listening(*members):
        for member in members:
            others = {other.name for other in members if other is not member}
            await until(
                lambda member=member, others=others: member.links.connected() == others, f"{member.name} linked"
            )
        yield
