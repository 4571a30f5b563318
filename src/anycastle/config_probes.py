"""`[[sites.X.probes]]`: what each kind of probe may be told, and how it is named in reasons.

Laws: a key that belongs to another kind of probe is a fault; a probe of what only the site's own machine has is made by
that site only. Files are as written here, with `{site}` in them; `located` makes them a member's.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import dns.exception
import dns.rcode
import dns.rdata
import regex

from anycastle import config_values as v
from anycastle.config_read import Expected, Table
from anycastle.health.settings import (
    DAY_SECONDS,
    CertificateCheck,
    Check,
    Database,
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

NOWHERE = ("0.0.0.0", 1)
SHELL = "/bin/sh"
ARGUMENTS_SHOWN_CHARACTERS = 60
_COMMON = ("label", "interval", "timeout", "rise", "fall", "jitter", "observers")
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


class _Kind(NamedTuple):
    """One way to look."""

    read: Callable[[Table], tuple[Check, str]]
    """Check and name; the key that names the kind is there."""
    keys: tuple[str, ...] = ()
    own: bool = False
    """The site's own member makes it, unless `observers` says otherwise."""
    here: bool = False
    """It looks at the machine of whoever makes it, so `observers` may not say otherwise."""
    interval_seconds: float = 1.0
    timeout_seconds: float = 0.5


def read_probes(site: str, tables: list[Table]) -> tuple[Probe, ...]:
    """Results are told apart by the probe's name, so the same look twice would be one probe with two pulses."""
    probes: dict[str, Probe] = {}
    for table in tables:
        probe = _read_probe(site, table)
        if probe is not None and probe.name in probes:
            table.fault("", f"{probe.name} is probed already: expected each probe of a site once")
        elif probe is not None:
            probes[probe.name] = probe
    return tuple(probes.values())


def _read_probe(site: str, table: Table) -> Probe | None:
    kinds = [name for name in _KINDS if table.has(name)]
    if len(kinds) != 1:
        one = ", ".join(_KINDS)
        table.fault("", f'expected exactly one of {one}, such as {{ http = "http://192.0.2.10/health" }}')
        _pass_over(table)
        return None
    kind = _KINDS[kinds[0]]
    check, place = kind.read(table)
    observers = table.take("observers", _observers, "site" if kind.own else "all")
    if kind.here and observers == "all":
        table.fault("observers", f'expected "site": {kinds[0]} looks at the machine of whoever makes it')
    probe = Probe(
        site=site,
        name=table.take("label", v.short_name, place),
        check=check,
        interval_seconds=table.take("interval", v.positive_seconds, kind.interval_seconds),
        timeout_seconds=table.take("timeout", v.positive_seconds, kind.timeout_seconds),
        rise=table.take("rise", v.whole(1, 100), 2),
        fall=table.take("fall", v.whole(1, 100), 3),
        jitter=table.take("jitter", v.share, 0.1),
        site_only=observers == "site",
    )
    table.done((kinds[0], *kind.keys, *_COMMON))
    return probe


def _pass_over(table: Table) -> None:
    """Of a probe of no kind, or of two, name only the keys that belong to none."""
    known = (*_KINDS, *_COMMON, *dict.fromkeys(key for kind in _KINDS.values() for key in kind.keys))
    for key in known:
        table.take(key, lambda value: value, None)
    table.done(known)


def _observers(value: Any) -> str:
    if value not in ("all", "site"):
        raise Expected('"all" or "site"')
    return str(value)


def located(probe: Probe, locate: Callable[[Path], Path]) -> Probe:
    """The probe with its files where `locate` says that they are."""
    return replace(probe, check=_located(probe.check, locate))


def _located(check: Check, locate: Callable[[Path], Path]) -> Check:
    def maybe(file: Path | None) -> Path | None:
        return None if file is None else locate(file)

    match check:
        case HttpCheck():
            return replace(check, authority=maybe(check.authority))
        case FileCheck():
            return replace(check, file=locate(check.file))
        case DiskCheck():
            return replace(check, folder=locate(check.folder))
        case CertificateCheck():
            return replace(check, file=maybe(check.file))
        case PostgresCheck(database=database) | MysqlCheck(database=database):
            place = locate(database.place) if isinstance(database.place, Path) else database.place
            password_file, authority = maybe(database.password_file), maybe(database.authority)
            return replace(
                check, database=replace(database, place=place, password_file=password_file, authority=authority)
            )
        case _:
            return check


# -- one reader for each kind -----------------------------------------------------------------------------------------


def _http(table: Table) -> tuple[Check, str]:
    url = table.take("http", v.http_url, "http://invalid")
    usual: tuple[int, ...] = (200,)
    address = table.take("address", v.address, None)
    check = HttpCheck(
        url=url,
        statuses=frozenset(table.take("statuses", v.many(v.whole(100, 599)), usual)),
        match=table.take("match", v.text, None),
        address=str(address) if address else None,
        pattern=table.take("pattern", _pattern, None),
        method=table.take("method", _method, "GET"),
        headers=_pairs(table.table("headers"), _HEADER, "header"),
        server_name=table.take("server_name", v.host_name, None),
        authority=_file(table, "authority"),
        warn_before_seconds=table.take("warn_before", v.seconds, 14 * DAY_SECONDS),
    )
    return check, f"http {_place(url)}" + (f" at {address}" if address else "")


def _tcp(table: Table) -> tuple[Check, str]:
    host, port = table.take("tcp", v.endpoint, NOWHERE)
    send, expect = table.take("send", v.text, ""), table.take("expect", v.text, "")
    return TcpCheck(host=host, port=port, send=send.encode(), expect=expect.encode()), f"tcp {host}:{port}"


def _dns(table: Table) -> tuple[Check, str]:
    host, port = table.take("dns", v.endpoint, NOWHERE)
    name = table.need("name", v.host_name, "?", '"example.com"')
    kind = table.take("type", v.record_type, "SOA")
    nothing: tuple[str, ...] = ()
    check = DnsCheck(
        host=host,
        port=port,
        name=name,
        type=kind,
        rcode=table.take("rcode", _rcode, "NOERROR"),
        answer=frozenset(table.take("answer", v.many(_record(kind)), nothing)),
        authoritative=table.take("authoritative", v.boolean, True),
    )
    return check, f"dns {name} {kind} at {host}:{port}"


def _exec(table: Table) -> tuple[Check, str]:
    nothing: tuple[str, ...] = ("/bin/false",)
    arguments = table.take("exec", _arguments, nothing)
    return _program(table, arguments, f"exec {' '.join(arguments)}")


def _command(table: Table) -> tuple[Check, str]:
    line = table.take("command", v.text, "false")
    return _program(table, (SHELL, "-c", line), f"command {line}")


def _program(table: Table, arguments: tuple[str, ...], name: str) -> tuple[Check, str]:
    environment = _pairs(table.table("environment"), _VARIABLE, "variable")
    return ExecCheck(arguments=arguments, environment=environment), name[:ARGUMENTS_SHOWN_CHARACTERS]


def _file_probe(table: Table) -> tuple[Check, str]:
    file = table.take("file", v.text, "?")
    age_max = table.take("age_max", v.positive_seconds, None)
    check = FileCheck(file=Path(file), age_max_seconds=age_max, contains=table.take("contains", v.text, None))
    return check, f"file {file}"


def _disk(table: Table) -> tuple[Check, str]:
    folder = table.take("disk", v.text, "?")
    free, share = table.need("free_min", _free, (0, 0.0), '"5GiB"')
    files = table.take("inodes_min", _any_share, 0.0)
    check = DiskCheck(folder=Path(folder), free_min_bytes=free, free_min_share=share, files_min_share=files)
    return check, f"disk {folder}"


def _certificate(table: Table) -> tuple[Check, str]:
    host, port = table.take("certificate", v.endpoint, NOWHERE)
    server_name = table.take("server_name", v.host_name, None)
    check = replace(_dates(table), endpoint=(host, port), server_name=server_name)
    return check, f"certificate {host}:{port}" + (f" for {server_name}" if server_name else "")


def _certificate_file(table: Table) -> tuple[Check, str]:
    file = table.take("certificate_file", v.text, "?")
    return replace(_dates(table), file=Path(file)), f"certificate {file}"


def _dates(table: Table) -> CertificateCheck:
    return CertificateCheck(
        warn_before_seconds=table.take("warn_before", v.seconds, 14 * DAY_SECONDS),
        fail_before_seconds=table.take("fail_before", v.seconds, 0.0),
    )


def _postgres(table: Table) -> tuple[Check, str]:
    database, lag_max, name = _database(table, "postgres")
    return PostgresCheck(database=database, lag_max_seconds=lag_max), name


def _mysql(table: Table) -> tuple[Check, str]:
    database, lag_max, name = _database(table, "mysql")
    return MysqlCheck(database=database, lag_max_seconds=lag_max), name


def _database(table: Table, kind: str) -> tuple[Database, float, str]:
    nowhere: tuple[str, int] | Path = NOWHERE
    place = table.take(kind, _database_place, nowhere)
    authority = _file(table, "authority")
    if authority is not None and isinstance(place, Path):
        table.fault("authority", "expected none with a Unix socket, on which there is no TLS")
    database = Database(
        place=place,
        user=table.need("user", v.text, "?", '"anycastle"'),
        name=table.take("database", v.text, ""),
        password_file=_file(table, "password_file"),
        authority=authority,
    )
    lag_max = table.take("lag_max", v.positive_seconds, 5.0)
    where = str(place) if isinstance(place, Path) else f"{place[0]}:{place[1]}"
    return database, lag_max, f"{kind} {where}"


_DATABASE_KEYS = ("user", "database", "password_file", "authority", "lag_max")
_KINDS = {
    "http": _Kind(
        _http,
        (
            *("address", "match", "pattern", "statuses", "method", "headers", "server_name", "authority"),
            "warn_before",
        ),
    ),
    "tcp": _Kind(_tcp, ("send", "expect")),
    "dns": _Kind(_dns, ("name", "type", "rcode", "answer", "authoritative")),
    "exec": _Kind(_exec, ("environment",), own=True),
    "command": _Kind(_command, ("environment",), own=True),
    "file": _Kind(_file_probe, ("age_max", "contains"), own=True, here=True),
    "disk": _Kind(_disk, ("free_min", "inodes_min"), own=True, here=True, interval_seconds=10.0, timeout_seconds=2.0),
    "certificate": _Kind(
        _certificate, ("server_name", "warn_before", "fail_before"), interval_seconds=60.0, timeout_seconds=5.0
    ),
    "certificate_file": _Kind(
        _certificate_file,
        ("warn_before", "fail_before"),
        own=True,
        here=True,
        interval_seconds=60.0,
        timeout_seconds=5.0,
    ),
    "postgres": _Kind(_postgres, _DATABASE_KEYS, own=True),
    "mysql": _Kind(_mysql, _DATABASE_KEYS, own=True),
}


# -- values -----------------------------------------------------------------------------------------------------------


def _file(table: Table, key: str) -> Path | None:
    file = table.take(key, v.text, "")
    return Path(file) if file else None


def _pairs(table: Table, form: re.Pattern[str], what: str) -> tuple[tuple[str, str], ...]:
    found = table.named_values(_one_line)
    for name in found:
        if not form.fullmatch(name):
            table.fault(name, f"expected the name of a {what}")
    return tuple(found.items())


def _one_line(value: Any) -> str:
    if not isinstance(value, str) or not value.isprintable():
        raise Expected("a text in quotes, of one line")
    return value


def _method(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Z]{1,16}", value):
        raise Expected('a method such as "GET" or "HEAD"')
    return value


def _pattern(value: Any) -> str:
    try:
        regex.compile(v.text(value).encode())
    except regex.error as error:
        raise Expected(f"a regular expression ({error})") from error
    return str(value)


def _arguments(value: Any) -> tuple[str, ...]:
    fits = isinstance(value, list) and value and all(isinstance(each, str) and "\0" not in each for each in value)
    if not fits or not value[0].startswith("/"):
        raise Expected('a program and its arguments such as ["/usr/local/bin/check", "--fast"], by its absolute name')
    return tuple(value)


def _rcode(value: Any) -> str:
    try:
        return dns.rcode.to_text(dns.rcode.from_text(v.text(value)))
    except dns.exception.DNSException:
        raise Expected('a response code such as "NOERROR" or "NXDOMAIN"') from None


def _record(kind: str) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        try:
            return dns.rdata.from_text("IN", kind, v.text(value)).to_text()
        except (dns.exception.DNSException, ValueError):
            raise Expected(f"the data of a record of type {kind} as in a master file") from None

    return parse


def _any_share(value: Any) -> float:
    return v.share(value, percent_max=99)


def _free(value: Any) -> tuple[int, float]:
    """Bytes, or a share; the other one is none."""
    try:
        if isinstance(value, str) and "%" in value:
            return 0, _any_share(value)
        return v.size_bytes(value), 0.0
    except Expected:
        raise Expected('a size such as "5GiB" or a share such as "10 %"') from None


def _database_place(value: Any) -> tuple[str, int] | Path:
    if isinstance(value, str) and value.startswith("/"):
        return Path(value)
    try:
        return v.endpoint(value)
    except Expected:
        raise Expected('host and port such as "192.0.2.1:5432", or a Unix socket by its absolute name') from None


def _place(url: str) -> str:
    """A URL as it is shown: what tells two probes apart, without a password."""
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2] + (parts.path if parts.path != "/" else "")
    return place + (f"?{parts.query}" if parts.query else "")


def counting(probes: Iterable[Probe], required: frozenset[str]) -> list[Probe]:
    """Those by which the other members know of a site."""
    return [probe for probe in probes if not probe.site_only and probe.name not in required]
