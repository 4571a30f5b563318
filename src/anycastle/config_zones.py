"""The tables of the configuration about zones and their secondaries: `[[zones]]` and `[keys.X]`.

Law: as in `config_parts`: faults are noted, a value always comes back.
"""

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anycastle import config_values as v
from anycastle.config_read import Expected, NamedFile, Table
from anycastle.dns.settings import Network, TransferSettings, ZoneFile

_ALGORITHMS = ("hmac-sha224", "hmac-sha256", "hmac-sha384", "hmac-sha512")
"""Those of RFC 8945 section 6 that may be used; SHA-1 and MD5 may not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPart:
    """A key shared with secondaries; its secret is read by the members that serve zones."""

    name: str
    algorithm: str
    secret_file: NamedFile


def read_keys(table: Table) -> tuple[KeyPart, ...]:
    """All of `[keys]`, without those that are faulty."""
    return tuple(key for name, inner in table.named().items() if (key := _read_key(name, inner)) is not None)


def _read_key(name: str, table: Table) -> KeyPart | None:
    algorithm = table.take("algorithm", _algorithm, "hmac-sha256")
    if not table.has("secret_file"):
        table.fault("", "needs a key 'secret_file', such as: secret_file = \"xfr.secret\"")
    secret_file = table.named_file("secret_file", v.text)
    table.done(("algorithm", "secret_file"))
    try:
        name = _key_name(name)
    except Expected as expected:
        table.fault("", f"expected {expected}")
        return None
    return KeyPart(name=name, algorithm=algorithm, secret_file=secret_file) if secret_file else None


def _key_name(value: Any) -> str:
    name = v.host_name(value)
    if name.startswith("*"):
        raise Expected('a name such as "xfr" or "xfr.example.com"')
    return name


def _algorithm(value: Any) -> str:
    if value not in _ALGORITHMS:
        raise Expected("one of " + ", ".join(f'"{name}"' for name in _ALGORITHMS))
    return str(value)


def read_zone(table: Table, folder: Path, keys: tuple[str, ...]) -> ZoneFile | None:
    """None when it does not say which file it is."""
    file = table.need("file", v.text, "", '"zones/example.com"')
    origin = table.take("origin", v.host_name, Path(file).name.lower())
    transfer = _read_transfer(table.table("transfer"), keys) if table.has("transfer") else None
    no_endpoints: tuple[tuple[str, int], ...] = ()
    notify = table.take("notify", v.many(v.listener), no_endpoints)
    table.done(("file", "origin", "transfer", "notify"))
    if notify and transfer is None:
        table.warn("notify", "says that the zone changed, but nobody may fetch it: transfer is not there")
    return ZoneFile(origin=origin, file=folder / file, transfer=transfer, notify=notify) if file else None


def _read_transfer(table: Table, keys: tuple[str, ...]) -> TransferSettings:
    nobody: tuple[Network, ...] = ()
    to = table.need("to", v.many(network), nobody, '["192.0.2.7", "2001:db8::/64"]')
    key = table.take("key", _one_of_keys(keys), "")
    table.done(("to", "key"))
    if to and not key and not all(net.is_loopback for net in to):
        table.warn("", "has no key: an address alone can be forged by who sits on the path")
    return TransferSettings(to=to, key=key or None)


def _one_of_keys(keys: tuple[str, ...]) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        name = v.host_name(value)
        if name not in keys:
            raise Expected(f"the name of a table [keys.X]; there are: {', '.join(keys) or 'none'}")
        return name

    return parse


def network(value: Any) -> Network:
    """An address, or a network without host bits."""
    try:
        return ipaddress.ip_network(v.text(value))
    except ValueError:
        raise Expected('an address or a network such as "192.0.2.7" or "2001:db8::/64"') from None
