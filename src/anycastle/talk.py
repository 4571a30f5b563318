"""What members tell each other besides replication: observations, drains, load, routes. Rides in `Gossip` messages.

Law: a member speaks for itself only; who speaks is what the link proved, never a field. Ages cross, never times.
What it says is one of two: `Talk`, a map, all of it each time; or `RoundTrips`, an array, only what is new.
"""

import math
from typing import Annotated

import msgspec
from msgspec import Meta

from anycastle.errors import AnycastleError
from anycastle.health.drain import Override
from anycastle.health.observe import Observation

PREFIXES_MAX = 10_000
MEASURED_MAX = 100
"""Networks in one message: below 2 KiB, and with two messages a second below 4 KiB/s."""
NETWORK_BYTES = (3, 6)


class TalkError(AnycastleError):
    """A member said something that cannot be understood."""


class Talk(msgspec.Struct, frozen=True):
    """All of it, each time: small, so that a lost message costs nothing."""

    observations: tuple[Observation, ...]
    overrides: tuple[Override, ...]
    load: float
    """Requests per second at the sender's edge."""
    announced: tuple[str, ...]
    """Prefixes that routers have acknowledged from the sender."""
    standing: dict[str, str]
    """Group -> why steering must not count on the sender (not current, or still catching up); empty when it may."""
    gated: dict[str, str] = {}
    """Group -> which probe that it requires keeps users from the sender, and why; of groups that are gated."""


class Measured(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The typical round trip between the sender's edge and a client network, and what it stands on."""

    network: Annotated[bytes, Meta(min_length=3, max_length=6)]
    """The first 3 bytes of an IPv4 network, or 6 of an IPv6 network."""
    microseconds: Annotated[int, Meta(ge=1, le=10_000_000)]
    connections: Annotated[int, Meta(ge=1, le=1_000_000)]
    """As many as count now: they are forgotten slowly."""


RoundTrips = tuple[Measured, ...]
"""Some of the sender's networks. One that is lost is said again when the network connects again."""


def urgent(said: Talk, before: Talk) -> bool:
    """The others should hear at once what is new since `before`: on their word about a site hangs what they decide."""
    return (said.standing, said.gated) != (before.standing, before.gated) or [
        (each.site, each.health) for each in said.observations
    ] != [(each.site, each.health) for each in before.observations]


_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Talk | RoundTrips] = msgspec.msgpack.Decoder(
    Talk | Annotated[RoundTrips, Meta(min_length=1, max_length=MEASURED_MAX)]
)


def encode(said: Talk | RoundTrips) -> bytes:
    return _encoder.encode(said)


def decode(payload: bytes) -> Talk | RoundTrips:
    """Raises TalkError."""
    try:
        said = _decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise TalkError(f"gossip cannot be read: {error}") from error
    if not isinstance(said, Talk):
        if any(len(each.network) not in NETWORK_BYTES for each in said):
            raise TalkError("gossip has a network that is neither 3 nor 6 bytes long")
    elif not (math.isfinite(said.load) and said.load >= 0) or len(said.announced) > PREFIXES_MAX:
        raise TalkError("gossip claims an impossible load or number of routes")
    return said
