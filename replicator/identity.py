"""This member's certificate and authority, as the files have them now.

Laws: a change of the files is in force for every connection that begins afterwards; files that do not go together (a
renewal half done) change nothing, and say why; a peer whose certificate no authority in the file has issued any more
is not trusted any longer, whenever its connection began.
"""

import ssl

from cryptography import x509

from anycastle.replicator.certificate import Certificate, load, read, signed_by_any
from anycastle.replicator.files_in_force import FilesInForce
from anycastle.replicator.pki import PkiError, client_context, server_context
from anycastle.replicator.settings import Tls


class Identity(FilesInForce):
    """Loaded from `tls`. Raises PkiError when the files cannot be used at the start."""

    def __init__(self, tls: Tls) -> None:
        self._tls = tls
        super().__init__((tls.authority, tls.certificate, tls.key), "the TLS files")
        self.server = server_context(tls)
        """For listeners; each handshake is made with what is in force at that moment."""
        self.server.sni_callback = self._take_newest

    def load(self) -> None:
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
