"""This member's certificate and authority, as the files have them now.

Laws: a change of the files is in force for every connection that begins afterwards; files that do not go together (a
renewal half done) change nothing, and say why; a peer whose certificate no authority in the file has issued any more
is not trusted any longer, whenever its connection began.
"""

import os
import ssl
from pathlib import Path

from cryptography import x509

from anycastle.errors import AnycastleError
from anycastle.replicator.certificate import Certificate, load, read, signed_by_any
from anycastle.replicator.pki import PkiError, client_context, server_context
from anycastle.replicator.settings import Tls

Stamp = tuple[tuple[int, int, int], ...]


class Identity:
    """Loaded from `tls`; `look` loads it again. Raises PkiError when the files cannot be used at the start."""

    def __init__(self, tls: Tls) -> None:
        self.trouble = ""
        """Why the files as they are now are not in force; the empty string when they are."""
        self.reloads = 0
        self._tls = tls
        self._seen = self._stamp()
        self._load()
        self.server = server_context(tls)
        """For listeners; each handshake is made with what is in force at that moment."""
        self.server.sni_callback = self._take_newest

    def _load(self) -> None:
        accepting, dialling = server_context(self._tls), client_context(self._tls)
        authorities = load(self._tls.authority)
        own = load(self._tls.certificate)[0]
        issuer = signed_by_any(own, authorities)
        if issuer is None:
            raise PkiError(
                f"{self._tls.certificate} is not signed by {self._tls.authority}: expected both from the same "
                "`anycastle pki init`"
            )
        self.certificates: tuple[Certificate, ...] = (*read(self._tls.certificate), *read(self._tls.authority))
        """Our own first, then the authorities."""
        self._issuer = issuer
        self.client = dialling
        """For connections that we make."""
        self._accepting = accepting
        self._authorities = authorities
        self._trusted: dict[bytes, bool] = {}

    def look(self) -> bool:
        """Load the files if they have changed; True when something else is in force now. Blocks for milliseconds."""
        stamp = self._stamp()
        if stamp == self._seen:
            return False
        try:
            self._load()
        except AnycastleError as error:
            self.trouble = f"the TLS files have changed and cannot be used, what was loaded before stays: {error}"
            return False
        self._seen, self.trouble = stamp, ""
        self.reloads += 1
        return True

    def trusts(self, certificate: bytes | None) -> bool:
        """An authority in force has issued this certificate (DER), which TLS has found valid before."""
        if not certificate:
            return False
        if certificate not in self._trusted:
            if len(self._trusted) > 1000:
                self._trusted.clear()
            loaded = x509.load_der_x509_certificate(certificate)
            self._trusted[certificate] = signed_by_any(loaded, self._authorities) is not None
        return self._trusted[certificate]

    def seconds_left(self, *, wall: float) -> float:
        """Until our certificate ends, or the authority that issued it, whichever is first."""
        return min(self.certificates[0].valid_until, self._issuer.not_valid_after_utc.timestamp()) - wall

    def faults(self, *, wall: float) -> tuple[str, ...]:
        """What an operator should know, a sentence each."""
        ends = (each.fault(wall) for each in self.certificates)
        return tuple(fault for fault in (self.trouble, *ends) if fault)

    def _take_newest(self, connection: ssl.SSLSocket | ssl.SSLObject, name: str | None, base: ssl.SSLContext) -> None:
        """Called in each handshake before a certificate is chosen; the context's own files and trust stay unused."""
        connection.context = self._accepting

    def _stamp(self) -> Stamp:
        return tuple(stamp_of(path) for path in (self._tls.authority, self._tls.certificate, self._tls.key))


def stamp_of(path: Path) -> tuple[int, int, int]:
    """What is different when a file has changed; zeros when it is not there."""
    try:
        status = os.stat(path)
    except OSError:
        return (0, 0, 0)
    return (status.st_ino, status.st_mtime_ns, status.st_size)
