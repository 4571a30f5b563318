"""Why a router is silent, from the kernel's table of connections."""

import ipaddress
import socket
from dataclasses import replace

import pytest

from anycastle.bgp.settings import Peer
from anycastle.bgp.silence import Tcp, connection, explain, look

ROUTER, SITE = ipaddress.ip_address("192.0.2.2"), ipaddress.ip_address("192.0.2.1")
PEER = Peer(address=ROUTER, asn=64499, local_address=SITE)
HEAD = "  sl  local_address rem_address   st tx_queue rx_queue\n"


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_real_connection_is_found(host: str) -> None:
    address = ipaddress.ip_address(host)
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.create_server((host, 0), family=family) as server:
        peer = Peer(address=address, asn=64499, local_address=address, port=server.getsockname()[1])
        assert look(peer) is Tcp.NONE
        with socket.create_connection((host, peer.port)):
            assert look(peer) is Tcp.OPEN
            assert look(replace(peer, passive=True)) is Tcp.OPEN


def test_a_connection_that_waits_for_its_answer() -> None:
    line = "   0: 010200C0:9C40 020200C0:00B3 02 00000001:00000000\n"
    assert connection(PEER, HEAD + line) is Tcp.ASKED
    assert connection(replace(PEER, port=180), HEAD + line) is Tcp.NONE
    assert connection(PEER, HEAD + "   1: short\n") is Tcp.NONE


@pytest.mark.parametrize(
    ("peer", "tcp", "words"),
    [
        (PEER, Tcp.NONE, ""),
        (PEER, Tcp.ASKED, "192.0.2.2 does not answer on TCP port 179: it expects a TCP MD5 key"),
        (replace(PEER, md5="x"), Tcp.ASKED, "it has another TCP MD5 key than md5_file, or none; or a filter"),
        (replace(PEER, ttl_security=1), Tcp.ASKED, "more than ttl_security = 1 hops away"),
        (replace(PEER, multihop=3), Tcp.ASKED, "more than multihop = 3 hops away"),
        (PEER, Tcp.OPEN, "if it checks TTLs (GTSM), ttl_security is needed here"),
        (replace(PEER, ttl_security=1), Tcp.OPEN, "we are more hops away than its TTL check (GTSM) allows"),
        (replace(PEER, passive=True), Tcp.NONE, "192.0.2.2 has not connected to 192.0.2.1 port 179"),
    ],
)
def test_what_the_operator_reads(peer: Peer, tcp: Tcp, words: str) -> None:
    assert words in explain(peer, tcp)
