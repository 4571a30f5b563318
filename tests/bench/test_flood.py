"""The benchmark of floods: its clients do what resolvers do, its flood is bounded; no word about how fast."""

import socket
import struct

import pytest

from bench.dns_load import ORIGIN
from bench.dns_systems import SYSTEMS
from bench.flood import QUICK, measure
from bench.flood_clients import Client, Outcome
from bench.flood_sender import NETWORK, encode_plain, flood, make_packets
from bench.packages import find


def test_the_flood_has_forged_sources_and_keeps_to_its_pace() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as target:
        target.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        target.bind(("127.0.0.1", 0))
        sent, answers = flood(target.getsockname()[1], 1000, 0.2, "network")
        target.setblocking(False)
        sources = {target.recvfrom(512)[1][0] for _ in range(min(sent, 100))}
    assert 100 <= sent <= 300
    assert answers == 0
    assert len(sources) > 20
    assert all(socket.inet_aton(source).startswith(NETWORK) for source in sources)


def test_floods_differ_in_sources_and_names() -> None:
    everywhere, network = make_packets("everywhere"), make_packets("network")
    assert len({source[:3] for source, _ in everywhere}) > 10_000
    assert len({query[2:] for _, query in everywhere}) > 5_000
    assert {source[:3] for source, _ in network} == {NETWORK}
    assert len({query[2:] for _, query in network}) == 1


def test_clients_keep_the_server_part_of_their_cookie() -> None:
    client = Client(bytes((127, 0, 0, 1)), "", 53, cookies=True)
    query = encode_plain(f"n0000.{ORIGIN}", 0)
    asked = client.dress(query, 7)
    assert asked.endswith(struct.pack("!HHH", 12, 10, 8) + client.cookie)
    whole = client.cookie + bytes(range(16))
    client.learn(query + struct.pack("!HH", 10, 24) + whole)
    assert client.cookie == whole
    client.udp.close()


def test_nothing_asked_is_not_a_share() -> None:
    assert Outcome().summary() == {"answered": None, "by_tcp": None, "median": None, "p99": None}
    assert Outcome(asked=4, answered=3, by_tcp=1, seconds=[0.001] * 3).summary()["answered"] == 75.0


@pytest.mark.skipif(find("dnsperf") is None, reason="script/bench flood installs dnsperf")
def test_our_own_server_is_flooded_and_its_limit_shows() -> None:
    rows = measure(SYSTEMS[:1], QUICK)
    values = {(row.case, row.metric): row.value for row in rows}
    inside = "flood from one network, clients inside"
    assert values[inside, "by tcp"], "every second limited answer sends them there"
    assert values[f"{inside} with cookies", "by tcp"] == 0
    reflected = values[inside, "of it answered"]
    assert reflected is not None
    assert reflected < 80
    assert values["flood from everywhere, clients everywhere", "answered"]
