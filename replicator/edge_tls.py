"""The certificates with which the edge speaks TLS to clients: chosen by the name they ask for (SNI), loaded anew.

Laws: a change of the files is in force for the next handshake and ends no connection; a pair that does not go together
(a renewal half done) changes nothing, and says why; a name that no certificate has gets the first one.
"""

import ssl
from collections.abc import Sequence
from pathlib import Path

from anycastle.errors import AnycastleError
from anycastle.replicator.certificate import Certificate, read
from anycastle.replicator.files_in_force import FilesInForce
from anycastle.replicator.settings import CertificateFiles

LOOK_SECONDS = 5.0
WARN_DAYS = 14
"""Those who renew by a program do it a month before."""


class EdgeTlsError(AnycastleError):
    """A certificate that cannot be used."""


class Certificates(FilesInForce):
    """Those of one edge. Raises EdgeTlsError when one of them cannot be used at the start."""

    def __init__(self, files: Sequence[CertificateFiles]) -> None:
        assert files
        self._pairs = tuple(files)
        super().__init__((file for pair in files for file in (pair.certificate, pair.key)), "the edge's TLS files")
        self.server = _context(self._pairs[0])
        """For listeners; each handshake is made with what is in force at that moment."""
        self.server.sni_callback = self._choose

    def faults(self, *, wall: float) -> tuple[str, ...]:
        """What an operator should know, a sentence each."""
        ending = (each for each in self.certificates if each.days_left(wall) < WARN_DAYS)
        ends = (f"the edge's certificate {each.file} ends in {each.days_left(wall):.1f} days" for each in ending)
        return (*((self.trouble,) if self.trouble else ()), *ends)

    def load(self) -> None:
        contexts = [_context(files) for files in self._pairs]
        certificates = [leaf(files.certificate) for files in self._pairs]
        named = {
            name.lower(): context
            for context, certificate in reversed(tuple(zip(contexts, certificates, strict=True)))
            for name in certificate.names
        }
        self.certificates, self._named, self._first = tuple(certificates), named, contexts[0]

    def _choose(self, connection: ssl.SSLSocket | ssl.SSLObject, name: str | None, base: ssl.SSLContext) -> None:
        """Called in each handshake. An exact name first, then a wildcard of one label (RFC 6125 section 6.4.3)."""
        asked = (name or "").lower().rstrip(".")
        wildcard = "*." + asked.partition(".")[2]
        connection.context = self._named.get(asked) or self._named.get(wildcard) or self._first


def leaf(file: Path) -> Certificate:
    """The certificate itself, which stands before those of its authorities. Raises PkiError, EdgeTlsError."""
    found = read(file)
    if not found:
        raise EdgeTlsError(f"{file}: expected a certificate in PEM")
    return found[0]


def problems(files: Sequence[CertificateFiles], *, wall: float) -> list[str]:
    """What is wrong with them, for `anycastle check`: missing, of another key, over."""
    found = []
    for each in files:
        try:
            _context(each)
            days = leaf(each.certificate).days_left(wall)
            begins = leaf(each.certificate).valid_from
        except AnycastleError as error:
            found.append(str(error))
            continue
        if days < 0:
            found.append(f"certificate {each.certificate} ended {-days:.1f} days ago")
        if wall < begins:
            found.append(f"certificate {each.certificate} is not valid yet")
    return found


def _context(files: CertificateFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(["http/1.1"])
    for file in (files.certificate, files.key):
        if not file.is_file():
            raise EdgeTlsError(f"{file} is not there: expected a PEM file")
    try:
        context.load_cert_chain(files.certificate, files.key, password=_no_password)
    except ssl.SSLError as error:
        what = "the key does not go with the certificate" if error.reason == "KEY_VALUES_MISMATCH" else str(error)
        raise EdgeTlsError(f"{files.certificate} and {files.key}: {what}") from error
    except (OSError, ValueError) as error:
        raise EdgeTlsError(f"{files.certificate} and {files.key} cannot be used: {error}") from error
    return context


def _no_password() -> str:
    """OpenSSL would ask on the terminal."""
    raise ValueError("the key is encrypted; expected one without a password")
