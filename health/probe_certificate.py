"""The certificate probe: how long a certificate is still valid, in a file or as a server shows it.

Law: only its dates are judged. Whether it is trusted is what the http probe says.
"""

import asyncio
import datetime
from pathlib import Path

from cryptography import x509

from anycastle.clock import Clock
from anycastle.health.aside import Aside
from anycastle.health.lookup import Lookup
from anycastle.health.probe_file import read_short
from anycastle.health.probe_seen import ProbeFailed, Seen
from anycastle.health.probe_tls import unverified, warning
from anycastle.health.settings import DAY_SECONDS, CertificateCheck


async def look_certificate(
    check: CertificateCheck, lookup: Lookup, aside: Aside[datetime.datetime], *, clock: Clock
) -> Seen:
    if check.file is not None:
        file = check.file
        ends = await aside.run(lambda: _of_file(file))
    else:
        assert check.endpoint is not None
        ends = await _of_server(*check.endpoint, check.server_name, lookup)
    wall = clock.wall()
    if ends.timestamp() <= wall:
        raise ProbeFailed(f"the certificate ended at {ends:%Y-%m-%d %H:%M} UTC")
    if ends.timestamp() - wall < check.fail_before_seconds:
        days = check.fail_before_seconds / DAY_SECONDS
        raise ProbeFailed(f"the certificate ends at {ends:%Y-%m-%d %H:%M} UTC, in less than {days:g} days")
    return Seen("is valid", warning(ends, before_seconds=check.warn_before_seconds, wall=wall))


def _of_file(file: Path) -> datetime.datetime:
    text = read_short(file, "certificate")
    try:
        return x509.load_pem_x509_certificate(text.encode()).not_valid_after_utc
    except ValueError as error:
        raise ProbeFailed(f"certificate {file} cannot be read: expected PEM") from error


async def _of_server(host: str, port: int, server_name: str | None, lookup: Lookup) -> datetime.datetime:
    addresses = await lookup.addresses(host, port)
    tls = unverified(server_name or host)
    _, writer = await asyncio.open_connection(addresses[0], port, ssl=tls, server_hostname=server_name or host)
    writer.transport.abort()
    ends = tls.ends()
    if ends is None:
        raise ProbeFailed("shows no certificate")
    return ends
