"""What operators override: who drained which site, merged the same way at every member.

Law: of two overrides of one (site, group) the greater (counter, by) wins everywhere, so that members agree in whatever
order they hear. An override hides the measured state and never erases it, so this module knows nothing of health.
"""

from collections.abc import Iterable

import msgspec

from anycastle.health.judge import HealthError
from anycastle.health.view import ALL_GROUPS

OVERRIDES_MAX = 10_000
"""Pairs of site and group; what exceeds it is not taken, and `set` says so."""
COUNTER_MAX = 2**53 - 1
"""Exact in any JSON reader. Nobody reaches it by hand; a greater one is not believed."""
NAME_CHARACTERS_MAX = 255


class Override(msgspec.Struct, frozen=True, order=True, array_like=True):
    """One operator's word on one site, for one group or for all of them."""

    site: str
    group: str
    """A group's name or ALL_GROUPS."""
    drained: bool
    counter: int
    by: str
    """The member where the operator said it."""


class Drains:
    """All overrides a member knows, those that were taken back included (they must win over older ones elsewhere)."""

    def __init__(self, member: str, overrides: Iterable[Override] = ()) -> None:
        self._member = member
        self._known: dict[tuple[str, str], Override] = {}
        self.overrides_refused = 0
        self.merge(overrides)

    def overrides(self) -> tuple[Override, ...]:
        return tuple(sorted(self._known.values()))

    def drained(self, site: str) -> frozenset[str]:
        """For `SiteView.drained`: the drained groups of a site, or ALL_GROUPS among them."""
        return frozenset(known.group for known in self._known.values() if known.site == site and known.drained)

    def set(self, site: str, group: str, drained: bool) -> tuple[Override, ...]:
        """An operator's word, given at this member; returns what changed, to be kept and told to the others.

        Taking the whole site back takes its groups back too: somebody who says "undrain ams" means all of it.
        Raises HealthError when there is no room.
        """
        groups = {group}
        if group == ALL_GROUPS and not drained:
            groups |= self.drained(site)
        counter = 1 + max((known.counter for known in self._known.values()), default=0)
        changed = tuple(Override(site, each, drained, counter, self._member) for each in sorted(groups))
        if self.merge(changed) != changed:
            raise HealthError(
                f"cannot drain {site}: expected names of ordinary length and at most {OVERRIDES_MAX} overrides"
            )
        return changed

    def merge(self, overrides: Iterable[Override]) -> tuple[Override, ...]:
        """Take what another member knows; returns those that were news."""
        news = []
        for said in overrides:
            known = self._known.get((said.site, said.group))
            if known is not None and _rank(known) >= _rank(said):
                continue
            if not _acceptable(said) or (known is None and len(self._known) >= OVERRIDES_MAX):
                self.overrides_refused += 1
                continue
            self._known[said.site, said.group] = said
            news.append(said)
        return tuple(news)

    def encode(self) -> bytes:
        """For the disk and for gossip alike."""
        return msgspec.json.encode(self.overrides())


def decode(data: bytes) -> tuple[Override, ...]:
    """The reverse of `Drains.encode`. Raises HealthError."""
    try:
        return msgspec.json.decode(data, type=tuple[Override, ...])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise HealthError(
            f"overrides cannot be read ({error}): expected [site, group, drained, counter, by]"
        ) from error


def _rank(override: Override) -> tuple[int, str, bool]:
    # `drained` breaks the tie that only a member which reused its counter (a disk put back) can make.
    return override.counter, override.by, override.drained


def _acceptable(said: Override) -> bool:
    names = (said.site, said.group, said.by)
    return 0 < said.counter <= COUNTER_MAX and all(0 < len(name) <= NAME_CHARACTERS_MAX for name in names)
