"""Whole members in one process for the tests of the shells: real trees, watchers, ledgers and links, small leases."""

import asyncio
import contextlib
import os
import stat
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from anycastle.clock import SystemClock
from anycastle.replicator.content import Content
from anycastle.replicator.ledger import Ledger
from anycastle.replicator.message import OLDEST, PROTOCOL, Hello
from anycastle.replicator.peer import Links
from anycastle.replicator.replica import Replica
from anycastle.replicator.settings import RETENTION_SECONDS, GroupSettings, Lease, LinkSettings, ReplicaSettings
from tests.replicator.members import NAMES, link_settings, make_authority, running, until

GROUP = "blogs"
LEASE = Lease(term_seconds=1.0, renewal_seconds=0.25)
FENCE_SECONDS = 10.0


class SettableClock(SystemClock):
    """The machine's clock, whose time of day somebody may set."""

    wall_offset = 0.0

    def wall(self) -> float:
        return super().wall() + self.wall_offset


class Site:
    """One member with its own root, ledger and links. `start` and `stop` as often as wanted."""

    def __init__(
        self, folder: Path, link: LinkSettings, members: tuple[str, ...], sites: tuple[str, ...], **group: Any
    ) -> None:
        self.name = link.member
        self.root = group.pop("root", folder / self.name / "root")
        retention = group.pop("retention", RETENTION_SECONDS)
        self.speaks: tuple[int, int] = group.pop("speaks", (OLDEST, PROTOCOL))
        """The oldest and the newest version of the protocol, from the next start on."""
        self.root.mkdir(parents=True, exist_ok=True)
        (folder / self.name).mkdir(exist_ok=True)
        self.link = link
        self.state = folder / self.name
        self.gossip: list[tuple[str, bytes]] = []
        settings = GroupSettings(
            name=GROUP,
            root=self.root,
            hosts=("*",),
            document_root="",
            application="http://127.0.0.1:9",
            prefix_depth=1,
            **{"fence_timeout_seconds": FENCE_SECONDS, **group},
        )
        holds = self.name in sites
        self.settings = ReplicaSettings(
            member=self.name,
            members=members,
            sites=sites,
            distance=tuple(site for site in sites if site != self.name),
            groups=(settings,) if holds else (),
            group_names=(GROUP,),
            lease=LEASE,
            state_dir=self.state,
            retention_seconds={GROUP: retention},
        )
        self._up: AsyncExitStack | None = None

    @property
    def content(self) -> Content:
        return self.replica.contents[GROUP]

    def open(self) -> None:
        self.clock = SettableClock()
        self.ledger = Ledger.open(
            self.state / "ledger.sqlite",
            member=self.name,
            groups=(GROUP,),
            content=self.name in self.settings.sites,
        )
        self.replica = Replica(
            self.settings,
            self.ledger,
            clock=self.clock,
            on_change=lambda: None,
            on_gossip=lambda member, payload: self.gossip.append((member, payload)),
        )
        self.links = Links(
            self.link,
            Hello(
                self.name,
                self.speaks[0],
                self.ledger.incarnation,
                self.settings.members,
                (),
                newest=self.speaks[1],
            ),
            compatible=lambda hello: "",
            on_event=self.replica.feed,
            bodies=self.replica.body,
            clock=self.clock,
        )
        self.links.acquaintance = self.replica.acquaintance
        self.links.bind()

    async def start(self) -> None:
        """Open everything and run it."""
        self.open()
        stack = AsyncExitStack()
        stack.callback(self.ledger.close)
        stack.callback(self.replica.close)
        await stack.enter_async_context(running(self.links.run(), self.replica.run(self.links)))
        self._up = stack

    async def stop(self) -> None:
        """End in order; a failure of a task is raised here."""
        stack, self._up = self._up, None
        if stack is not None:
            await stack.aclose()

    def reason(self) -> str:
        """Why steering must not count on it; empty when it may."""
        return self.replica.standing(now=self.clock.now())[GROUP]

    async def ready(self) -> None:
        await until(lambda: not self.reason(), f"{self.name} stands well")

    async def fence(self) -> Any:
        return await self.replica.gate.fence(GROUP)

    async def admit(self, path: str) -> Any:
        prefix = path.rpartition("/")[0]
        return await self.replica.gate.admit(GROUP, path.encode(), f"{prefix}/".encode() if prefix else b"")

    def has_landed(self, path: str) -> bool:
        """The newest version known here is in place."""
        newest = self.ledger.newest(GROUP, path.encode())
        local = self.ledger.local(GROUP, path.encode())
        return newest is not None and local is not None and local.version == newest.version


@asynccontextmanager
async def cluster(
    folder: Path,
    names: tuple[str, ...] = NAMES,
    *,
    sites: tuple[str, ...] | None = None,
    link: dict[str, Any] | None = None,
    each: Callable[[str], dict[str, Any]] = lambda name: {},
    start: bool = True,
    **group: Any,
) -> AsyncIterator[tuple[Site, ...]]:
    """All of them up and current; `group` goes into everybody's GroupSettings, `each(name)` into one's."""
    authority = make_authority(folder / "pki", names)
    links = link_settings(authority, names, **(link or {}))
    made = tuple(Site(folder, links[name], names, sites or names, **group, **each(name)) for name in names)
    async with AsyncExitStack() as undo:
        for site in made:
            undo.push_async_callback(site.stop)
            if start:
                await site.start()
        if start:
            for site in made:
                if site.replica.contents:
                    await site.ready()
        yield made


def picture(root: Path) -> dict[str, tuple[Any, ...]]:
    """Everything replicated in a tree: kind, mode, owner, mtime (but of folders), content."""
    found: dict[str, tuple[Any, ...]] = {}
    for folder, folders, files in os.walk(root):
        if Path(folder) == root and ".anycastle" in folders:
            folders.remove(".anycastle")
        for name in (*folders, *files):
            path = Path(folder, name)
            it = path.lstat()
            common = (stat.S_IFMT(it.st_mode), stat.S_IMODE(it.st_mode), it.st_uid, it.st_gid)
            if path.is_symlink():
                found[str(path.relative_to(root))] = (*common, it.st_mtime_ns, os.readlink(path))
            elif path.is_dir():
                found[str(path.relative_to(root))] = common
            else:
                found[str(path.relative_to(root))] = (*common, it.st_mtime_ns, path.read_bytes())
    return found


async def alike(*sites: Site) -> dict[str, tuple[Any, ...]]:
    """Wait until all trees are equal and settled; returns what is in them."""

    def settled() -> bool:
        return all(
            site.ledger.detailed() == sites[0].ledger.detailed() and not list(site.ledger.unlanded(GROUP))
            for site in sites
        )

    first: dict[str, tuple[Any, ...]] = {}

    def equal() -> bool:
        nonlocal first
        if not settled():
            return False
        first = picture(sites[0].root)
        return all(picture(site.root) == first for site in sites[1:])

    await until(equal, f"equal trees at {', '.join(site.name for site in sites)}")
    return first


def conflicts_kept(root: Path) -> list[bytes]:
    """Contents below `.anycastle/conflicts`."""
    return [path.read_bytes() for path in sorted((root / ".anycastle/conflicts").rglob("*")) if path.is_file()]


def temps(root: Path) -> list[str]:
    return os.listdir(root / ".anycastle/tmp")


async def journaled(site: Site, path: str, seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while site.ledger.newest(GROUP, path.encode()) is None:  # noqa: ASYNC110 - polled with a deadline
            await asyncio.sleep(0.005)


def with_port(link: LinkSettings, **peers: tuple[str, int]) -> LinkSettings:
    """Dial some peers elsewhere."""
    return replace(link, peers={**link.peers, **peers})


@contextlib.contextmanager
def tmpfs(point: Path, *, size: str = "64m") -> Iterator[Path]:
    """A small filesystem of its own; needs root."""
    point.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "anycastle-test", point], check=True)
    try:
        yield point
    finally:
        subprocess.run(["umount", "-l", point], check=True)
