"""One member, composed: every part is made here, every error of the start is found before anything begins to serve.

    talk, probes, replica, routes  →  note that something changed  →  build the next View aside  →  swap one reference
                                                         ↓
                                     {DNS workers, route announcer, dashboard} read that snapshot

Laws: this is the only writer of the View; worse news is published at once, better news at most once a second; sockets
that answer users open after the first round of probes; routes are withdrawn before anything else stops.
"""

import asyncio
import contextlib
import logging
import math
import socket
from collections import deque
from collections.abc import Coroutine, Iterator
from pathlib import Path

from anycastle import talk
from anycastle.bgp.announcer import Announcer
from anycastle.bgp.restrain import Freeze, decode_freeze
from anycastle.chronicle import Chronicle
from anycastle.clock import Clock
from anycastle.config import Config, MemberConfig
from anycastle.dns.bind import check_free
from anycastle.dns.server import DnsServer
from anycastle.dns.tables import Tables
from anycastle.errors import AnycastleError
from anycastle.health.changes import Changes
from anycastle.health.drain import Drains, decode
from anycastle.health.event import Event as Told
from anycastle.health.event import Kind
from anycastle.health.judge import Judge
from anycastle.health.observe import Result
from anycastle.health.probe import Prober
from anycastle.health.view import SiteView, View, withheld
from anycastle.news import news
from anycastle.replicator.edge import Edge
from anycastle.replicator.edge_pass import Passes
from anycastle.replicator.edge_recall import Recall
from anycastle.replicator.edge_verdict import VerdictService
from anycastle.replicator.event import Event, LinkDown, LinkUp
from anycastle.replicator.fence import rosters_compatible
from anycastle.replicator.ledger import Ledger
from anycastle.replicator.message import OLDEST, PROTOCOL, Hello
from anycastle.replicator.peer import Links
from anycastle.replicator.replica import Replica
from anycastle.replicator.schema import LedgerError
from anycastle.round_trips import MAKE_PAUSE, MAKE_SECONDS, ClientRoundTrips
from anycastle.takeover import Inheritance
from anycastle.world import Facts, build_view, differs, is_worse

log = logging.getLogger("anycastle.app")

BETTER_SECONDS = 1.0
"""Better news waits until the last view is this old (design section 8)."""
REBUILD_SECONDS = 0.5
"""Time alone changes a view too: silence grows, leases lapse."""
PAUSE_SECONDS = 0.01
"""Between two views: a burst of changes costs one, and worse news waits no longer than this."""
REBUILD_PAUSE = 4
"""Pauses of so many times what a view took leave most of the loop to others, however much is in flight."""
TALK_SECONDS = 0.5
HEARD_LATELY_SECONDS = 3 * TALK_SECONDS
"""A site that talked within this is known as it is; what is shown of it then is what a member cut off goes by."""
AFFINITY_GRACE_SECONDS = 10.0
HEALTH_KEPT_SECONDS = 5.0
REQUESTS_COUNTED_MAX = 100_000
"""In one second; more than one edge can answer."""
WITHDRAW_SECONDS_MAX = 7.0
"""ExaBGP acknowledges in milliseconds; one that hangs must not keep the member from ending."""
LEASES_SECONDS_MAX = 3.0
"""They come in a round trip after the links; without a majority users hear so, and not much later than before."""
FIRST_ROUND_SECONDS_MAX = 15.0
"""Probes bound themselves; this only guards against a fault of ours."""


class StartError(AnycastleError):
    """The member cannot start on this machine as configured."""


class Member:
    """Everything one member runs. Made by `prepare`, which either takes all it needs or raises with nothing taken."""

    def __init__(
        self,
        config: Config,
        settings: MemberConfig,
        clock: Clock,
        undo: contextlib.ExitStack,
        *,
        tables: Tables | None,
        inheritance: Inheritance | None,
    ) -> None:
        self.config = config
        self.settings = settings
        self.clock = clock
        self.started = clock.now()
        self.view: View | None = None
        self.changes = Changes()
        """Tells the dashboard that what it shows has moved."""
        self.heard: dict[str, tuple[talk.Talk, float]] = {}
        self.talk_refused = 0
        self.reload_refused = ""
        """Why the last reload was refused; empty when it was not."""
        self.restart_refused = ""
        """Why the last restart was refused; empty when there was none."""
        self.gives_way = False
        """At the end the DNS workers go on: the next process takes over their sockets."""
        self.link_since: dict[str, float] = {}
        """When the link to each member last came or went."""
        self.requests: deque[float] = deque(maxlen=REQUESTS_COUNTED_MAX)
        """When the requests of the last second came."""
        self._told: talk.Talk | None = None
        self._health_lost = False
        """The last try to keep it failed, and that was said."""
        self._remembered: dict[str, SiteView] = {}
        self._announcing: asyncio.Task[None] | None = None
        self._serving: list[asyncio.Task[None]] = []
        self._changed = asyncio.Event()
        self._stop = asyncio.Event()
        self.ready = asyncio.Event()
        """Set when users are served."""

        self._inherits = inheritance is not None
        self._inheritance = inheritance or Inheritance()
        self.inherited = self._inheritance.take
        """For what listens beside the member."""
        self.beside: tuple[socket.socket, ...] = ()
        """What listens beside the member, and is handed on with its own sockets."""
        undo.callback(self._inheritance.close)
        replica = settings.replica
        content = settings.member in replica.sites
        _make_folder(settings.state_dir)
        if settings.bgp is not None:
            _make_folder(settings.bgp.run_dir)
        self.ledger = Ledger.open(
            settings.state_dir / "ledger.sqlite", member=settings.member, groups=replica.group_names, content=content
        )
        undo.callback(self.ledger.close)
        self.chronicle = Chronicle(self)
        self.drains = Drains(settings.member, decode(self.ledger.get("drains") or b"[]"))
        self.judge = Judge(settings.health, now=clock.now())
        self._restore_health()
        self.prober = Prober(settings.health, clock=clock, on_result=self._probed)
        self.replica = Replica(replica, self.ledger, clock=clock, on_change=self.note, on_gossip=self._heard)
        undo.callback(self.replica.close)
        self.round_trips = ClientRoundTrips(settings.member, replica.sites, config.names, clock=clock)
        self.links = self._make_links()
        self.links.bind()
        self.replica.gate.fit = self._fit
        self.edge = self._make_edge()
        self.recall = Recall(clock=clock, clear_until=self.replica.gate.clear_until)
        self.verdicts = self._make_verdicts(undo)
        self.passes = self._make_passes(undo)
        self.replica.on_news = self._on_news
        self.tables = tables
        self.dns: DnsServer | None = None
        if settings.dns is not None:
            self.dns = DnsServer(settings.dns, clock=clock, inherited=self._inheritance.take)
            check_free([each for each in settings.dns.listen if not self._inheritance.has(socket.SOCK_DGRAM, each)])
        self.announcer = self._make_announcer()

    def _make_announcer(self) -> Announcer | None:
        if self.settings.bgp is None:
            return None
        freeze = decode_freeze(self.ledger.get("freeze") or b"")
        return Announcer(self.settings.bgp, self.clock, freeze=freeze, on_change=self._routes_moved)

    def _make_links(self) -> Links:
        replica = self.settings.replica
        hello = Hello(
            member=self.settings.member,
            protocol=OLDEST,
            newest=PROTOCOL,
            incarnation=self.ledger.incarnation,
            members=replica.members,
            members_previous=replica.members_previous,
        )
        links = Links(
            self.settings.link,
            hello,
            compatible=lambda peer: rosters_compatible(
                replica.members, replica.members_previous, peer.members, peer.members_previous
            ),
            on_event=self._link_event,
            bodies=self.replica.body,
            clock=self.clock,
            inherited=self._inheritance.take,
        )
        links.acquaintance = self.replica.acquaintance
        return links

    def _make_edge(self) -> Edge | None:
        if self.settings.edge is None:
            return None
        edge = Edge(
            self.settings.edge,
            self.settings.replica.groups,
            self.replica.gate,
            forward=self.links.forward,
            on_request=lambda _: self.requests.append(self.clock.now()),
            on_round_trip=self.round_trips.sampled,
            eligible=self._eligible,
            clock=self.clock,
            inherited=self._inheritance.take,
        )
        edge.bind()
        self.links.edge_handler = edge.handle_forwarded
        return edge

    def _eligible(self, site: str, group: str, prefix: bytes) -> bool:
        """Users may be kept at a site; a change that lands there in a moment moves nobody."""
        now, grace = self.clock.now(), AFFINITY_GRACE_SECONDS
        return self.view is not None and not withheld(self.view, site, group, prefix, grace_seconds=grace, now=now)

    def _make_verdicts(self, undo: contextlib.ExitStack) -> VerdictService | None:
        if self.settings.verdict is None:
            return None
        verdicts = VerdictService(
            self.settings.verdict,
            self.settings.replica.groups,
            self.replica.gate,
            recall=self.recall,
            on_request=lambda _: self.requests.append(self.clock.now()),
            inherited=self._inheritance.take_unix,
        )
        verdicts.bind()
        undo.callback(verdicts.close)
        return verdicts

    def _make_passes(self, undo: contextlib.ExitStack) -> Passes | None:
        if self.settings.verdict is None or self.settings.verdict.passes is None:
            return None
        groups = [group.name for group in self.settings.replica.groups]
        passes = Passes(
            self.settings.verdict.passes, groups, clock=self.clock, clear_until=self.replica.gate.clear_until
        )
        passes.bind()
        undo.callback(passes.close)
        return passes

    def _on_news(self, group: str) -> None:
        self.recall.news(group)
        if self.passes is not None:
            self.passes.revoke(group)

    def _fit(self, site: str, group: str) -> bool:
        """Users are not kept away from a site by anybody's word, its health, or what the group requires."""
        now = self.clock.now()
        return self.view is None or not withheld(self.view, site, group, b"", grace_seconds=math.inf, now=now)

    def _link_event(self, event: Event) -> None:
        if isinstance(event, LinkUp | LinkDown):
            self.link_since[event.member] = self.clock.now()
            self.heard.pop(event.member, None)
            if isinstance(event, LinkUp):
                self.round_trips.tell_all()
            state = "up" if isinstance(event, LinkUp) else "down"
            log.info("event=link-%s peer=%s", state, event.member)
            text, wall = f"the link to {event.member} is {state}", self.clock.wall()
            self.chronicle.tell(Told(wall=wall, kind=Kind.LINK, site=event.member, text=text))
            self.note()
        self.replica.feed(event)

    # -- running --------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Ask `run` to end in order."""
        self._stop.set()

    def give_way(self) -> None:
        """Ask `run` to end in order, but for the DNS workers: `dns` is then for the caller to close."""
        self.gives_way = True
        if self.verdicts is not None:
            self.verdicts.handed_on = True
        self._stop.set()

    def sockets(self) -> tuple[socket.socket, ...]:
        """What users and members come by, for the process that comes after."""
        found = self.beside + self.links.sockets
        for part in (self.edge, self.verdicts, self.dns):
            found += part.sockets if part is not None else ()
        return found

    async def run(self) -> None:
        """Until `stop`; everything but what `prepare` took is closed when it returns.

        The announcer outlives the rest: in order it withdraws while all else still works, and after a fault of any
        other part it withdraws before the error goes on.
        """
        try:
            async with asyncio.TaskGroup() as outer:
                try:
                    async with asyncio.TaskGroup() as tasks:
                        await self._live(tasks, outer)
                finally:
                    await self._withdraw()
        finally:
            if self.dns is not None and not self.gives_way:
                await self.dns.close()
        await self._save_health()
        await self.chronicle.end()

    async def _live(self, tasks: asyncio.TaskGroup, outer: asyncio.TaskGroup) -> None:
        """From the first link to the last goodbye."""
        await self.chronicle.begin()
        background = [
            tasks.create_task(self.chronicle.run()),
            tasks.create_task(self.links.run()),
            tasks.create_task(self.replica.run(self.links)),
            tasks.create_task(self.prober.run()),
            tasks.create_task(self._talk()),
            tasks.create_task(self._keep_health()),
        ]
        if await self._unless_stopped(self._begin(tasks, outer, background)):
            log.info("member=%s event=ready", self.settings.member)
            self._inheritance.close()
            self.ready.set()
            await self._stop.wait()
        log.info("member=%s event=stopping", self.settings.member)
        await self._withdraw()
        for task in self._serving:
            task.cancel()
        if self._serving:  # what is under way ends while its changes can still be fenced
            await asyncio.wait(self._serving)
        for task in reversed(background):
            task.cancel()

    async def _unless_stopped(self, step: Coroutine[None, None, None]) -> bool:
        """Do one step of the start; False when `stop` came first, and then the step was given up."""
        async with asyncio.TaskGroup() as race:
            stopping = race.create_task(self._stop.wait())
            working = race.create_task(step)
            await asyncio.wait((stopping, working), return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            working.cancel()
        return not self._stop.is_set()

    async def _begin(
        self, tasks: asyncio.TaskGroup, outer: asyncio.TaskGroup, background: "list[asyncio.Task[None]]"
    ) -> None:
        """Know something, then serve users."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_ROUND_SECONDS_MAX):
                await self.prober.first_round()
        if self._inherits:
            await self.replica.current(LEASES_SECONDS_MAX)  # users that wait need not hear that leases are coming
        self._publish(self._build())
        assert self.view is not None
        background.append(tasks.create_task(self._publish_changes()))
        if self.edge is not None:
            self._serving.append(tasks.create_task(self.edge.run()))
        if self.verdicts is not None:
            self._serving.append(tasks.create_task(self.verdicts.run()))
        if self.passes is not None:
            background.append(tasks.create_task(self.passes.run()))
        if self.dns is not None:
            assert self.tables is not None
            await self.dns.start(self.tables, self.view)
            background.append(tasks.create_task(self.dns.run()))
            self.dns.publish(self.view)  # it may have moved on while the workers started
            background.append(tasks.create_task(self._map_round_trips(self.dns)))
        if self.announcer is not None:
            self._announcing = outer.create_task(self.announcer.run())

    async def _withdraw(self) -> None:
        """Bounded: when routers cannot be told any more, the end of ExaBGP's sessions tells them."""
        if self.announcer is None:
            return
        try:
            async with asyncio.timeout(WITHDRAW_SECONDS_MAX):
                await self.announcer.close()
        except TimeoutError:
            log.error("event=withdraw-given-up seconds=%g", WITHDRAW_SECONDS_MAX)
            if self._announcing is not None:
                self._announcing.cancel()

    # -- the view -------------------------------------------------------------------------------------------------

    def _routes_moved(self) -> None:
        self.chronicle.routes.moved = True
        self.note()

    def note(self) -> None:
        """Something that the view shows may have changed."""
        self._changed.set()

    async def _publish_changes(self) -> None:
        published_at, patience = self.clock.now(), REBUILD_SECONDS
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await self._changed.wait()
            self._changed.clear()
            began, patience = self.clock.now(), REBUILD_SECONDS
            view = self._build()
            held = published_at + BETTER_SECONDS - began
            if not differs(self.view, view):
                self._refresh(view)
            elif held > 0 and not is_worse(self.view, view):
                patience = min(held, REBUILD_SECONDS)
            else:
                self._publish(view)
                published_at = began
            took = self.clock.now() - began
            await asyncio.sleep(max(PAUSE_SECONDS, REBUILD_PAUSE * took))

    def _refresh(self, view: View) -> None:
        """Nothing to publish; but the local nameserver may have fallen ill, and lag grows by itself."""
        if self.announcer is not None:
            self.announcer.update(self.view or view, self.dns.healthy() if self.dns else "")
        self.changes.bump()

    def _build(self) -> View:
        now, settings = self.clock.now(), self.settings
        connected = self.links.connected()
        self.judge.links(connected)
        own = self._own_talk(now)
        if self._told is not None and talk.urgent(own, self._told):
            self.tell_now()
        oldest = now - settings.health.observation_age_max_seconds
        sites = settings.replica.sites
        facts = Facts(
            member=settings.member,
            sites=sites,
            judgements=self.judge.judgements(now=now),
            isolated=bool(settings.link.peers) and not connected,
            drained={site: self.drains.drained(site) for site in sites},
            standing={site: self._standing(site, now) for site in sites},
            pending={site: self.replica.pending(site) for site in sites},
            own=own,
            heard={member: said for member, (said, at) in self.heard.items() if at >= oldest},
            remembered=self._remembered,
        )
        view = build_view(facts, self.view, now=now)
        for site, (_, at) in self.heard.items():
            if site in view.sites and site in connected and now - at <= HEARD_LATELY_SECONDS:
                self._remembered[site] = view.sites[site]
        return view

    def _standing(self, site: str, now: float) -> dict[str, str]:
        """Group -> why a site is not to be counted on: what its leases say, and what it says of itself."""
        groups = self.settings.replica.group_names
        if site == self.settings.member:
            return self.replica.standing(now=now)
        said, _ = self.heard.get(site, (None, 0.0))
        word = said.standing if said else dict.fromkeys(groups, "has not told yet how it stands")
        return {
            group: self.replica.controller.peer_current(site, group, now=now) or word.get(group, "does not hold it")
            for group in groups
        }

    def member_standing(self, now: float) -> dict[str, str]:
        """Member, witnesses too -> why it does not stand well, or empty: for the steps of a roster change."""
        connected, replica = self.links.connected(), self.settings.replica
        found = {name: "" if name in {*connected, replica.member} else "no link" for name in replica.members}
        for site in replica.sites:
            found[site] = next((reason for reason in self._standing(site, now).values() if reason), found[site])
        return found

    def _publish(self, view: View) -> None:
        wall = self.clock.wall()
        for told in news(self.view, view, wall=wall):
            self.chronicle.tell(told, kept=told.kind is not Kind.CONTENT)
            log.info("event=view text=%r", told.text)
        self.view = view
        if self.dns is not None:
            self.dns.publish(view)
        if self.announcer is not None:
            self.announcer.update(view, self.dns.healthy() if self.dns else "")
        self.changes.bump()

    # -- what members tell each other -----------------------------------------------------------------------------

    def _own_talk(self, now: float) -> talk.Talk:
        return talk.Talk(
            observations=self.judge.observations(now=now),
            overrides=self.drains.overrides(),
            load=self._load(now),
            announced=self.announcer.announced_in_order() if self.announcer else (),
            standing=self.replica.standing(now=now),
            gated=self.judge.gated(now=now),
        )

    def _load(self, now: float) -> float:
        """Requests of the last second. Each is looked at once more in its life, when it leaves."""
        while self.requests and self.requests[0] <= now - 1.0:
            self.requests.popleft()
        return float(len(self.requests))

    async def _talk(self) -> None:
        while True:
            self.tell_now()
            if measured := self.round_trips.untold():
                self.replica.gossip(talk.encode(measured))
            await asyncio.sleep(TALK_SECONDS)

    def _heard(self, member: str, payload: bytes) -> None:
        try:
            said = talk.decode(payload)
        except talk.TalkError as error:
            self.talk_refused += 1
            if self.talk_refused == 1:
                log.warning("peer=%s event=refused-gossip reason=%s", member, error)
            return
        if not isinstance(said, talk.Talk):
            self.round_trips.hear(member, said)
            return
        now = self.clock.now()
        self.heard[member] = (said, now)
        self.judge.hear(member, said.observations, now=now)
        if self.drains.merge(said.overrides):
            try:
                self.keep_drains()
            except LedgerError as error:  # in force all the same, and the others say it again after a restart
                log.error("event=drains-not-kept reason=%s", error)
        self.note()

    async def _map_round_trips(self, dns: DnsServer) -> None:
        """Gives the nameserver what is measured, laid over the map of its present tables."""
        while True:
            began, tables = self.clock.now(), self.tables
            found = await self.round_trips.next_map(tables) if tables is not None else None
            if found is not None and tables is self.tables:  # else a reload came between, and takes the map off
                self.tables, overlay = found
                if overlay is not None:
                    dns.publish_measured(overlay)
            await asyncio.sleep(max(MAKE_SECONDS, MAKE_PAUSE * (self.clock.now() - began)))

    def _probed(self, result: Result) -> None:
        self.judge.observe(result, now=self.clock.now())
        self.note()

    def keep_drains(self) -> None:
        """Overrides survive restarts; a drain is rare, so the loop may wait for its commit."""
        self.ledger.put("drains", self.drains.encode())
        self.note()

    def keep_freeze(self, freeze: Freeze | None) -> None:
        """As rare as a drain, and kept like one."""
        self.ledger.put("freeze", freeze.encode() if freeze is not None else b"")
        self.changes.bump()

    def tell_now(self) -> None:
        """Something that the others should hear of at once has changed."""
        self._told = self._own_talk(self.clock.now())
        self.replica.gossip(talk.encode(self._told))

    # -- health over restarts -------------------------------------------------------------------------------------

    async def _keep_health(self) -> None:
        while True:
            await asyncio.sleep(HEALTH_KEPT_SECONDS)
            await self._save_health()

    async def _save_health(self) -> None:
        """In a thread, for a commit waits for the disk. A ledger that takes none costs only the memory of health."""
        kept = f"{self.clock.wall():.0f} ".encode() + self.judge.snapshot(now=self.clock.now())
        try:
            await asyncio.to_thread(self.ledger.put, "health", kept)
        except LedgerError as error:
            if not self._health_lost:
                log.error("event=health-not-kept reason=%s", error)
            self._health_lost = True
        else:
            self._health_lost = False

    def _restore_health(self) -> None:
        wall, _, saved = (self.ledger.get("health") or b"").partition(b" ")
        if saved:
            age = max(0.0, self.clock.wall() - float(wall))
            self.judge.restore(saved, age_seconds=age, now=self.clock.now())


@contextlib.contextmanager
def prepare(
    config: Config,
    settings: MemberConfig,
    clock: Clock,
    *,
    tables: Tables | None = None,
    inheritance: Inheritance | None = None,
) -> Iterator[Member]:
    """Take everything a member needs. Raises AnycastleError with one line and nothing taken.

    `tables` are its nameserver's, if it has one: to read them may take long, so that is the caller's.
    `inheritance` is what a process before left; None when there was none.
    """
    with contextlib.ExitStack() as undo:
        yield Member(config, settings, clock, undo, tables=tables, inheritance=inheritance)


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StartError(f"{path} cannot be made: {error.strerror}; expected a folder we may write") from error
