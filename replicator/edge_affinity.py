"""Which site a user is kept at: a signed cookie for software that keeps sessions in local files or memory. Pure.

Laws: the mark names the site whose application answered, ends at a time that stands in it, and is believed only with a
signature by a key that the sites share; it prefers a site and never overrides a verdict: the site that it leads to
judges by its own gate, and a site that may not be used (withheld, drained) loses its users to the one that answers.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass

COOKIE = "anycastle_site"
_MARK = re.compile(r"([a-z0-9-]{1,32})\.([0-9a-f]{1,12})\.([0-9a-f]{32})")


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a user is at home, until a time in seconds since the epoch."""

    site: str
    until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Affinity:
    """Of one group at one site."""

    group: str
    site: str
    keys: tuple[bytes, ...]
    """The first signs, all verify."""
    seconds: float

    def read(self, cookies: Iterable[str], *, wall: float) -> Mark | None:
        """The mark in the values of Cookie fields; None when there is none that holds."""
        for pair in (pair for line in cookies for pair in line.split(";")):
            name, _, value = pair.strip().partition("=")
            found = _MARK.fullmatch(value) if name == COOKIE else None
            if found is None or not self._signed(found[1], found[2], found[3]):
                continue
            until = float(int(found[2], 16))
            if wall < until <= wall + self.seconds + 1:
                return Mark(found[1], until)
        return None

    def due(self, mark: Mark | None, *, wall: float) -> bool:
        """Whether this site, which has answered, marks the user (anew): its mark is for another, or half over."""
        return mark is None or mark.site != self.site or mark.until < wall + self.seconds / 2

    def cookie(self, *, wall: float, secure: bool) -> str:
        """The value of a Set-Cookie field that marks a user for this site."""
        until = f"{int(wall + self.seconds):x}"
        value = f"{self.site}.{until}.{self._signature(self.keys[0], self.site, until)}"
        also = "; Secure" if secure else ""
        return f"{COOKIE}={value}; Path=/; Max-Age={int(self.seconds)}; HttpOnly; SameSite=Lax{also}"

    def _signed(self, site: str, until: str, signature: str) -> bool:
        return any(hmac.compare_digest(self._signature(key, site, until), signature) for key in self.keys)

    def _signature(self, key: bytes, site: str, until: str) -> str:
        said = f"anycastle affinity\0{self.group}\0{site}\0{until}".encode()
        return hmac.new(key, said, hashlib.sha256).hexdigest()[:32]
