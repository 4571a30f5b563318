"""What happened, one sentence each, and which of it a question is about.

Law: a path is matched as text, as it is shown to people. What happened to a folder, or to a whole group, happened to
every path below it; what happened to no content concerns a name only where it moves its users.
"""

import enum

import msgspec

TEXT_CHARACTERS_MAX = 500


class Kind(enum.Enum):
    """What an event is about."""

    START = "start"
    """The member began; said of one that did not end in order, too."""
    STOP = "stop"
    HEALTH = "health"
    DRAIN = "drain"
    CURRENT = "current"
    """A site became current for a group, or ceased to be."""
    GATE = "gate"
    """What a group requires of a site."""
    CONTENT = "content"
    """A change that has not landed."""
    CONFLICT = "conflict"
    ROUTE = "route"
    LINK = "link"
    TROUBLE = "trouble"
    """What the machine refuses to do."""
    LEDGER = "ledger"
    """Others disown this member's ledger."""
    RELOAD = "reload"


MOVING = frozenset({Kind.HEALTH, Kind.DRAIN})
"""What moves the users of a name although it says nothing of its content."""


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the timeline."""

    wall: float
    """Seconds since the epoch."""
    kind: Kind
    site: str = ""
    """Or a witness; empty for what is of no single site."""
    place: str = ""
    """`GROUP:PATH`, or `GROUP:` for all of a group; empty for what is of no content."""
    text: str


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What is looked for; what is empty excludes nothing."""

    site: str = ""
    place: str = ""
    """`GROUP:PATH`, whole or its beginning."""
    sites_too: bool = False
    """With a place: what moves users from or to whole sites as well, as somebody who asks about a name wants it."""

    def matches(self, event: Event) -> bool:
        if self.site and event.site != self.site:
            return False
        if not self.place:
            return True
        if not event.place:
            return self.sites_too and event.kind in MOVING
        above = event.place.endswith(("/", ":")) and self.place.startswith(event.place)
        return above or event.place.startswith(self.place)
