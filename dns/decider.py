"""`steer.decide` for one view, remembering what it worked out: this is what serves queries.

Law: it gives what `decide` gives, but ages in texts may be up to a second old. What it remembers is bounded, and is
dropped whole with the view: build a new one for each.
"""

from anycastle.dns.geo import DEFAULT_PLACE
from anycastle.dns.rank import may_hash
from anycastle.dns.standing import Standing, stand
from anycastle.dns.steer import Decision, Match, Steering, choose
from anycastle.health.view import View

REMEMBER_SECONDS = 1.0
"""How long ages in texts may stand still."""
REMEMBERED_MAX = 8192
"""Standings and decisions together. Random names below a wildcard can fill it; then it starts anew."""


class Decider:
    """Not for several threads."""

    def __init__(self, steering: Steering, view: View) -> None:
        self.steering = steering
        self.view = view
        self._names: dict[tuple[str, bytes], _Name] = {}
        self.remembered = 0

    def decide(self, match: Match, client: bytes, source_bits: int, *, now: float) -> Decision:
        """As `steer.decide`."""
        name = self._name(match, now)
        if name.hashed:
            return choose(self.steering, match, name.standing, client, source_bits)
        where = self.steering.geo.find(client) if source_bits else (DEFAULT_PLACE, 0)
        decision = name.decisions.get(where)
        if decision is None:
            decision = name.decisions[where] = choose(self.steering, match, name.standing, client, source_bits)
            self._count()
        return decision

    def _name(self, match: Match, now: float) -> "_Name":
        key = (match.rule.name, match.prefix)
        name = self._names.get(key)
        if name is None or not name.made <= now < name.until:
            candidates = self.steering.candidates(match.rule)
            name = _Name(stand(match.rule, match.prefix, candidates, self.view, now=now), now)
            self._count()
            self._names[key] = name
        return name

    def _count(self) -> None:
        if self.remembered == REMEMBERED_MAX:
            self._names.clear()
            self.remembered = 0
        self.remembered += 1


class _Name:
    """What is remembered of one name and content prefix."""

    def __init__(self, standing: Standing, now: float) -> None:
        self.standing = standing
        self.made = now
        self.until = min(standing.until, now + REMEMBER_SECONDS)
        self.hashed = may_hash(standing.rule, standing.loads)
        self.decisions: dict[tuple[int, int], Decision] = {}
