"""The certificate probe, on files and on real servers."""

from pathlib import Path

import pytest
from aiohttp import web

from anycastle.health.settings import DAY_SECONDS, CertificateCheck
from tests.health.probing import look, probe, probing
from tests.health.targets import certificate, http_server
from tests.ports import free_port


async def nothing(request: web.Request) -> web.StreamResponse:
    return web.Response()


@pytest.mark.parametrize(
    ("days", "ok", "reason", "warning"),
    [
        (40.0, True, "is valid", ""),
        (10.5, True, "is valid", "its certificate ends in 10 days, at "),
        (5.5, False, "UTC, in less than 7 days", ""),
        (-1.0, False, "the certificate ended at ", ""),
    ],
)
@pytest.mark.parametrize("served", [False, True])
async def test_how_long_it_is_valid(
    tmp_path: Path, served: bool, days: float, ok: bool, reason: str, warning: str
) -> None:
    server, _ = certificate(tmp_path, "www.example.com", days=days)
    async with http_server(nothing, tls=server) as port:
        where = {"endpoint": ("127.0.0.1", port)} if served else {"file": tmp_path / "site.pem"}
        check = CertificateCheck(fail_before_seconds=7 * DAY_SECONDS, **where)  # type: ignore[arg-type]
        async with probing(probe(check)) as results:
            found = results[0]
    assert found.ok is ok
    assert reason in found.reason
    assert found.warning.startswith(warning)
    assert bool(found.warning) is bool(warning)


async def test_what_shows_no_certificate(tmp_path: Path) -> None:
    file = tmp_path / "some.pem"
    assert await look(CertificateCheck(file=file)) == (
        False,
        f"certificate {file} cannot be read: No such file or directory",
    )
    file.write_text("junk")
    assert await look(CertificateCheck(file=file)) == (False, f"certificate {file} cannot be read: expected PEM")
    assert await look(CertificateCheck(endpoint=("127.0.0.1", free_port()))) == (False, "connection refused")
    async with http_server(nothing) as port:
        found, why = await look(CertificateCheck(endpoint=("127.0.0.1", port)))
    assert not found
    assert why.startswith("no TLS: ")
