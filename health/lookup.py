"""Host names to addresses for probes, so that a resolver which hangs holds up nobody (see `aside`)."""

import ipaddress
import socket

from aiohttp.abc import AbstractResolver, ResolveResult

from anycastle.health.aside import Aside


class Lookup(AbstractResolver):
    """Host names of one probe; with `address` given, every name is there."""

    def __init__(self, *, address: str | None = None) -> None:
        self._aside: Aside[list[str]] = Aside("probe-lookup")
        self._address = address

    async def addresses(self, host: str, port: int) -> list[str]:
        """Literal addresses of `host`, at least one, in the system's order. Raises OSError."""
        if self._address is not None:
            return [self._address]
        if _is_address(host):
            return [host]
        return await self._aside.run(lambda: _getaddrinfo(host, port))

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """aiohttp's way to ask the same."""
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in await self.addresses(host, port)
        ]

    async def close(self) -> None:
        """Nothing is held."""


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _getaddrinfo(host: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise OSError(f"{host} is no host name") from error
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))
