"""The protocol of the replicator: events in, commands out (design section 5, docs/protocol.md).

Laws: a lease carries only what is durable here, an ack follows only the durability of what it acknowledges, and
nothing a message says can move a number further than this member itself has recorded. Every message may be lost,
repeated, late or reordered; all repetition is driven by Tick. Per journal there are numbers here, never entries.
"""

import math
from collections import Counter
from collections.abc import Iterable
from typing import assert_never

from anycastle.replicator import event as e
from anycastle.replicator import message as m
from anycastle.replicator.coarse import Marks
from anycastle.replicator.currency import Currency
from anycastle.replicator.feed import FeedLimits
from anycastle.replicator.fence import Grants, Leases, Rosters, covers, stretched
from anycastle.replicator.intake import Intake
from anycastle.replicator.landed_board import LandedBoard, LandedError
from anycastle.replicator.memory import Memory
from anycastle.replicator.outflow import Outflow
from anycastle.replicator.progress_vector import Journal, Progress
from anycastle.replicator.pursuit import Pursuit
from anycastle.replicator.reception import MARK_ENTRIES_MAX, Reception
from anycastle.replicator.settings import Lease
from anycastle.replicator.stable import Stable, passed

OUTSTANDING_SECONDS_MAX = 3600.0
"""No lease is that long."""
RECORDING_SECONDS_MAX = 30.0
"""A disk that takes longer to record what it was told is taken to have failed, and is told again."""
LANDED_INTERVAL_SECONDS = 0.1
"""Changes of what has landed are told no more often."""
LANDED_REFRESH_SECONDS = 5.0
"""All of it is told again, in case a message was lost."""


class Controller:
    """One member's part of the protocol, for all groups."""

    def __init__(
        self,
        *,
        member: str,
        rosters: Rosters,
        lease: Lease,
        incarnation: int,
        groups: tuple[str, ...],
        recorded: m.Vectors,
        detailed: m.Vectors,
        fenced: m.Vectors,
        now: float,
        marks: Iterable[m.Mark] = (),
        limits: FeedLimits | None = None,
        sites: Iterable[str] | None = None,
        forgot: str = "",
    ) -> None:
        """`recorded`, `detailed`, `fenced` and `marks` are what the ledger holds durably at the start.

        `sites`: members that hold content; all of them by default. `forgot`: as in `Memory`.
        """
        self._member = member
        self._lease = lease
        self._incarnation = incarnation
        self._groups = groups
        self._others = frozenset().union(*rosters) - {member}
        self._linked: dict[str, int] = {}
        self._recorded = Progress(groups, recorded)
        self._detailed = Progress(groups, detailed)
        self._fenced = Progress(groups, fenced)
        self._marks = Marks(marks, recorded=self._recorded, detailed=self._detailed)
        self.ignored: Counter[str] = Counter()
        """Messages, or parts of them, that made no sense, by kind."""
        self._leases = Leases(member=member, rosters=rosters, lease=lease, incarnation=incarnation)
        self._memory = Memory(member=member, rosters=rosters, lease=lease, forgot=forgot, now=now)
        self._forgot = bool(forgot)
        self._currency = Currency(groups, self._leases, self._recorded, self._held_back)
        self._grants = Grants(term_seconds=lease.term_seconds, now=now)
        self._pursuit = Pursuit(
            member=member,
            rosters=rosters,
            lease=lease,
            grants=self._grants,
            recorded=self._recorded,
            fenced=self._fenced,
        )
        self._outflow = Outflow(
            member=member,
            groups=groups,
            recorded=self._recorded,
            detailed=self._detailed,
            marks=self._marks,
            limits=limits or FeedLimits(),
        )
        self._intake = Intake(self._recorded, self._detailed, patience_seconds=RECORDING_SECONDS_MAX)
        self._board = LandedBoard(self._others, groups, silence_seconds=lease.term_seconds)
        holding = frozenset(sites if sites is not None else (member, *self._others))
        self._holds = member in holding
        self._reception = Reception(
            member=member,
            holds=self._holds,
            recorded=self._recorded,
            detailed=self._detailed,
            intake=self._intake,
            grants=self._grants,
            ignored=self.ignored,
        )
        self._stable = Stable(member, self._others, holding, groups)
        self._told: dict[str, m.Vectors] = {}
        self._landed: dict[str, dict[str, m.LandedUpto]] = {group: {} for group in groups}
        self._landed_news: set[str] = set()
        self._landed_due = self._landed_refresh_due = self._renewal_due = -math.inf
        self._completed: dict[Journal, None] = {}
        self._out: list[e.Command] = []
        for journal in self._recorded.journals():
            self._pursuit.open(journal, now=now)

    # What shells ask.

    def remembers(self) -> bool:
        """Whether changes may be added to the own journal: nobody can know more of it."""
        return self._memory.whole(self._detailed.snapshot())

    def told(self, member: str) -> m.Vectors:
        """The least that the member must have recorded: what it said last, and what is here of its own journals."""
        said = self._told.get(member, {})
        own = ((group, self._detailed.get((group, member))) for group in self._groups)
        return {
            group: {**said.get(group, {}), member: max(seq, said.get(group, {}).get(member, 0))} for group, seq in own
        }

    def _held_back(self) -> str:
        return self._memory.reason(self._recorded.snapshot())

    def outdated(self, group: str) -> str:
        """The member whose journals have holes that this one cannot pass without comparing; empty for none."""
        return self._reception.outdated.get(group, "")

    def peer_comparing(self, member: str, group: str) -> bool | None:
        """Whether it compares content it holds; None when it has not told in this link."""
        return self._outflow.comparing(member, group)

    def covers_peer(self, member: str, group: str) -> bool:
        """All entries that the member last said it holds are here."""
        return covers(self._detailed.group(group), self._outflow.detailed(member, group))

    def currency(self, group: str, *, now: float) -> str:
        """Why this member cannot vouch for the group; the empty string when it is current."""
        return self._currency.reason(group, now=now)

    def currency_until(self, group: str, *, now: float) -> float:
        """When currency lapses unless renewed; not after `now` when it has."""
        return self._currency.until(group, now=now)

    def fenced(self, group: str, origin: str) -> int:
        return self._fenced.get((group, origin))

    def recorded(self, group: str, origin: str) -> int:
        return self._recorded.get((group, origin))

    def detailed(self, group: str, origin: str) -> int:
        return self._detailed.get((group, origin))

    def landed_sites(self, group: str, origin: str, seq: int) -> frozenset[str]:
        """Other members that said they have landed it."""
        return self._board.sites(group, origin, seq)

    def peer_landed(self, member: str, group: str) -> dict[str, m.LandedUpto]:
        return self._board.landed(member, group)

    def peer_current(self, member: str, group: str, *, now: float) -> str:
        """Why the member is not known to be current; the empty string when it said so lately."""
        return self._board.current(member, group, now=now)

    def uncovered(self, group: str, path: bytes) -> tuple[str, int] | None:
        """(origin, upto) of a coarse mark above the path whose entries are not all here yet."""
        return self._marks.above(group, path)

    def uncovered_below(self, group: str, prefix: bytes) -> tuple[str, int] | None:
        """The same for anything below a folder prefix (`a/b/`); the empty prefix is the whole group."""
        return self._marks.touching(group, prefix)

    def waiting_for(self, group: str, origin: str, seq: int, *, now: float) -> str:
        """Why it is not fenced yet, for people; the empty string when it is, or is about to be."""
        return self._pursuit.obstacle((group, origin), seq, now=now)

    # Events.

    def step(self, event: e.Event, *, now: float) -> tuple[e.Command, ...]:
        """Take one event; returns what the shell must do, in this order."""
        match event:
            case e.Tick():
                self._tick(now=now)
            case e.LinkUp():
                self._link_up(event, now=now)
            case e.LinkDown():
                self._link_down(event.member)
            case e.Received():
                self._received(event.member, event.message, now=now)
            case e.Journaled():
                self._journaled(event, now=now)
            case e.Recorded():
                self._durable((event.group, event.origin), event.upto, detailed=True, now=now)
            case e.Marked():
                self._marked(event, now=now)
            case e.LandedHere():
                self._landed[event.group].update(event.landed)
                self._landed_news.add(event.group)
            case e.FenceWanted():
                self._pursuit.want((event.group, event.origin), event.seq)
                self._query(now=now)
            case e.Merging():
                self._reception.merge(event)
            case e.Absent():
                self._stable.absent(event.group, event.members)
            case e.Forgot():
                self._forgot = True
                self._memory.forget(now=now)
                self._currency.reset()
            case e.ClockJumped():
                self._clock_jumped(now=now)
            case _:
                assert_never(event)
        self._settle(now=now)
        out, self._out = self._out, []
        return tuple(out)

    def _settle(self, *, now: float) -> None:
        if self._forgot:
            self._pass_over_lost(now=now)
        if self._forgot and self.remembers():
            self._forgot = False
            self._out.append(e.Remembered())
        self._out.extend(self._outflow.commands(now=now))
        if self._completed:
            fenced: m.Vectors = {}
            for group, origin in self._completed:
                fenced.setdefault(group, {})[origin] = self._fenced.get((group, origin))
            self._completed.clear()
            self._tell(m.Fenced(fenced))
        for group, reason, turned in self._currency.news(now=now):
            self._out.append(e.CurrencyMoved(group, reason))
            if turned:  # Between two reasons the next heartbeat is soon enough.
                self._landed_news.add(group)
        if self._landed_news and now >= self._landed_due:
            self._tell_landed(self._landed_news, now=now)

    def _pass_over_lost(self, *, now: float) -> None:
        """What we announced in a former life, and nobody has: it counts as recorded, and holds nothing."""
        for group, (after, upto) in self._memory.lost(self._detailed.snapshot()).items():
            journal = (group, self._member)
            if upto - after <= MARK_ENTRIES_MAX and self._intake.fresh(journal, after, upto, now=now) == after:
                self._out.append(e.Record(*journal, (), {}, after, upto, lost=True))

    def _compact(self, *, now: float) -> None:
        for group in self._groups:
            own = self._detailed.group(group)
            if self._holds:
                own = {origin: passed(said) for origin, said in self._landed[group].items()}
            safe = {origin: min(seq, self._fenced.get((group, origin))) for origin, seq in own.items()}
            if group not in self._reception.merging and (cut := self._stable.cut(group, safe, now=now)):
                self._out.append(e.Compact(group, cut))

    def _tell(self, message: m.Message) -> None:
        self._out.extend(e.Send(member, message) for member in self._linked)

    def _tell_landed(self, groups: Iterable[str], *, now: float) -> None:
        self._tell(m.Landed({group: dict(self._landed[group]) for group in groups}, dict(self._currency.told)))
        self._landed_news = set()
        self._landed_due = now + LANDED_INTERVAL_SECONDS

    def _tick(self, *, now: float) -> None:
        self._currency.look()
        if now >= self._renewal_due:
            self._renewal_due = now + self._lease.renewal_seconds
            self._tell(self._lease_request(now=now))
            refresh = now >= self._landed_refresh_due
            if refresh:
                self._landed_refresh_due = now + LANDED_REFRESH_SECONDS
            self._tell_landed(self._groups if refresh else self._landed_news, now=now)
        self._intake.expire(now=now)
        self._outflow.tick(now=now)
        self._compact(now=now)
        for journal in self._pursuit.opened():
            self._advance(journal, now=now)
        self._query(now=now)

    def _lease_request(self, *, now: float) -> m.LeaseRequest:
        vectors = (progress.snapshot() for progress in (self._recorded, self._detailed, self._fenced))
        comparing = tuple(group for group, comparing in self._reception.merging.items() if comparing)
        recorded, detailed, fenced = vectors
        return m.LeaseRequest(now, self._incarnation, recorded, detailed, fenced, comparing)

    def _query(self, *, now: float) -> None:
        self._out.extend(e.Send(member, query) for member, query in self._pursuit.queries(self._linked, now=now))

    def _link_up(self, event: e.LinkUp, *, now: float) -> None:
        member = event.member
        if member not in self._others:
            self.ignored["link of a stranger"] += 1
            return
        self._linked[member] = event.incarnation
        self._memory.met(member, knew=event.knew)
        self._pursuit.met(member)
        self._stable.met(member)
        self._currency.look()
        self._outflow.reset(member)
        self._intake.forget(member)
        self._board.linked(member, True)
        self._out.append(e.Send(member, self._lease_request(now=now)))
        self._out.append(
            e.Send(member, m.Landed({g: dict(self._landed[g]) for g in self._groups}, dict(self._currency.told)))
        )
        self._query(now=now)

    def _link_down(self, member: str) -> None:
        if self._linked.pop(member, None) is not None:
            self._outflow.reset(member)
            self._intake.forget(member)
            self._board.linked(member, False)
            self._out.extend(e.PeerLanded(member, group) for group in self._groups)

    def _clock_jumped(self, *, now: float) -> None:
        self._leases.drop(now=now)
        self._grants.forget(now=now)
        self._pursuit.forget()
        self._currency.reset()
        self._renewal_due = -math.inf
        self._tick(now=now)

    # Our own and foreign journals becoming durable here.

    def _journaled(self, event: e.Journaled, *, now: float) -> None:
        journal = (event.group, self._member)
        self._detailed.raise_to(journal, event.upto)
        if self._recorded.raise_to(journal, event.upto):
            self._outflow.journaled(event.group, event.upto, event.prefix)
            self._pursuit.open(journal, now=now)
            self._advance(journal, now=now)

    def _marked(self, event: e.Marked, *, now: float) -> None:
        journal = (event.group, event.origin)
        mark = self._intake.durable_mark(event.group, event.origin, event.upto)
        if mark.after > self._recorded.get(journal):  # The one before it was not recorded after all.
            self.ignored["mark after a hole"] += 1
            return
        self._marks.add(mark)
        self._durable(journal, event.upto, detailed=False, now=now)

    def _durable(self, journal: Journal, upto: int, *, detailed: bool, now: float) -> None:
        if detailed and self._detailed.raise_to(journal, upto):
            self._marks.detailed(journal)
        if self._recorded.raise_to(journal, upto) and self._currency.told[journal[0]]:
            self._currency.look()
        if journal[1] == self._member:
            self._outflow.given_back(journal[0], upto)
        for member in self._intake.durable(journal):
            self._out.append(self._reception.acknowledgement(member, journal, now=now))
        self._pursuit.open(journal, now=now)
        self._advance(journal, now=now)

    def _advance(self, journal: Journal, *, now: float) -> None:
        """Rule 4, evaluated with what is known now."""
        if self._raise_fenced(journal, self._pursuit.reach(journal, now=now), now=now):
            self._completed[journal] = None

    def _raise_fenced(self, journal: Journal, upto: int, *, now: float) -> bool:
        if not self._fenced.raise_to(journal, upto):
            return False
        self._pursuit.moved(journal, now=now)
        self._out += [e.StoreFenced(*journal, upto), e.FenceMoved(*journal, upto)]
        return True

    # What other members say.

    def _received(self, member: str, message: m.Message, *, now: float) -> None:
        if member not in self._linked:
            self.ignored["message without a link"] += 1
            return
        match message:
            case m.LeaseRequest():
                self._lease_requested(member, message, now=now)
            case m.LeaseGrant():
                self._lease_granted(member, message, now=now)
            case m.Entries():
                self._out += self._reception.entries(member, message, now=now)
            case m.Bodies():
                self.ignored["bodies of no group here"] += 1
            case m.Mark():
                self._out += self._reception.mark(member, message, now=now)
            case m.Ack():
                self._ack(member, message, now=now)
            case m.FenceQuery():
                self._out += self._reception.fence_query(member, message, now=now)
            case m.Fenced():
                self._learn_fenced(message.fenced, now=now)
            case m.Landed():
                self._peer_landed(member, message, now=now)
            case m.Gossip():
                self._out.append(e.GossipReceived(member, message.payload))
            case m.Hello():
                self.ignored["hello in the middle"] += 1
            case _:
                assert_never(message)

    def _lease_requested(self, member: str, request: m.LeaseRequest, *, now: float) -> None:
        if request.incarnation != self._linked[member]:
            self.ignored["request of another incarnation"] += 1
            return
        recorded, term_seconds = self._recorded.snapshot(), 0.0
        if not self._held_back():
            self._grants.give(member, recorded, now=now)
            term_seconds = self._lease.term_seconds
        yours = {group: self._intake.may_hold((group, member)) for group in self._groups}
        grant = m.LeaseGrant(request.sent, request.incarnation, recorded, self._fenced.snapshot(), term_seconds, yours)
        self._out.append(e.Send(member, grant))
        self._learn_fenced(request.fenced, now=now)
        self._told[member] = request.recorded
        self._outflow.requested(member, request, now=now)
        for group, seqs in request.detailed.items():
            self._stable.detailed(member, group, seqs)

    def _lease_granted(self, member: str, grant: m.LeaseGrant, *, now: float) -> None:
        self._learn_fenced(grant.fenced, now=now)
        if grant.incarnation == self._incarnation and grant.sent <= now:
            votes = grant.term_seconds > 0.0
            self._memory.answered(member, grant.sent, grant.recorded, votes=votes, yours=grant.yours)
            self._currency.look()
        if not grant.term_seconds > 0.0:
            return
        fault = self._leases.accept(
            member,
            sent=grant.sent,
            incarnation=grant.incarnation,
            term_seconds=grant.term_seconds,
            recorded=grant.recorded,
            now=now,
        )
        if fault:
            self.ignored[fault] += 1
        else:
            self._currency.reset()
            self._stable.granted(member, grant, self._detailed.snapshot())
            self._pursuit.answered(member, grant.sent)

    def _learn_fenced(self, fenced: m.Vectors, *, now: float) -> None:
        """Somebody else completed fences: believed as far as we have recorded."""
        for group, origins in fenced.items():
            for origin, upto in origins.items():
                self._raise_fenced((group, origin), min(upto, self._recorded.get((group, origin))), now=now)

    def _ack(self, member: str, ack: m.Ack, *, now: float) -> None:
        journal = (ack.group, ack.origin)
        if not all(0.0 <= seconds <= OUTSTANDING_SECONDS_MAX for seconds in ack.outstanding.values()):
            self.ignored["ack with impossible leases"] += 1
            return
        if ack.origin == self._member and ack.upto > self._recorded.get(journal):
            self.ignored["ack beyond our journal"] += 1
        drift = self._lease.drift
        out_until = {holder: stretched(now, seconds, drift=drift) for holder, seconds in ack.outstanding.items()}
        self._pursuit.acknowledge(member, ack, out_until)
        self._outflow.acknowledged(member, ack, now=now)
        self._advance(journal, now=now)

    def _peer_landed(self, member: str, message: m.Landed, *, now: float) -> None:
        try:
            news = self._board.hear(member, message.landed, message.current, now=now)
        except LandedError:
            self.ignored["garbled state of landing"] += 1
            return
        self._out.extend(e.PeerLanded(member, group) for group in news)
        for group in news:
            self._stable.landed(member, group, message.landed.get(group, {}))
