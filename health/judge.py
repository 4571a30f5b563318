"""Agreement on the health of every site across observers, so that one broken monitor decides nothing.

Laws: a broken minority never takes down a healthy site that says itself that it is well; an observer that lost
everybody suspects itself and changes nothing; a site that went DOWN stays so for the hold-down; an observer older than
`observation_age_max_seconds` has no say. Table for one site, from fresh observations, first row that fits:

    the site itself says DOWN                             → DOWN
    a majority of all observers says DOWN                 → DOWN
    the site itself says UP                               → UP
    more observers say UP than DOWN                       → UP
    otherwise (nobody knows, or a draw)                   → what it was

An observer that was heard of lately has, by that, a link to somebody, and so it "can still see somebody".
"""

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import msgspec

from anycastle.errors import AnycastleError
from anycastle.health.observe import Observation, Observer, Result, Watched
from anycastle.health.settings import HealthSettings
from anycastle.health.view import Health

OBSERVERS_MAX = 256
"""Far more than members that a full mesh can have."""
REASON_CHARACTERS_MAX = 300
RESTORE_AGE_MAX_SECONDS = 3600.0
"""What was known longer ago says nothing about today."""


class HealthError(AnycastleError):
    """Persisted health or drains that cannot be read."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What this member holds a site to be."""

    health: Health
    reason: str
    since: float
    """When the health last changed; seconds of BOOTTIME, negative when that was before the machine started."""


class _Saved(msgspec.Struct, frozen=True):
    health: Health
    reason: str
    since_seconds: float
    age_seconds: float
    """For how long it was not confirmed when it was saved; above 0 when it came from an earlier run itself."""


class Judge:
    """Own probe results and the words of others in, one judgement per site out."""

    def __init__(self, settings: HealthSettings, *, now: float) -> None:
        self._settings = settings
        self._observer = Observer(settings.member, settings.probes)
        self._heard: dict[str, dict[str, tuple[Observation, float]]] = {}
        """Site -> observer -> (what it said, when that was true)."""
        self._linked: frozenset[str] = frozenset()
        self._judged = {site: Judgement(Health.UNKNOWN, "not decided yet", now) for site in settings.sites}
        self._restored_at: dict[str, float] = {}
        self.observations_refused = 0
        """Words that a member has no right to say, or that make no sense."""

    def configure(self, settings: HealthSettings, *, now: float) -> None:
        """Take new settings; sites and probes that did not change keep what is known of them."""
        self._settings = settings
        self._observer.configure(settings.probes)
        self._judged = {
            site: self._judged.get(site) or Judgement(Health.UNKNOWN, "not decided yet", now) for site in settings.sites
        }
        self._heard = {site: said for site, said in self._heard.items() if site in self._judged}

    def observe(self, result: Result, *, now: float) -> None:
        """One round of one of this member's own probes."""
        self._observer.observe(result, now=now)

    def observations(self, *, now: float) -> tuple[Observation, ...]:
        """This member's own words, for the others."""
        return tuple(self._observer.observation(site, now=now) for site in self._settings.sites)

    def watched(self, *, now: float) -> tuple[Watched, ...]:
        """This member's own probes."""
        return self._observer.watched(now=now)

    def gated(self, *, now: float) -> dict[str, str]:
        """Group -> why this member's own site may have no users for it; groups of which it has all are left out."""
        oldest = self._settings.observation_age_max_seconds
        missing = {
            group: self._observer.missing(required, age_max_seconds=oldest, now=now)
            for group, required in self._settings.requires.items()
        }
        return {group: why for group, why in missing.items() if why}

    def hear(self, sender: str, observations: Iterable[Observation], *, now: float) -> None:
        """What another member says. `sender` is whom the link proved it to be: a member speaks only for itself."""
        for said in observations:
            if not self._acceptable(sender, said):
                self.observations_refused += 1
                continue
            short = msgspec.structs.replace(said, reason=said.reason[:REASON_CHARACTERS_MAX])
            self._heard.setdefault(said.site, {})[sender] = (short, now - said.age_seconds)

    def _acceptable(self, sender: str, said: Observation) -> bool:
        if said.observer != sender or sender == self._settings.member or said.site not in self._judged:
            return False
        if not (math.isfinite(said.age_seconds) and said.age_seconds >= 0.0):
            return False
        observers = self._heard.get(said.site, {})
        return sender in observers or len(observers) < OBSERVERS_MAX

    def links(self, members: Collection[str]) -> None:
        """Which other members this one has a working link to, at this moment."""
        self._linked = frozenset(members) - {self._settings.member}

    def isolated(self, *, now: float) -> bool:
        """This member has lost everybody: no link, and no probe of its own reaches another site."""
        others = [site for site in self._settings.sites if site != self._settings.member]
        if not others or self._linked:
            return False
        return not any(self._own_fresh(site, now) is Health.UP for site in others)

    def decided(self, *, now: float) -> bool:
        """Every site is known to be UP or DOWN; until then nothing should be published."""
        return all(judged.health is not Health.UNKNOWN for judged in self.judgements(now=now).values())

    def judgements(self, *, now: float) -> dict[str, Judgement]:
        """Judge every site anew; the same moment asked twice gives the same answer."""
        isolated = self.isolated(now=now)
        for site in self._settings.sites:
            if isolated and site != self._settings.member:
                continue  # it is us who are lost: the last judgement of others stays
            self._judge(site, now)
        return {site: self._shown(site, now) for site in self._settings.sites}

    def _judge(self, site: str, now: float) -> None:
        before = self._judged[site]
        verdict = _agree(site, self._fresh(site, now))
        if verdict is None:
            return
        health, reason = verdict
        self._restored_at.pop(site, None)
        if health is before.health:
            self._judged[site] = Judgement(health, reason, before.since)
        elif before.health is Health.DOWN and now - before.since < self._settings.hold_down_seconds:
            held = "held down after: "
            why = before.reason if before.reason.startswith(held) else held + before.reason
            self._judged[site] = Judgement(Health.DOWN, why, before.since)
        else:
            self._judged[site] = Judgement(health, reason, now)

    def _shown(self, site: str, now: float) -> Judgement:
        judged = self._judged[site]
        restored_at = self._restored_at.get(site)
        if restored_at is None:
            return judged
        reason = f"{judged.reason} (known from {now - restored_at:.0f} s ago, before a restart)"
        return Judgement(judged.health, reason, judged.since)

    def _fresh(self, site: str, now: float) -> list[Observation]:
        """Who has a say on `site`, this member first."""
        oldest = now - self._settings.observation_age_max_seconds
        heard = [said for _, (said, at) in sorted(self._heard.get(site, {}).items()) if at >= oldest]
        own = self._observer.observation(site, now=now)
        return [own, *heard] if own.age_seconds <= self._settings.observation_age_max_seconds else heard

    def _own_fresh(self, site: str, now: float) -> Health:
        own = self._observer.observation(site, now=now)
        return own.health if own.age_seconds <= self._settings.observation_age_max_seconds else Health.UNKNOWN

    def snapshot(self, *, now: float) -> bytes:
        """What is known, to be kept over a restart; JSON, with ages instead of times."""
        kept = {
            site: _Saved(judged.health, judged.reason, now - judged.since, now - self._restored_at.get(site, now))
            for site, judged in self._judged.items()
            if judged.health is not Health.UNKNOWN
        }
        return msgspec.json.encode(kept)

    def restore(self, saved: bytes, *, age_seconds: float, now: float) -> None:
        """Take back what `snapshot` gave `age_seconds` ago, for sites not judged yet. Raises HealthError."""
        try:
            kept = msgspec.json.decode(saved, type=dict[str, _Saved])
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise HealthError(f"kept health cannot be read ({error}): expected what an earlier run saved") from error
        for site, state in kept.items():
            age = age_seconds + state.age_seconds
            wanted = site in self._judged and self._judged[site].health is Health.UNKNOWN
            if wanted and 0.0 <= age <= RESTORE_AGE_MAX_SECONDS and state.since_seconds >= 0.0:
                since = now - age_seconds - state.since_seconds
                self._judged[site] = Judgement(state.health, state.reason[:REASON_CHARACTERS_MAX], since)
                self._restored_at[site] = now - age


def _agree(site: str, said: list[Observation]) -> tuple[Health, str] | None:
    """The table of the module's docstring; None keeps what was."""
    itself = next((each for each in said if each.observer == site), None)
    ups = [each for each in said if each.health is Health.UP]
    downs = [each for each in said if each.health is Health.DOWN]
    if itself is not None and itself.health is Health.DOWN:
        return Health.DOWN, f"says so itself: {itself.reason}"
    if len(downs) * 2 > len(said):
        return Health.DOWN, f"{len(downs)} of {len(said)} observers: {downs[0].reason} (seen by {downs[0].observer})"
    if itself is not None and itself.health is Health.UP:
        return Health.UP, f"{len(ups)} of {len(said)} observers, itself among them, see it up"
    if len(ups) > len(downs):
        return Health.UP, f"{len(ups)} of {len(said)} observers see it up"
    return None
