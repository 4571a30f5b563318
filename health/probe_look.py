"""Which look belongs to which check, with what it keeps from one look to the next."""

import contextlib
import ssl
from collections.abc import AsyncIterator
from functools import partial
from typing import assert_never

from anycastle.clock import Clock
from anycastle.health.aside import Aside
from anycastle.health.lookup import Lookup
from anycastle.health.probe_certificate import look_certificate
from anycastle.health.probe_dns import look_dns
from anycastle.health.probe_exec import look_exec
from anycastle.health.probe_file import look_disk, look_file
from anycastle.health.probe_http import http_look
from anycastle.health.probe_mysql import MysqlLook
from anycastle.health.probe_postgres import PostgresLook
from anycastle.health.probe_seen import Look
from anycastle.health.probe_tcp import look_tcp
from anycastle.health.settings import (
    CertificateCheck,
    DiskCheck,
    DnsCheck,
    ExecCheck,
    FileCheck,
    HttpCheck,
    MysqlCheck,
    PostgresCheck,
    Probe,
    TcpCheck,
)


@contextlib.asynccontextmanager
async def looking(probe: Probe, *, member: str, clock: Clock, tls: ssl.SSLContext | None = None) -> AsyncIterator[Look]:
    """How `probe` looks; `tls` instead of what an http check says."""
    match probe.check:
        case HttpCheck() as check:
            async with http_look(check, Lookup(address=check.address), clock=clock, tls=tls) as look:
                yield look
        case TcpCheck() as check:
            yield partial(look_tcp, check, Lookup())
        case DnsCheck() as check:
            yield partial(look_dns, check, Lookup())
        case ExecCheck() as check:
            yield partial(look_exec, check, Aside("probe-exec"), site=probe.site, member=member)
        case FileCheck() as check:
            yield partial(look_file, check, Aside("probe-file"), clock=clock)
        case DiskCheck() as check:
            yield partial(look_disk, check, Aside("probe-disk"))
        case CertificateCheck() as check:
            yield partial(look_certificate, check, Lookup(), Aside("probe-certificate"), clock=clock)
        case PostgresCheck() as check:
            yield PostgresLook(check, Lookup(), clock=clock)
        case MysqlCheck() as check:
            yield MysqlLook(check, Lookup())
        case never:
            assert_never(never)
