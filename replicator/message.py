"""What members say to each other on a link: msgpack frames, one tagged message each.

Law: every message may be lost, repeated, delayed or reordered without harm to promise 1; order and retries only
make things fast. A member speaks for itself: the sender is what its certificate says, never a field.
Vectors: `{group: {origin: seq}}`, seq being contiguous from 1.

Versions: each member says the oldest and the newest that it speaks, and a link uses the greatest that both speak. What
an older member may ignore (a field with a default, a message that nobody waits for) needs no new version.
"""

import msgspec

from anycastle.replicator.entry import Entry

OLDEST, PROTOCOL = 1, 2
"""The versions that this program speaks, of messages and of what is asked over HTTP between members."""
BODIES_FOLLOW = 2
"""From this version on."""

Vectors = dict[str, dict[str, int]]


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """First on every link, both ways; no common version or incompatible rosters close it (rule 8)."""

    member: str
    protocol: int
    """The oldest version that the sender speaks: what the first release looks at, which knows no other."""
    incarnation: int
    members: tuple[str, ...]
    members_previous: tuple[str, ...]
    packing: tuple[str, ...] = ()
    """How the sender can unpack what is bulky (`packing`)."""
    lives: tuple[int, ...] = ()
    """Random numbers of the sender's ledger's lives, the present one last."""
    knows: dict[str, int] = {}
    """The last life that the sender met of each member."""
    forgot: bool = False
    """The sender knows that its ledger does not hold all that it once acknowledged."""
    missed: bool = False
    """The receiver came with another ledger than the sender knew, and has not said since that nothing is missing."""
    told: dict[str, dict[str, int]] = {}
    """What the receiver, in the sender's memory, must have recorded at least (`Controller.told`)."""
    newest: int = 0
    """The newest version that the sender speaks; 0: no other than `protocol`."""

    def speaks(self) -> tuple[int, int]:
        """The oldest and the newest version."""
        return self.protocol, max(self.protocol, self.newest)


class LeaseRequest(msgspec.Struct, frozen=True, tag="lease?"):
    """Rule 1. `sent` is the requester's own clock, echoed back to it."""

    sent: float
    incarnation: int
    recorded: Vectors
    detailed: Vectors
    """How far the requester holds the entries themselves (behind `recorded` under coarse marks)."""
    fenced: Vectors
    comparing: tuple[str, ...] = ()
    """Groups where it compares content that it holds already: it wants no bodies along with entries."""


class LeaseGrant(msgspec.Struct, frozen=True, tag="lease"):
    """Answer: valid for the requester until `sent + term·(1−drift)`, while it has recorded all of `recorded`."""

    sent: float
    incarnation: int
    recorded: Vectors
    fenced: Vectors
    term_seconds: float = 0.0
    """How long the grantor holds it; the requester counts on no more, whatever its own configuration says.

    0: no lease, only what is recorded, by a member that does not vote.
    """
    yours: dict[str, tuple[int, int]] = {}
    """Group -> how far the requester's own journal is known here, entries and coarse marks, and will be when all that
    is on its way to the disk has arrived there."""


class Entries(msgspec.Struct, frozen=True, tag="entries"):
    """Announces entries of one journal, ascending, dense but for what was compacted.

    Small bodies come along, or follow when they are more than a few packets.
    """

    group: str
    origin: str
    entries: tuple[Entry, ...]
    bodies: dict[bytes, bytes] = {}
    after: int = 0
    upto: int = 0
    """With `upto` the entries are all that is left of `after` < seq ≤ `upto`: what is missing was compacted."""
    coming: tuple[bytes, ...] = ()
    """Digests of bodies that follow as `Bodies`, unless the link ends."""
    lost: bool = False
    """There never will be any of that stretch: its origin lost its ledger before anybody else had them (`Memory`)."""

    def stretch(self) -> tuple[int, int]:
        """(after, upto): the journal from there to here; (0, 0) where it says nothing."""
        if self.upto:
            return self.after, self.upto
        return (self.entries[0].seq - 1, self.entries[-1].seq) if self.entries else (0, 0)

    def whole(self, have: int = 0) -> bool:
        """Nothing is missing in what lies beyond `have`."""
        after, upto = self.stretch()
        have = max(after, have)
        return sum(entry.seq > have for entry in self.entries) >= upto - have


class Bodies(msgspec.Struct, frozen=True, tag="bodies"):
    """Small contents by their digests, after the Entries that said they are coming."""

    group: str
    bodies: dict[bytes, bytes]


class Mark(msgspec.Struct, frozen=True, tag="mark"):
    """Rule 4, coarse: anything under `prefix` may have changed from `after`+1 up to `upto`; the entries follow."""

    group: str
    origin: str
    after: int
    upto: int
    prefix: bytes


class Ack(msgspec.Struct, frozen=True, tag="ack"):
    """Rule 3: the sender has `(origin, ≤upto)` durable.

    `outstanding[r]`: seconds for which a grant that it gave to r before recording is still good; others are left out.
    """

    group: str
    origin: str
    upto: int
    outstanding: dict[str, float]
    """The name `*` stands for every member not named: after a restart the grants of the past are not known."""
    detailed: int = 0
    """How far the sender holds the entries themselves (behind `upto` under coarse marks)."""


class FenceQuery(msgspec.Struct, frozen=True, tag="fence?"):
    """Asks for an Ack once `(origin, ≤upto)` is recorded; sent by whoever runs a fence, also for a dead origin."""

    group: str
    origin: str
    upto: int


class Fenced(msgspec.Struct, frozen=True, tag="fenced"):
    """How far the sender knows journals to be fenced."""

    fenced: Vectors


class LandedUpto(msgspec.Struct, frozen=True, array_like=True):
    """What of one journal is in place at a site, or something newer of its path is: all up to here but the gaps."""

    watermark: int
    """The greatest seq of which it knows: all ≤ watermark not in gaps are landed."""
    gaps: bytes = b""
    """Serialised roaring bitmap of the seqs ≤ watermark that have not landed; empty for none."""


class Landed(msgspec.Struct, frozen=True, tag="landed"):
    """The sender's state of landing, per group and origin; replaces what it said before about those named."""

    landed: dict[str, dict[str, LandedUpto]]
    current: dict[str, str]
    """Group -> why the sender is not current for it; the empty string when it is."""


class Gossip(msgspec.Struct, frozen=True, tag="gossip"):
    """Opaque to the replicator: health observations, drains, load, routes; composed and read by `app`."""

    payload: bytes


Message = Hello | LeaseRequest | LeaseGrant | Entries | Bodies | Mark | Ack | FenceQuery | Fenced | Landed | Gossip
