"""`steer.decide` for the view of the moment, remembering what it worked out: this is what serves queries.

Law: it gives what `decide` gives, but for texts, which only `explain` shows. What it remembers is bounded. When the
view changes, only what the change touches is forgotten (`touched.Touched`), and whoever keeps answers made from it is
told which questions those are (`take_forgotten`).
"""

import dataclasses
from collections.abc import Iterable
from operator import attrgetter
from typing import Any

from anycastle.dns.geo import DEFAULT_PLACE
from anycastle.dns.rank import Depends, may_hash
from anycastle.dns.settings import Policy, SteeredName
from anycastle.dns.standing import Standing, in_flight, stand
from anycastle.dns.steer import Decision, Match, Steering, choose
from anycastle.dns.touched import Touched
from anycastle.health.view import View

NAMES_MAX = 65536
"""Names remembered, about 1 KB each. Random ones below a wildcard can fill it; then the oldest is forgotten."""

_KIND = attrgetter(*(field.name for field in dataclasses.fields(SteeredName) if field.name not in ("name", "content")))
"""All that a name's rule says, but which name and which content."""
_Key = tuple[str, tuple[str, ...]]
"""The name of a rule, and what its star stands for: one name that may be asked for."""


class Standpoint:
    """A standing, and what follows from it. Names of one kind under which nothing is under way share it."""

    __slots__ = ("answers", "decisions", "hashed", "made", "standing")

    def __init__(self, standing: Standing, made: float) -> None:
        self.standing = standing
        self.made = made
        self.hashed = may_hash(standing.rule, standing.loads)
        self.decisions: dict[int, Decision] = {}
        """By place; each with the scope of whoever asked first."""
        self.answers: dict[int, Any] = {}
        """By record type: what `template.Keeper` made of them, where it is the same for every name; None where not."""

    def holds(self, now: float) -> bool:
        return self.made <= now < self.standing.until


class Name:
    """What is remembered of one name. Not of all that share its content: the name is in some answers, and random names
    below a wildcard must not make one `questions` grow without end."""

    __slots__ = ("answers", "match", "questions", "standpoint")

    def __init__(self, match: Match, standpoint: Standpoint) -> None:
        self.match = match
        self.standpoint = standpoint
        self.questions: set[bytes] = set()
        """Under which its answers are kept elsewhere."""
        self.answers: dict[int, Any] = {}
        """By record type: what `template.Keeper` made of them, where it is this name's own."""


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    """A decision for one client, and for whom else and for how long it holds."""

    decision: Decision
    """With the scope of whoever asked first: `scope_bits` here is the client's own."""
    scope_bits: int
    place: int | None
    """It holds for all clients of this place of the name's map, with scopes of their own; None when a hash decided."""
    by_speed: bool
    """The name's map is the one for `fastest`."""
    name: Name

    @property
    def until(self) -> float:
        """When time alone may change it, in seconds of the view's clock."""
        return self.name.standpoint.standing.until


class Decider:
    """Not for several threads."""

    def __init__(self, steering: Steering, view: View, *, names_max: int = NAMES_MAX) -> None:
        self.steering = steering
        self._view = view
        self._names_max = names_max
        self._names: dict[_Key, Name] = {}
        self._shared: dict[object, Standpoint] = {}
        """By kind."""
        self._content = _ContentIndex()
        self._forgotten: list[bytes] = []

    @property
    def remembered(self) -> int:
        """How many names."""
        return len(self._names)

    def decide(self, match: Match, client: bytes, source_bits: int, *, now: float) -> Choice:
        """As `steer.decide`."""
        name = self.name(match, now)
        standpoint = name.standpoint
        if standpoint.hashed:
            decision = choose(self.steering, match, standpoint.standing, client, source_bits)
            return Choice(decision, decision.scope_bits, None, False, name)
        where = self.steering.map_of(match.rule)
        place, scope_bits = where.find(client) if source_bits else (DEFAULT_PLACE, 0)
        known = standpoint.decisions.get(place)
        if known is None:
            known = choose(self.steering, match, standpoint.standing, client, source_bits)
            standpoint.decisions[place] = known
        scope = scope_bits if known.depends is Depends.PLACE else 0
        return Choice(known, scope, place, where is not self.steering.geo, name)

    def name(self, match: Match, now: float) -> Name:
        """What is remembered of a name, from now on."""
        key = (match.rule.name, match.captures)
        name = self._names.get(key)
        if name is not None:
            if name.standpoint.holds(now):
                return name
            self._forget(key)
        if len(self._names) >= self._names_max:
            self._forget(next(iter(self._names)))
        name = self._names[key] = Name(match, self._standpoint(match, now))
        self._content.add(match.rule.group, match.prefix, key)
        return name

    def change(self, view: View, touched: Touched) -> None:
        """Go on with another view."""
        self._view = view
        if touched.everything or touched.sites or touched.groups:
            self._shared.clear()
            gone = [key for key, name in self._names.items() if self._is_touched(name, touched)]
        else:
            gone = list(self._content.touched(touched.prefixes))
        for key in gone:
            self._forget(key)

    def lay(self, steering: Steering) -> None:
        """Go on with another map for names that go by speed; all else in the steering is as it was."""
        self.steering = steering
        self._shared = {
            kind: held for kind, held in self._shared.items() if held.standing.rule.policy is not Policy.FASTEST
        }
        for key in [key for key, name in self._names.items() if name.match.rule.policy is Policy.FASTEST]:
            self._forget(key)

    def take_forgotten(self) -> list[bytes]:
        """The questions whose kept answers are to be dropped, each told once."""
        if not self._forgotten:
            return self._forgotten
        forgotten, self._forgotten = self._forgotten, []
        return forgotten

    def _is_touched(self, name: Name, touched: Touched) -> bool:
        candidates = [site.name for site in name.standpoint.standing.candidates]
        return touched.touches(name.match.rule.group, name.match.prefix, candidates)

    def _forget(self, key: _Key) -> None:
        name = self._names.pop(key)
        self._content.remove(name.match.rule.group, name.match.prefix, key)
        self._forgotten += name.questions

    def _standpoint(self, match: Match, now: float) -> Standpoint:
        rule = match.rule
        candidates = self.steering.candidates(rule)
        if in_flight(rule, match.prefix, candidates, self._view):
            return Standpoint(stand(rule, match.prefix, candidates, self._view, now=now), now)
        kind = _KIND(rule)
        shared = self._shared.get(kind)
        if shared is None or not shared.holds(now):
            shared = Standpoint(stand(rule, match.prefix, candidates, self._view, now=now), now)
            self._shared[kind] = shared
        return shared


class _ContentIndex:
    """Which names stand for content at, above and below a prefix. Prefixes are empty or end with a slash."""

    def __init__(self) -> None:
        self._at: dict[tuple[str, bytes], set[_Key]] = {}
        self._below: dict[tuple[str, bytes], set[_Key]] = {}
        """At the prefix itself, too."""

    def add(self, group: str | None, prefix: bytes, key: _Key) -> None:
        if group is not None:
            self._at.setdefault((group, prefix), set()).add(key)
            for folder in _folders(prefix):
                self._below.setdefault((group, folder), set()).add(key)

    def remove(self, group: str | None, prefix: bytes, key: _Key) -> None:
        if group is not None:
            _discard(self._at, (group, prefix), key)
            for folder in _folders(prefix):
                _discard(self._below, (group, folder), key)

    def touched(self, prefixes: dict[str, frozenset[bytes]]) -> set[_Key]:
        found: set[_Key] = set()
        for group, changed in prefixes.items():
            for prefix in changed:
                *above, own = _folders(prefix)
                found.update(*(self._at.get((group, folder), ()) for folder in above))
                found.update(self._below.get((group, own), ()))
        return found


def _folders(prefix: bytes) -> Iterable[bytes]:
    """`b"a/b/"` -> `b""`, `b"a/"`, `b"a/b/"`."""
    yield b""
    end = 0
    while (end := prefix.find(b"/", end) + 1) > 0:
        yield prefix[:end]


def _discard(index: dict[tuple[str, bytes], set[_Key]], place: tuple[str, bytes], key: _Key) -> None:
    index[place].discard(key)
    if not index[place]:
        del index[place]
