"""The cluster's own certificate authority, and what a member's certificate says.

Law: a member is who its certificate says it is. The name stands in the certificate as exactly one subject alternative
name `DNS:<member>.member.anycastle`, so the ordinary host name check of TLS verifies a member that we connect to, and
`member_of` reads the name of one that connects to us. Nothing outside this authority is trusted, no system roots.
Files in the folder: `ca.pem`, `ca.key`, `<member>.pem`, `<member>.key`; keys are readable by their owner only.
"""

import os
import re
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from anycastle.clock import SystemClock
from anycastle.errors import AnycastleError
from anycastle.replicator.settings import Tls

SUFFIX = ".member.anycastle"
AUTHORITY_DAYS = 3650
MEMBER_DAYS = 825
CLOCK_SKEW = timedelta(hours=1)
"""Certificates are valid from a little in the past: a new one must work where the clock is behind ours."""

_MEMBER = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


class PkiError(AnycastleError):
    """A certificate or key that cannot be made, read or used."""


def server_name(member: str) -> str:
    """The name in the member's certificate. Raises PkiError when `member` cannot be a DNS label."""
    if not _MEMBER.fullmatch(member):
        raise PkiError(f"member name {member!r}: expected lower-case letters, digits and inner hyphens, at most 63")
    return member + SUFFIX


def member_of(certificate: Mapping[str, Any] | None) -> str | None:
    """The member that a verified certificate (`SSLSocket.getpeercert()`) names; None when it names not exactly one."""
    if not certificate:
        return None
    names = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS"]
    if len(names) != 1 or not names[0].endswith(SUFFIX):
        return None
    member: str = names[0].removesuffix(SUFFIX)
    return member if _MEMBER.fullmatch(member) else None


def init(folder: Path, *, name: str = "anycastle") -> Path:
    """Make a new authority in `folder`; returns its certificate's path. One that is there is never replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name} members")])
    public = key.public_key()
    builder = (
        _builder(subject, subject, public, days=AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(authority=True), critical=True)
        .add_extension(x509.NameConstraints([x509.DNSName(SUFFIX.lstrip("."))], None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )
    _write_key(folder / "ca.key", key)
    return _write_certificate(folder / "ca.pem", builder.sign(key, hashes.SHA256()))


def issue(folder: Path, member: str) -> tuple[Path, Path]:
    """Make a key and certificate for `member`, signed by the folder's authority; returns (certificate, key) paths."""
    certificate, key = _make(folder, member)
    certificate_path, key_path = folder / f"{member}.pem", folder / f"{member}.key"
    _write_key(key_path, key)
    return _write_certificate(certificate_path, certificate), key_path


def renew(folder: Path, member: str) -> tuple[Path, Path]:
    """The same in the place of what was issued before, each file replaced in whole. The authority stays as it is.

    A running member that looks between the two keeps what it has until both are there.
    """
    certificate, key = _make(folder, member)
    paths = certificate_path, key_path = folder / f"{member}.pem", folder / f"{member}.key"
    for path in paths:
        if not path.is_file():
            raise PkiError(f"{path} is not there: expected what `anycastle pki issue` made")
    aside = folder / f".{member}.key.new", folder / f".{member}.pem.new"
    for path in aside:
        path.unlink(missing_ok=True)  # of a renewal that was broken off
    _write_key(aside[0], key)
    _write_certificate(aside[1], certificate)
    os.replace(aside[0], key_path)
    os.replace(aside[1], certificate_path)
    return paths


def _make(folder: Path, member: str) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    san = server_name(member)
    authority, authority_key = _load_authority(folder)
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, member)])
    issuer_key = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = (
        _builder(subject, authority.subject, public, days=MEMBER_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(san)]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_key), critical=False)
    )
    return builder.sign(authority_key, hashes.SHA256()), key


def server_context(tls: Tls) -> ssl.SSLContext:
    """For accepting members: TLS 1.3, and a certificate of the authority is demanded. Raises PkiError."""
    context = _context(tls, ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    context.num_tickets = 0  # every connection proves who it is
    return context


def client_context(tls: Tls) -> ssl.SSLContext:
    """For connecting to members; the caller names whom it expects by `server_name(member)`. Raises PkiError."""
    return _context(tls, ssl.PROTOCOL_TLS_CLIENT)


def _context(tls: Tls, protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    for path in (tls.authority, tls.certificate, tls.key):
        if not path.is_file():
            raise PkiError(f"{path}: expected a PEM file of the members' TLS, found none")
    try:
        context.load_verify_locations(cafile=tls.authority)
        context.load_cert_chain(tls.certificate, tls.key, password=_no_password)
    except (ssl.SSLError, OSError, ValueError) as error:
        raise PkiError(f"{tls.certificate}: not usable with {tls.key} and {tls.authority}: {error}") from error
    return context


def _no_password() -> str:
    raise ValueError("the key is encrypted: expected one without a passphrase")  # never ask on the terminal


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, *, days: int
) -> x509.CertificateBuilder:
    now = datetime.fromtimestamp(SystemClock().wall(), UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + timedelta(days=days))
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _load_authority(folder: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    try:
        certificate = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
        key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise PkiError(f"{folder}: expected an authority (ca.pem, ca.key): {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise PkiError(f"{folder / 'ca.key'}: expected an elliptic curve key")
    return certificate, key


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    encoded = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write_new(path, encoded, mode=0o600)


def _write_certificate(path: Path, certificate: x509.Certificate) -> Path:
    _write_new(path, certificate.public_bytes(serialization.Encoding.PEM), mode=0o644)
    return path


def _write_new(path: Path, data: bytes, *, mode: int) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    except OSError as error:
        raise PkiError(f"{path}: expected to make a new file: {error.strerror}") from error
    with open(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
