"""TLS at the edge: the certificate that is asked for, new files while connections live, what is wrong with files."""

import asyncio
import ssl
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from anycastle.replicator import edge
from anycastle.replicator.edge_tls import Certificates, EdgeTlsError, problems
from anycastle.replicator.settings import CertificateFiles
from tests.replicator.edge_certificates import DAY, NOW, make
from tests.replicator.edge_site import ALICE, site
from tests.replicator.members import HOST, until


async def shown(address: tuple[str, int], name: str | None) -> str:
    """The common name of the certificate that is shown to who asks for `name`."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection(*address, ssl=context, server_hostname=name or "")
    der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    assert writer.get_extra_info("ssl_object").version() == "TLSv1.3"
    writer.close()
    await writer.wait_closed()
    return str(x509.load_der_x509_certificate(der).subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value)


async def test_the_certificate_follows_the_name(tmp_path: Path) -> None:
    certificates = (
        make(tmp_path, "first", "www.example.com"),
        make(tmp_path, "star", "*.blogs.example.com"),
        make(tmp_path, "alice", ALICE),
    )
    async with site(listen=(), tls_listen=((HOST, 0),), certificates=certificates) as ams:
        address = ams.edge.addresses[0]
        assert await shown(address, ALICE) == "alice"
        assert await shown(address, ALICE.upper()) == "alice"
        assert await shown(address, "bob.blogs.example.com") == "star"
        assert await shown(address, "a.b.blogs.example.com") == "first"
        assert await shown(address, "elsewhere.example.net") == "first"
        assert await shown(address, None) == "first"


async def test_curl_over_tls(tmp_path: Path) -> None:
    files = make(tmp_path, "star", "*.blogs.example.com")
    async with site(listen=((HOST, 0),), tls_listen=((HOST, 0),), certificates=(files,)) as ams:
        port = ams.edge.addresses[1][1]
        command = [
            *("curl", "-fsS", "--cacert", str(files.certificate), "--connect-to", f"::{HOST}:{port}", "--data", "hi"),
            f"https://{ALICE}/new",
        ]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, timeout=20, check=False)
        assert (done.returncode, done.stdout) == (0, b"stored"), done.stderr
        seen = ams.application.requests[0].headers
        assert seen["X-Forwarded-Proto"] == "https"
        assert seen["Forwarded"].endswith(";proto=https")
        refused = [*command[:2], "--cacert", str(files.certificate), "--tls-max", "1.1", *command[4:]]
        done = await asyncio.to_thread(subprocess.run, refused, capture_output=True, timeout=20, check=False)
        assert done.returncode == 35


async def test_new_files_are_taken_up_and_no_connection_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge, "LOOK_SECONDS", 0.02)
    files = make(tmp_path, "site", ALICE)
    async with site(listen=(), tls_listen=((HOST, 0),), certificates=(files,)) as ams:
        address = ams.edge.addresses[0]
        context = ssl.create_default_context(cafile=files.certificate)
        reader, writer = await asyncio.open_connection(*address, ssl=context, server_hostname=ALICE)
        request = f"GET /a.jpg HTTP/1.1\r\nHost: {ALICE}\r\n\r\n".encode()
        writer.write(request)
        await reader.readuntil(b"old photo")
        other = make(tmp_path / "other", "renewed", ALICE)
        files.key.write_bytes(other.key.read_bytes())
        assert ams.edge.certificates is not None
        until_told = ams.edge.certificates
        await until(lambda: until_told.trouble, "half a renewal is noticed")
        assert "the key does not go with the certificate" in ams.edge.faults(wall=NOW.timestamp())[0]
        assert await shown(address, ALICE) == "site"
        files.certificate.write_bytes(other.certificate.read_bytes())
        await until(lambda: until_told.reloads >= 1, "the whole renewal is taken up")
        assert (until_told.trouble, await shown(address, ALICE)) == ("", "renewed")
        writer.write(request)
        await reader.readuntil(b"old photo")
        writer.close()


def test_problems(tmp_path: Path) -> None:
    wall = NOW.timestamp()
    good, other = make(tmp_path, "good", "a"), make(tmp_path, "other", "b")
    assert problems((good, other), wall=wall) == []
    over = make(tmp_path, "over", "c", until=NOW - 3 * DAY)
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    found = problems(
        (
            CertificateFiles(tmp_path / "none.pem", good.key),
            CertificateFiles(good.certificate, other.key),
            CertificateFiles(empty, good.key),
            over,
        ),
        wall=wall,
    )
    assert len(found) == 4
    assert found[0] == f"{tmp_path}/none.pem is not there: expected a PEM file"
    assert "the key does not go with the certificate" in found[1]
    assert str(empty) in found[2]
    assert found[3] == f"certificate {over.certificate} ended 3.0 days ago"
    (late,) = problems((good,), wall=wall - 5 * 86400)
    assert "not valid yet" in late
    with pytest.raises(EdgeTlsError, match="does not go with"):
        Certificates((CertificateFiles(good.certificate, other.key),))
    assert "ends in" in Certificates((good,)).faults(wall=wall + 80 * 86400)[0]


def test_a_key_with_a_password_is_not_asked_for(tmp_path: Path) -> None:
    files = make(tmp_path, "site", "a")
    key = serialization.load_pem_private_key(files.key.read_bytes(), None)
    files.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    (problem,) = problems((files,), wall=NOW.timestamp())
    assert "encrypted" in problem
