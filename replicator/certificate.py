"""What certificate files say: for `anycastle pki show`, and for the warning before one ends.

Law: days are counted from the wall clock that TLS goes by; a file that cannot be read is one clear line.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes

from anycastle.replicator.pki import PkiError

DAY_SECONDS = 86400.0
WARN_DAYS = 30
"""Long enough for somebody to be back from a holiday."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """One certificate. Times are seconds since the epoch."""

    file: Path
    names: tuple[str, ...]
    """Subject alternative names; of an authority its common name."""
    authority: bool
    valid_from: float
    valid_until: float
    fingerprint: str
    """SHA-256 of the DER, in hexadecimal, as `openssl x509 -fingerprint -sha256` has it without the colons."""

    def days_left(self, wall: float) -> float:
        return (self.valid_until - wall) / DAY_SECONDS

    def fault(self, wall: float) -> str:
        """What somebody should do something about; the empty string when nothing is."""
        days, what = self.days_left(wall), f"certificate {self.file} ({', '.join(self.names)})"
        if wall < self.valid_from:
            return f"{what} is not valid before {(self.valid_from - wall) / DAY_SECONDS:.1f} days have passed"
        if days < 0:
            return f"{what} ended {-days:.1f} days ago: no new link is made; `anycastle pki renew`"
        if days < WARN_DAYS:
            return f"{what} ends in {days:.1f} days: `anycastle pki {'init' if self.authority else 'renew'}`"
        return ""


def read(file: Path) -> tuple[Certificate, ...]:
    """All certificates in a PEM file. Raises PkiError."""
    return tuple(_facts(file, certificate) for certificate in load(file))


def load(file: Path) -> list[x509.Certificate]:
    """The same as `cryptography` has them. Raises PkiError."""
    try:
        return x509.load_pem_x509_certificates(file.read_bytes())
    except (OSError, ValueError) as error:
        raise PkiError(f"{file}: expected certificates in PEM: {error}") from error


def signed_by_any(certificate: x509.Certificate, authorities: Iterable[x509.Certificate]) -> x509.Certificate | None:
    """The authority that issued it."""
    for authority in authorities:
        try:
            certificate.verify_directly_issued_by(authority)
        except (ValueError, TypeError, InvalidSignature):
            continue
        return authority
    return None


def _facts(file: Path, certificate: x509.Certificate) -> Certificate:
    extensions = certificate.extensions
    try:
        authority = extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        authority = False
    try:
        named = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = named.get_values_for_type(x509.DNSName)
    except x509.ExtensionNotFound:
        names = [str(each.value) for each in certificate.subject if each.oid == x509.NameOID.COMMON_NAME]
    return Certificate(
        file=file,
        names=tuple(names),
        authority=authority,
        valid_from=certificate.not_valid_before_utc.timestamp(),
        valid_until=certificate.not_valid_after_utc.timestamp(),
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
    )
