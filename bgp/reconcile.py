"""What each router was told, what it should be told, and the one next thing to tell.

Law: no IO, no clock. The rules of docs/bgp.md hold here: one order in flight (the caller asks for the next only after
it has answered the last), only withdrawals while a session is down, and after every `up` one order for every known
prefix, whatever was acknowledged before. An acknowledgement counts only for the session it was ordered in.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from anycastle.bgp.exabgp import carries
from anycastle.bgp.route import RouteState, prefix_order
from anycastle.bgp.settings import Address, Peer, Prefix

REPEATED_MAX = 500
"""Withdrawals told again at once to one router, some half a second of ExaBGP's time; with more they take turns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Tell `peer` that `prefix` is in `state` from now on."""

    peer: Peer
    prefix: Prefix
    state: RouteState
    session: int
    """Which session of the peer it was made for."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a router was told of a prefix, and acknowledged."""

    state: RouteState
    since: float
    """Seconds of BOOTTIME; a repetition does not change it."""


@dataclass(slots=True)
class _Table:
    """One router. `told` holds acknowledged orders of the present session (or of the present outage)."""

    peer: Peer
    up: bool = False
    session: int = 0
    told: dict[Prefix, Told] = field(default_factory=dict)
    before: dict[Prefix, Told] = field(default_factory=dict)
    """Of what is being told again: what was acknowledged last."""
    refused: set[Prefix] = field(default_factory=set)
    withdraw: dict[Prefix, None] = field(default_factory=dict)
    """An ordered set: what must be told next. Withdrawals are urgent, the others are not."""
    announce: dict[Prefix, None] = field(default_factory=dict)

    def start_anew(self) -> None:
        self.session += 1
        self.told, self.before, self.refused = {}, {}, set()


class Reconciler:
    """Wanted states in, orders out."""

    def __init__(self, peers: Iterable[Peer], known: Iterable[Prefix]) -> None:
        self._tables = {peer.address: _Table(peer) for peer in peers}
        self._wanted: dict[Prefix, RouteState] = {}
        self._known = set(known)
        self._announced: frozenset[Prefix] | None = None
        """As `announced` said it last; None when that may have changed."""
        for table in self._tables.values():
            self._mark_all(table)

    def want(self, wanted: Mapping[Prefix, RouteState]) -> None:
        """From now on these; every other known prefix is to be withdrawn."""
        self.change(dict.fromkeys(self._wanted.keys() - wanted.keys(), RouteState.WITHDRAWN) | dict(wanted))

    def change(self, changed: Mapping[Prefix, RouteState]) -> None:
        """From now on these; what is wanted of every other prefix stays as it is. Costs what is changed."""
        self._wanted.update(changed)
        self._known.update(changed)
        for table in self._tables.values():
            for prefix in changed:
                self._mark(table, prefix)

    def session(self, address: Address, up: bool) -> bool:
        """A session came up or went down; True when that is news. Each `up` is: the router starts from nothing.

        One outage yields several downs. A peer that is not ours is ignored.
        """
        table = self._tables.get(address)
        if table is None or (not up and not table.up):
            return False
        table.up = up
        self._start_anew(table)
        return True

    def found(self, up: frozenset[Address]) -> bool:
        """ExaBGP was asked: these sessions are up, all others are not; True when that is news."""
        differing = [a for a, table in self._tables.items() if table.up != (a in up)]
        for address in differing:
            self.session(address, address in up)
        return bool(differing)

    def forget(self) -> None:
        """Nothing is known any more: ExaBGP or the way to it is new. All sessions count as down until heard of."""
        for table in self._tables.values():
            table.up = False
            self._start_anew(table)

    def repeat(self) -> None:
        """Withdrawals are told again: they heal what came back, and cost one small UPDATE. So is what was refused."""
        for table in self._tables.values():
            gone = (prefix for prefix, told in table.told.items() if told.state is RouteState.WITHDRAWN)
            # Acknowledged anew they stand at the end, so that the others are next.
            for prefix in list(itertools.islice(gone, REPEATED_MAX)):
                table.before[prefix] = table.told.pop(prefix)
                self._mark(table, prefix)
            for prefix in table.refused:
                self._mark(table, prefix)
            table.refused.clear()

    def next(self) -> Order | None:
        """The next order; it is not given out again unless its prefix becomes due again. Withdrawals go first."""
        for table in self._tables.values():
            if table.withdraw:
                return self._order(table, table.withdraw)
        for table in self._tables.values():
            if table.announce:
                return self._order(table, table.announce)
        return None

    def acknowledge(self, order: Order, *, now: float) -> None:
        """ExaBGP took the order. The wish may have changed while it was on its way, and changed back."""
        table = self._tables[order.peer.address]
        if table.session != order.session:
            return
        last = table.before.pop(order.prefix, None) or table.told.get(order.prefix)
        table.refused.discard(order.prefix)
        table.told[order.prefix] = last if last and last.state is order.state else Told(order.state, now)
        self._announced = None
        self._mark(table, order.prefix)

    def refuse(self, order: Order) -> None:
        """ExaBGP answered error: what the router holds is unknown. Tried again with the next repetition."""
        table = self._tables[order.peer.address]
        if table.session == order.session:
            table.told.pop(order.prefix, None)
            table.before.pop(order.prefix, None)
            table.refused.add(order.prefix)
            self._announced = None

    def busy(self) -> bool:
        """Something is still to be told to a session that is up."""
        return any(table.withdraw or table.announce for table in self._tables.values() if table.up)

    def announced(self) -> frozenset[Prefix]:
        """Prefixes that at least one session, up now, was told to use and acknowledged."""
        if self._announced is None:
            self._announced = frozenset(
                prefix
                for table in self._tables.values()
                if table.up
                for prefix, told in table.told.items()
                if told.state is not RouteState.WITHDRAWN
            )
        return self._announced

    def told(self, address: Address) -> Iterator[tuple[Prefix, RouteState, Told | None]]:
        """(prefix, wanted, acknowledged or None when unknown) for every prefix the peer's family carries, sorted."""
        table = self._tables[address]
        for prefix in sorted((p for p in self._known if carries(table.peer, p)), key=prefix_order):
            yield prefix, self._target(prefix), table.told.get(prefix) or table.before.get(prefix)

    def refused(self, address: Address) -> frozenset[Prefix]:
        """What ExaBGP would not take; told again with the next repetition."""
        return frozenset(self._tables[address].refused)

    def _target(self, prefix: Prefix) -> RouteState:
        return self._wanted.get(prefix, RouteState.WITHDRAWN)

    def _order(self, table: _Table, due: dict[Prefix, None]) -> Order:
        prefix = next(iter(due))
        del due[prefix]
        target = self._target(prefix)
        if target is RouteState.WITHDRAWN and prefix in table.told:
            del table.told[prefix]
            # Until the answer comes, what the router holds is unknown. (Other attributes leave it announced.)
            self._announced = None
        return Order(peer=table.peer, prefix=prefix, state=target, session=table.session)

    def _start_anew(self, table: _Table) -> None:
        table.start_anew()
        self._announced = None
        self._mark_all(table)

    def _mark_all(self, table: _Table) -> None:
        table.withdraw, table.announce = {}, {}
        for prefix in sorted(self._known, key=prefix_order):
            self._mark(table, prefix)

    def _mark(self, table: _Table, prefix: Prefix) -> None:
        """Puts the prefix where it belongs: among what is due, or not."""
        for due in (table.withdraw, table.announce):
            if prefix in due:
                del due[prefix]
        target, told = self._target(prefix), table.told.get(prefix)
        if not carries(table.peer, prefix) or (told is not None and told.state is target):
            return
        if target is RouteState.WITHDRAWN:
            table.withdraw[prefix] = None
        elif table.up:
            table.announce[prefix] = None
