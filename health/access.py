"""Who asks over the API, and whether they may.

    Unix socket                    everything: whoever may open the file
    TCP, reading                   everybody, or (reading by token) loopback and whoever shows any token
    TCP, changing, off loopback    nobody: a token sent in the clear is a token given away
    TCP, changing, over loopback   whoever shows a token with the scope; a TLS proxy on this machine comes this way
    TCP, by a public name          nobody, unless it is configured: the name of a page elsewhere may lead here

Laws: all tokens are compared, each in constant time; the file is looked at again for each request that shows one, so
what was taken out of it is refused at once; while it cannot be read nobody changes anything over TCP.
"""

import hashlib
import hmac
import ipaddress
import logging
import os
import pwd
import re
import socket
import struct
from asyncio.trsock import TransportSocket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from anycastle.errors import AnycastleError
from anycastle.health.ask import Address
from anycastle.health.settings import Reading, Scope, Token

log = logging.getLogger("anycastle.access")
ReadTokens = Callable[[Path], tuple[Token, ...]]
_CREDENTIALS = struct.Struct("3i")
"""unix(7), SO_PEERCRED: process, user, group."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asked for something, for the list of changes."""

    who: str
    """`token NAME`, `user NAME`, or `anybody`."""
    origin: str
    """`unix socket, process N`, or the address that the connection came from."""


class Access:
    """The rules of one listener. Raises web.HTTPException with one line for whoever may not."""

    def __init__(
        self, file: Path | None, read: ReadTokens, reading: Reading = Reading.OPEN, *, hosts: tuple[str, ...] = ()
    ) -> None:
        """`hosts`: names in lower case by which it may be asked, beside those that no page elsewhere can have."""
        self._tokens = None if file is None else _File(file, read)
        self._reading = reading
        self._hosts = frozenset((*hosts, socket.gethostname().lower()))

    def admit(self, request: web.Request, scope: Scope) -> Caller:
        try:
            return self._admit(request, scope)
        except web.HTTPException as refusal:
            log.warning("event=api-refused from=%r path=%s reason=%r", request.remote, request.path, refusal.text)
            raise

    def _admit(self, request: web.Request, scope: Scope) -> Caller:
        connection = request.get_extra_info("socket")
        if connection is not None and connection.family == socket.AF_UNIX:
            return _peer(connection)
        self._check_host(request.headers.get("Host", ""))
        origin = request.remote or "somewhere"
        if scope is Scope.READ and (self._reading is Reading.OPEN or _is_loopback(origin)):
            return Caller("anybody", origin)
        if scope is not Scope.READ and not _is_loopback(origin):
            raise web.HTTPForbidden(
                text=f"changes over plain HTTP are refused from {origin}, since they would show their token to the "
                "network: expected the Unix socket, or a TLS proxy on this machine"
            )
        return Caller(f"token {self._shown(request, scope).name}", origin)

    def _check_host(self, host: str) -> None:
        """An address, a name of one label or below localhost is nobody's on the internet. Clients without it are none
        that show pages.
        """
        name = re.sub(r":\d*$", "", host).rstrip(".").lower()
        if "." not in name or name.endswith(".localhost") or name in self._hosts:
            return
        if _address(name.strip("[]")) is not None:
            return
        raise web.HTTPMisdirectedRequest(
            text=f"nothing is told by the name {name[:100]!r}, which may be that of a page elsewhere: expected an "
            "address, localhost, the name of this machine, or one that dashboard.hosts lists"
        )

    def _shown(self, request: web.Request, scope: Scope) -> Token:
        if self._tokens is None:
            raise web.HTTPForbidden(
                text="changes are refused over TCP: expected a token in the configuration, or the Unix socket"
            )
        kind, _, shown = request.headers.get("Authorization", "").partition(" ")
        digest = hashlib.sha256(shown.strip().encode("utf-8", "surrogateescape")).digest()
        equal = [token for token in self._tokens.present() if hmac.compare_digest(token.digest, digest)]
        if not equal or kind.lower() != "bearer":
            raise web.HTTPUnauthorized(
                text="not authorised: expected the header Authorization: Bearer with the configured token",
                headers={"WWW-Authenticate": "Bearer"},
            )
        for token in equal:
            if token.allows(scope):
                return token
        has = ", ".join(sorted(each.value for each in equal[0].scopes))
        raise web.HTTPForbidden(text=f"token {equal[0].name} is for {has}: expected one with {scope.value}")


class _File:
    """Tokens as they stand in a file now."""

    def __init__(self, file: Path, read: ReadTokens) -> None:
        self._file = file
        self._read = read
        self._stamp: tuple[int, ...] | None = None
        self._tokens: tuple[Token, ...] = ()

    def present(self) -> tuple[Token, ...]:
        try:
            stat = os.stat(self._file)
            stamp = (stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
            if stamp != self._stamp:
                self._stamp, self._tokens = None, self._read(self._file)
                self._stamp = stamp
        except (AnycastleError, OSError) as error:
            raise web.HTTPServiceUnavailable(
                text=f"nobody is let in by token, for they cannot be read: {error}"
            ) from None
        return self._tokens


def _address(text: str) -> Address | None:
    """None for what is none."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _is_loopback(origin: str) -> bool:
    address = _address(origin.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return address is not None and (mapped or address).is_loopback


def _peer(connection: TransportSocket) -> Caller:
    process, user, _ = _CREDENTIALS.unpack(
        connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    )
    try:
        name = pwd.getpwuid(user).pw_name
    except KeyError:
        name = str(user)
    return Caller(f"user {name}", f"unix socket, process {process}")
