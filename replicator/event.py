"""What the controller is told, and what it tells its shell to do: plain values, no behaviour."""

from collections.abc import Mapping
from dataclasses import dataclass

from anycastle.replicator.entry import Entry
from anycastle.replicator.message import LandedUpto, Mark, Message


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed; about every 50 ms."""


@dataclass(frozen=True, slots=True)
class LinkUp:
    """A link to `member`, which runs for the `incarnation`-th time, exchanged its Hellos."""

    member: str
    incarnation: int
    knew: bool = True
    """It may remember a ledger of ours that is not this one."""


@dataclass(frozen=True, slots=True)
class LinkDown:
    """The link is gone."""

    member: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Received:
    """A well-formed message (link_frame.decode) of the member whose certificate the link showed."""

    member: str
    message: Message


@dataclass(frozen=True, slots=True)
class Journaled:
    """The own journal is durable up to `upto`; what was added lies below the folder `prefix` (`a/b/`, or empty)."""

    group: str
    upto: int
    prefix: bytes = b""


@dataclass(frozen=True, slots=True)
class Recorded:
    """Foreign entries are durable: the journal's entries are held contiguously up to `upto`."""

    group: str
    origin: str
    upto: int


@dataclass(frozen=True, slots=True)
class Marked:
    """A coarse mark up to `upto` is durable."""

    group: str
    origin: str
    upto: int


@dataclass(frozen=True, slots=True)
class LandedHere:
    """What this site has landed, for the origins named."""

    group: str
    landed: Mapping[str, LandedUpto]


@dataclass(frozen=True, slots=True)
class FenceWanted:
    """Somebody waits until `(origin, seq)` is fenced."""

    group: str
    origin: str
    seq: int


@dataclass(frozen=True, slots=True)
class Merging:
    """Whether this member brings a group together with the others: then it takes journals with holes.

    `comparing`: it holds content that it compares, and wants no bodies along with entries.
    """

    group: str
    on: bool
    comparing: bool = False


@dataclass(frozen=True, slots=True)
class Absent:
    """Members that were away for longer than the group's retention: compaction does not wait for them."""

    group: str
    members: frozenset[str]


@dataclass(frozen=True, slots=True)
class Forgot:
    """The ledger does not hold all that was once acknowledged (`Memory`)."""


@dataclass(frozen=True, slots=True)
class ClockJumped:
    """Time may have passed that was not counted."""

    reason: str


Event = (
    Tick
    | LinkUp
    | LinkDown
    | Received
    | Journaled
    | Recorded
    | Marked
    | LandedHere
    | FenceWanted
    | Merging
    | Absent
    | Forgot
    | ClockJumped
)


@dataclass(frozen=True, slots=True)
class Send:
    """Put a message on the link; it may be lost."""

    member: str
    message: Message


@dataclass(frozen=True, slots=True)
class SendEntries:
    """Read the entries `after` < seq ≤ `upto` from the ledger and send them, in as many Entries as fit; may be lost."""

    member: str
    group: str
    origin: str
    after: int
    upto: int
    bodies: bool = True
    """Small bodies go along."""


@dataclass(frozen=True, slots=True)
class Record:
    """Make foreign entries of one journal durable, then feed Recorded. Repeated ones may be among them."""

    group: str
    origin: str
    entries: tuple[Entry, ...]
    bodies: Mapping[bytes, bytes]
    after: int
    upto: int
    """The entries are all that is left of `after` < seq ≤ `upto`."""
    coming: tuple[bytes, ...] = ()
    """Digests of bodies that follow."""
    lost: bool = False
    """There are none, and never will be: keep that, for members that come for them."""


@dataclass(frozen=True, slots=True)
class RecordMark:
    """Make a coarse mark durable (again, if it already is), then feed Marked."""

    mark: Mark


@dataclass(frozen=True, slots=True)
class StoreFenced:
    """Persist, whenever convenient: losing it costs a round trip after a restart."""

    group: str
    origin: str
    upto: int


@dataclass(frozen=True, slots=True)
class FenceMoved:
    """A journal is fenced up to `upto`: wake who waits for it."""

    group: str
    origin: str
    upto: int


@dataclass(frozen=True, slots=True)
class CurrencyMoved:
    """Whether this member is current for the group, or why not, changed. The empty string: it is."""

    group: str
    reason: str


@dataclass(frozen=True, slots=True)
class PeerLanded:
    """What a member has landed of a group, or whether it is current for it, changed."""

    member: str
    group: str


@dataclass(frozen=True, slots=True)
class GossipReceived:
    """Not ours to read."""

    member: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Compact:
    """Everybody is past these: what is superseded up to there, and tombstones, may go."""

    group: str
    upto: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Remembered:
    """Nothing that was forgotten is missing any more: keep that."""


Command = (
    Send
    | SendEntries
    | Record
    | RecordMark
    | StoreFenced
    | FenceMoved
    | CurrencyMoved
    | PeerLanded
    | GossipReceived
    | Compact
    | Remembered
)
