"""Real things to probe: certificates, HTTP(S) servers, TCP listeners and a DNS answerer, all on loopback."""

import asyncio
import datetime
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def http_server(
    handler: Handler, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[int]:
    """Serves every path of an ephemeral port with `handler`."""
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, 0, ssl_context=tls)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def certificate(folder: Path, name: str, *, days: float = 1.0) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A self-made certificate for `name`: (the server's context, the context of a client that trusts it).

    It is `site.pem` in the folder, with its key.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    today = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - datetime.timedelta(days=100))
        .not_valid_after(today + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "site.pem"
    pem.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    client = ssl.create_default_context(cadata=made.public_bytes(serialization.Encoding.PEM).decode())
    return server, client


class Nameserver(asyncio.DatagramProtocol):
    """Answers each query by `mood`: "good", "lame" (no AA), "refused", "silent", "garbage" (first junk, then good)."""

    mood = "good"
    recursion_desired = False
    """Of the last query."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if self.mood == "silent":
            return
        query = dns.message.from_wire(data)
        self.recursion_desired = bool(query.flags & dns.flags.RD)
        reply = dns.message.make_response(query)
        if self.mood == "refused":
            reply.set_rcode(dns.rcode.REFUSED)
        else:
            reply.answer.append(dns.rrset.from_text(query.question[0].name, 60, "IN", "A", "192.0.2.10"))
        if self.mood != "lame":
            reply.flags |= dns.flags.AA
        if self.mood == "garbage":
            self.transport.sendto(b"\x00\x01junk", addr)
            forged = dns.message.make_response(query)
            forged.id ^= 1
            self.transport.sendto(forged.to_wire(), addr)
        self.transport.sendto(reply.to_wire(), addr)


@asynccontextmanager
async def nameserver() -> AsyncIterator[tuple[int, Nameserver]]:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(Nameserver, local_addr=("127.0.0.1", 0))
    try:
        yield transport.get_extra_info("sockname")[1], protocol
    finally:
        transport.close()
