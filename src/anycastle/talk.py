"""What members tell each other besides replication: observations, drains, load, routes. Rides in `Gossip` messages.

Law: a member speaks for itself only; who speaks is what the link proved, never a field. Ages cross, never times.
"""

import math

import msgspec

from anycastle.errors import AnycastleError
from anycastle.health.drain import Override
from anycastle.health.observe import Observation

PREFIXES_MAX = 10_000


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


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Talk)


def encode(talk: Talk) -> bytes:
    return _encoder.encode(talk)


def decode(payload: bytes) -> Talk:
    """Raises TalkError."""
    try:
        talk = _decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise TalkError(f"gossip cannot be read: {error}") from error
    if not (math.isfinite(talk.load) and talk.load >= 0) or len(talk.announced) > PREFIXES_MAX:
        raise TalkError("gossip claims an impossible load or number of routes")
    return talk
