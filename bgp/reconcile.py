"""What each router was told, what it should be told, and the one next thing to tell.

Law: no IO, no clock. The rules of docs/bgp.md hold here: one order in flight (the caller asks for the next only after
it has answered the last), only withdrawals while a session is down, and after every `up` one order for every known
prefix, whatever was acknowledged before. An acknowledgement counts only for the session it was ordered in.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from anycastle.bgp.exabgp import carries
from anycastle.bgp.route import RouteState, prefix_order
from anycastle.bgp.settings import Address, Peer, Prefix


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Tell `peer` that `prefix` is in `state` from now on."""

    peer: Peer
    prefix: Prefix
    state: RouteState
    session: int
    """Which session of the peer it was made for."""


@dataclass(slots=True)
class _Table:
    """One router. `told` holds acknowledged orders of the present session (or of the present outage)."""

    peer: Peer
    up: bool = False
    session: int = 0
    told: dict[Prefix, RouteState] = field(default_factory=dict)
    due: dict[Prefix, None] = field(default_factory=dict)
    """An ordered set: what must be told next."""


class Reconciler:
    """Wanted states in, orders out."""

    def __init__(self, peers: Iterable[Peer], known: Iterable[Prefix]) -> None:
        self._tables = {peer.address: _Table(peer) for peer in peers}
        self._wanted: dict[Prefix, RouteState] = {}
        self._known = set(known)

    def want(self, wanted: Mapping[Prefix, RouteState]) -> None:
        """From now on these; every other known prefix is to be withdrawn."""
        self._wanted = dict(wanted)
        self._known |= wanted.keys()
        for table in self._tables.values():
            self._schedule(table)

    def session(self, address: Address, up: bool) -> bool:
        """A session came up or went down; True when that is news. Each `up` is: the router starts from nothing.

        One outage yields several downs. A peer that is not ours is ignored.
        """
        table = self._tables.get(address)
        if table is None or (not up and not table.up):
            return False
        table.up, table.told = up, {}
        table.session += 1
        self._schedule(table)
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
            table.up, table.told = False, {}
            table.session += 1
            self._schedule(table)

    def repeat(self) -> None:
        """Withdrawals are told again: they heal what came back, and cost one small UPDATE. So is what was refused."""
        for table in self._tables.values():
            for prefix in [p for p, state in table.told.items() if state is RouteState.WITHDRAWN]:
                del table.told[prefix]
            self._schedule(table)

    def next(self) -> Order | None:
        """The next order; it is not given out again unless its prefix becomes due again. Withdrawals go first."""
        announce: tuple[_Table, Prefix] | None = None
        for table in self._tables.values():
            for prefix in table.due:
                if self._target(prefix) is RouteState.WITHDRAWN:
                    return self._order(table, prefix)
                announce = announce or (table, prefix)
                break  # `due` has its withdrawals first
        return self._order(*announce) if announce is not None else None

    def acknowledge(self, order: Order) -> None:
        """ExaBGP took the order. The wish may have changed while it was on its way, and changed back."""
        table = self._tables[order.peer.address]
        if table.session != order.session:
            return
        table.told[order.prefix] = order.state
        table.due.pop(order.prefix, None)
        if self._is_due(table, order.prefix):
            table.due[order.prefix] = None
            self._sort(table)

    def refuse(self, order: Order) -> None:
        """ExaBGP answered error: what the router holds is unknown. Tried again with the next repetition."""
        table = self._tables[order.peer.address]
        if table.session == order.session:
            table.told.pop(order.prefix, None)

    def busy(self) -> bool:
        """Something is still to be told to a session that is up."""
        return any(table.due for table in self._tables.values() if table.up)

    def announced(self) -> frozenset[Prefix]:
        """Prefixes that at least one session, up now, was told to use and acknowledged."""
        return frozenset(
            prefix
            for table in self._tables.values()
            if table.up
            for prefix, state in table.told.items()
            if state is not RouteState.WITHDRAWN
        )

    def told(self, address: Address) -> Iterator[tuple[Prefix, RouteState, RouteState | None]]:
        """(prefix, wanted, acknowledged or None when unknown) for every prefix the peer's family carries, sorted."""
        table = self._tables[address]
        for prefix in sorted((p for p in self._known if carries(table.peer, p)), key=prefix_order):
            yield prefix, self._target(prefix), table.told.get(prefix)

    def _target(self, prefix: Prefix) -> RouteState:
        return self._wanted.get(prefix, RouteState.WITHDRAWN)

    def _order(self, table: _Table, prefix: Prefix) -> Order:
        del table.due[prefix]
        target = self._target(prefix)
        if target is RouteState.WITHDRAWN:
            # Until the answer comes, what the router holds is unknown. (Other attributes leave it announced.)
            table.told.pop(prefix, None)
        return Order(peer=table.peer, prefix=prefix, state=target, session=table.session)

    def _schedule(self, table: _Table) -> None:
        table.due = {p: None for p in sorted(self._known, key=prefix_order) if self._is_due(table, p)}
        self._sort(table)

    def _sort(self, table: _Table) -> None:
        """Withdrawals first: they are urgent, announcements are not. Stable, so prefixes stay in order."""
        table.due = dict.fromkeys(sorted(table.due, key=lambda p: self._target(p) is not RouteState.WITHDRAWN))

    def _is_due(self, table: _Table, prefix: Prefix) -> bool:
        target = self._target(prefix)
        allowed = table.up or target is RouteState.WITHDRAWN
        return carries(table.peer, prefix) and allowed and table.told.get(prefix) is not target
