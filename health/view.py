"""The shared vocabulary: one immutable picture of the world, from which DNS, BGP, edge and dashboard all decide.

Law: `app` is the only writer. It builds the next `View` aside and swaps one reference; everybody else reads one
snapshot, so the parts cannot disagree about a moment. Times are seconds of CLOCK_BOOTTIME *of the member that
built the view*; they cross to other processes of that member only, never to other members.
"""

import enum

import msgspec

ALL_GROUPS = "*"
"""In `SiteView.drained`: the whole site is drained, not only some groups."""

WHOLE_GROUP = b""
"""In `GroupView.pending`: anything in the group may be pending."""


class Health(enum.Enum):
    """What probes and observers agree on; UNKNOWN is not a milder DOWN, it is the lack of knowledge."""

    UP = "up"
    DOWN = "down"
    UNKNOWN = "unknown"


class GroupView(msgspec.Struct, frozen=True, kw_only=True):
    """One group at one site."""

    current: bool
    """The site holds valid leases from a majority (itself counts) and, since it started, has caught up once."""
    current_reason: str
    """Why (not), for people: "2 of 3 leases", "not heard of for 4 s", "catching up: 20 changes …"."""
    pending: dict[bytes, float]
    """Content prefix -> since when (seconds, BOOTTIME) the oldest change below it is known and has not landed there."""
    gated: str = ""
    """Which probe that the group requires keeps users away from the site, and why; empty when none does."""

    def lag_seconds(self, now: float) -> float:
        """Age of the oldest change that has not landed; 0.0 when settled."""
        return max(0.0, now - min(self.pending.values())) if self.pending else 0.0


class SiteView(msgspec.Struct, frozen=True, kw_only=True):
    """One site, as this member knows it."""

    health: Health
    reason: str
    """Why the site is held to be in this health, for people."""
    since: float
    """When the health last changed, seconds of BOOTTIME."""
    groups: dict[str, GroupView]
    drained: frozenset[str] = frozenset()
    """Groups an operator drained, or ALL_GROUPS. Hides the measured health, never erases it."""
    load: float = 0.0
    """Requests per second at its edge."""
    announced: frozenset[str] = frozenset()
    """Prefixes that the site itself reports as announced and acknowledged."""


class View(msgspec.Struct, frozen=True, kw_only=True):
    """Everything known of all sites at one moment."""

    member: str
    """Who built it."""
    generation: int
    """Grows by one with each published view of this process."""
    at: float
    sites: dict[str, SiteView]
    isolated: bool = False
    """This member has lost everybody: what it says of others is frozen, and it suspects itself."""


def content_prefix(path: bytes, depth: int) -> bytes:
    """The key in `GroupView.pending` for a path: its first `depth` components, each with its slash.

    A path counts as a folder here, so that `alice` itself (as file or folder) is found below the prefix `alice/`.

    >>> content_prefix(b"alice/htdocs/a.jpg", 1), content_prefix(b"alice", 1), content_prefix(b"alice/x", 0)
    (b'alice/', b'alice/', b'')
    """
    parts = path.split(b"/")[:depth]
    return b"".join(part + b"/" for part in parts)


def pending_since(pending: dict[bytes, float], prefix: bytes) -> float | None:
    """Since when something below (or above) `prefix` is pending, the oldest; None when nothing is. O(len(pending))."""
    times = [since for key, since in pending.items() if key.startswith(prefix) or prefix.startswith(key)]
    return min(times, default=None)


def withheld(view: View, site: str, group: str | None, prefix: bytes, *, grace_seconds: float, now: float) -> str:
    """Why steering must not send users of `group:prefix` to `site`; the empty string when it is eligible.

    First what an operator said, then health, currency, what the group requires, then content (design section 6).
    `group` None asks for a name that maps to no content: only drain and health count.
    """
    state = view.sites.get(site)
    if state is None:
        return "never heard of"
    if ALL_GROUPS in state.drained or (group is not None and group in state.drained):
        return "drained by an operator"
    if state.health is not Health.UP:
        return f"{state.health.value}: {state.reason} for {max(0.0, now - state.since):.0f} s"
    if group is None:
        return ""
    content = state.groups.get(group)
    if content is None:
        return f"holds no group {group}"
    if not content.current:
        return f"not current for {group}: {content.current_reason}"
    if content.gated:
        return f"{group} {content.gated}"
    since = pending_since(content.pending, prefix)
    if since is not None and now >= since + grace_seconds:  # as `dns.standing` reckons until when this holds
        where = show_path(prefix) or "(whole group)"
        return f"{group}:{where} has a change that has not landed there for {max(0.0, now - since):.1f} s"
    return ""


def show_path(path: bytes) -> str:
    """A path for people: UTF-8 where it is, `\\xNN` where it is not. Not reversible."""
    return path.decode("utf-8", "backslashreplace")
