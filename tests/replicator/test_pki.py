"""The authority and its certificates, checked by OpenSSL's own handshake."""

import shutil
import ssl
import stat
import subprocess
from pathlib import Path

import pytest

from anycastle.replicator import pki
from anycastle.replicator.settings import Tls


def tls(folder: Path, member: str) -> Tls:
    return Tls(authority=folder / "ca.pem", certificate=folder / f"{member}.pem", key=folder / f"{member}.key")


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, *, expecting: str) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Both ends of a TLS connection over memory, until both are content."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = server.wrap_bio(to_server, to_client, server_side=True)
    other = client.wrap_bio(to_client, to_server, server_hostname=pki.server_name(expecting))
    waiting = [other, one]
    for _ in range(10):
        for end in tuple(waiting):
            try:
                end.do_handshake()
                waiting.remove(end)
            except ssl.SSLWantReadError:
                pass
    assert not waiting
    return one, other


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    pki.init(tmp_path / "pki")
    pki.issue(tmp_path / "pki", "ams")
    pki.issue(tmp_path / "pki", "nyc")
    return tmp_path / "pki"


def test_each_end_learns_who_the_other_is(authority: Path) -> None:
    server, client = pki.server_context(tls(authority, "ams")), pki.client_context(tls(authority, "nyc"))
    one, other = handshake(server, client, expecting="ams")
    assert pki.member_of(one.getpeercert()) == "nyc"
    assert pki.member_of(other.getpeercert()) == "ams"
    assert one.version() == "TLSv1.3"


def test_another_member_than_expected_is_refused(authority: Path) -> None:
    server, client = pki.server_context(tls(authority, "ams")), pki.client_context(tls(authority, "nyc"))
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        handshake(server, client, expecting="nyc")


def test_another_authority_is_refused(authority: Path, tmp_path: Path) -> None:
    pki.init(tmp_path / "other")
    pki.issue(tmp_path / "other", "nyc")
    server = pki.server_context(tls(authority, "ams"))
    stranger = pki.client_context(tls(tmp_path / "other", "nyc"))
    stranger.load_verify_locations(authority / "ca.pem")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, stranger, expecting="ams")


def test_no_certificate_is_refused(authority: Path) -> None:
    nobody = ssl.create_default_context(cafile=str(authority / "ca.pem"))
    with pytest.raises(ssl.SSLError):
        handshake(pki.server_context(tls(authority, "ams")), nobody, expecting="ams")


def test_keys_are_private(authority: Path) -> None:
    for name in ("ca.key", "ams.key"):
        assert stat.S_IMODE((authority / name).stat().st_mode) == 0o600


def test_openssl_agrees(authority: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    command = ["openssl", "verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", "ca.pem", "ams.pem", "nyc.pem"]
    assert subprocess.run(command, cwd=authority, capture_output=True, check=True, timeout=10).stdout.count(b"OK") == 2


def test_nothing_is_overwritten(authority: Path) -> None:
    before = {path.name: path.read_bytes() for path in authority.iterdir()}
    with pytest.raises(pki.PkiError, match=r"ca\.key: expected to make a new file"):
        pki.init(authority)
    with pytest.raises(pki.PkiError, match=r"ams\.key"):
        pki.issue(authority, "ams")
    assert {path.name: path.read_bytes() for path in authority.iterdir()} == before


def test_renewing_replaces_both_files_and_nothing_else(authority: Path) -> None:
    before = {path.name: path.read_bytes() for path in authority.iterdir()}
    pki.renew(authority, "ams")
    after = {path.name: path.read_bytes() for path in authority.iterdir()}
    assert after.keys() == before.keys()
    assert {name for name in after if after[name] != before[name]} == {"ams.pem", "ams.key"}
    assert stat.S_IMODE((authority / "ams.key").stat().st_mode) == 0o600
    handshake(pki.server_context(tls(authority, "ams")), pki.client_context(tls(authority, "nyc")), expecting="ams")
    with pytest.raises(pki.PkiError, match=r"sgp\.pem is not there: expected what `anycastle pki issue` made"):
        pki.renew(authority, "sgp")


@pytest.mark.parametrize("member", ["", "AMS", "a.b", "-a", "a/b", "a" * 64, "a b", "ams\n"])
def test_odd_names_are_refused(authority: Path, member: str) -> None:
    with pytest.raises(pki.PkiError, match="expected lower-case letters"):
        pki.issue(authority, member)


@pytest.mark.parametrize(
    "names",
    [
        (),
        (("DNS", "ams.example.net"),),
        (("DNS", "a.b.member.anycastle"),),
        (("DNS", "ams.member.anycastle"), ("DNS", "nyc.member.anycastle")),
        (("URI", "ams.member.anycastle"),),
        (("DNS", "*.member.anycastle"),),
    ],
)
def test_certificates_that_name_no_one_member(names: tuple[tuple[str, str], ...]) -> None:
    assert pki.member_of({"subjectAltName": names}) is None
    assert pki.member_of(None) is None


def test_unusable_files_are_one_clear_line(authority: Path, tmp_path: Path) -> None:
    with pytest.raises(pki.PkiError, match=r"sgp\.pem: expected a PEM file"):
        pki.server_context(tls(authority, "sgp"))
    (authority / "nyc.key").write_bytes(b"rubbish")
    with pytest.raises(pki.PkiError, match=r"nyc\.pem: not usable"):
        pki.client_context(tls(authority, "nyc"))
    with pytest.raises(pki.PkiError, match="expected an authority"):
        pki.issue(tmp_path / "nowhere", "ams")
