"""The client's side of TLS for probes: verified, under a name of its own, and with the end of the certificate told.

Law: whom to connect to and whom to believe are two things. A probe connects to an address that it was given or has
looked up itself, and the certificate must be for the name.
"""

import datetime
import ssl
from pathlib import Path

from cryptography import x509

from anycastle.health.probe_seen import ProbeFailed
from anycastle.health.settings import DAY_SECONDS


class ProbeTls(ssl.SSLContext):
    """One probe's context; remembers its last connection."""

    server_name: str | None = None
    """Instead of the name that a library would take, which may be an address."""
    _last: ssl.SSLObject | None = None

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """How asyncio begins every connection."""
        name = self.server_name or server_hostname
        self._last = super().wrap_bio(incoming, outgoing, server_side, name, session)
        return self._last

    def ends(self) -> datetime.datetime | None:
        """When the certificate of the last connection ends; None when there was none."""
        last, self._last = self._last, None
        der = last.getpeercert(binary_form=True) if last is not None else None
        return x509.load_der_x509_certificate(der).not_valid_after_utc if der else None


def verified(authority: Path | None, *, server_name: str | None = None) -> ProbeTls:
    """Believes `authority` alone, or whom the system believes. Raises ProbeFailed; reads a file, which is short."""
    context = ProbeTls(ssl.PROTOCOL_TLS_CLIENT)
    context.server_name = server_name
    if authority is None:
        context.load_default_certs()
        return context
    try:
        context.load_verify_locations(authority)
    except OSError as error:  # ssl.SSLError too, which no certificate in the file gives
        raise ProbeFailed(f"authority {authority} cannot be read: {error.strerror or error}") from error
    return context


def unverified(server_name: str) -> ProbeTls:
    """Takes any certificate: to look at its dates, and for nothing else."""
    context = ProbeTls(ssl.PROTOCOL_TLS_CLIENT)
    context.server_name = server_name
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def warning(ends: datetime.datetime | None, *, before_seconds: float, wall: float) -> str:
    """Told when the certificate ends within `before_seconds`; empty when not. `wall` is seconds since the epoch."""
    if ends is None or ends.timestamp() - wall >= before_seconds:
        return ""
    days = int(max(0.0, ends.timestamp() - wall) / DAY_SECONDS)
    left = f"in {days} day{'s' * (days != 1)}" if days else "in less than a day"
    return f"its certificate ends {left}, at {ends:%Y-%m-%d %H:%M} UTC"
