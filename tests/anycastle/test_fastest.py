"""The whole way of a number: a real line with a lag, two members' edges, what they tell each other, the answer."""

import http.client
import urllib.request
from collections.abc import Iterator

import dns.edns
import dns.message
import dns.query
import pytest

from anycastle.dns.fastest import CONNECTIONS_MIN
from tests.anycastle.members import ADDRESS, Members, prepared, until
from tests.lag import CLIENT, NEEDED, entered, inside, line

LAGS = {"ams": ("198.18.0.1", 0.06), "nyc": ("198.18.0.2", 0.01)}
"""By the map the clients are nearest to ams."""
NAME = "alice.photos.example.com"
PORT = 8080


@pytest.fixture
def two() -> Iterator[tuple[Members, int]]:
    """Members that run at one end of the line, and the namespace at the other."""
    with line(dict(LAGS.values())) as ends, entered(ends.servers), prepared("ams", "nyc") as made:
        (made.folder / "networks.csv").write_text("198.18.0.0/24,ams nyc\n")
        made.change("[[names]]\n", '[[names]]\nsteer = "fastest"\n')
        for site, (address, _) in LAGS.items():
            listen = f'"{ADDRESS}:{made.sites[site].edge}"'
            made.change(f"edge = {{ listen = [{listen}]", f'edge = {{ listen = [{listen}, "{address}:{PORT}"]')
        made.start_applications()
        for site in LAGS:
            made.start(site)
        made.ready()
        made.settled()
        yield made, ends.clients


def visit(address: str, times: int) -> None:
    """So many clients, each with a connection of its own."""
    for _ in range(times):
        connection = http.client.HTTPConnection(address, PORT, timeout=20)
        connection.request("GET", "/none.jpg", headers={"Host": NAME})
        connection.getresponse().read()
        connection.close()


def sent_to(made: Members, site: str) -> tuple[list[str], int]:
    """The addresses that a nameserver's worker gives the clients, and the scope."""
    query = dns.message.make_query(NAME, "A", use_edns=0, options=[dns.edns.ECSOption(CLIENT, 24)])
    reply = dns.query.udp(query, ADDRESS, port=made.sites[site].dns, timeout=5)
    scope = next(option.scopelen for option in reply.options if isinstance(option, dns.edns.ECSOption))
    return [str(record) for rrset in reply.answer for record in rrset], scope


@NEEDED
def test_clients_go_to_the_site_that_is_faster_for_them_not_to_the_closest(two: tuple[Members, int]) -> None:
    made, clients = two
    addresses = {site: [f"192.0.2.{10 + ord(site[0]) % 100}"] for site in LAGS}
    inside(clients, lambda: [visit(address, 1) for address, _ in LAGS.values()])

    def explained(site: str) -> dict[str, dict[str, object]]:
        answer = made.run("explain", NAME, "--client", CLIENT, "--json", site=site).json
        return {"chosen": answer["chosen"]} | {each["site"]: each for each in answer["sites"]}

    # One connection at each site is known to both, and is too little.
    until(
        lambda: all(explained(site)[other]["connections"] == 1 for site in LAGS for other in LAGS),
        "each member knows what both have measured",
    )
    assert explained("ams")["chosen"] == ["ams"]
    assert "fewer than two sites have 20 connections from 198.18.0.0/24" in str(explained("nyc")["ams"]["reason"])
    assert sent_to(made, "ams")[0] == addresses["ams"]

    inside(clients, lambda: [visit(address, int(CONNECTIONS_MIN)) for address, _ in LAGS.values()])
    for site in LAGS:
        until(lambda site=site: sent_to(made, site) == (addresses["nyc"], 24), f"the workers of {site} know", 50)
        found = explained(site)
        assert found["chosen"] == ["nyc"]
        for other, (_, lag) in LAGS.items():
            told = found[other]["round_trip_milliseconds"]
            assert isinstance(told, float)
            assert 1000 * lag <= told < 1000 * lag + 40
            assert f"measured {told:.1f} ms from " in str(found[other]["reason"])
        shown = made.run("explain", NAME, "--client", CLIENT, site=site).out
        assert "place: measured round-trip times of 198.18.0.0/24, before networks.csv:1 198.18.0.0/24" in shown
        rows = made.run("explain", NAME, "--all-networks", "--json", site=site).out.splitlines()
        assert any('"network": "198.18.0.0/24"' in row and '"chosen": ["nyc"]' in row for row in rows)

    # The numbers are where an operator looks for them.
    with urllib.request.urlopen(f"http://{ADDRESS}:{made.sites['nyc'].dashboard}/metrics", timeout=10) as scraped:
        lines = scraped.read().decode().splitlines()
    assert "anycastle_dns_ranked_networks 1.0" in lines
    assert "anycastle_edge_measured_networks 1.0" in lines
    counted = next(float(each.split()[1]) for each in lines if each.startswith("anycastle_edge_round_trips_total "))
    assert counted >= 1 + CONNECTIONS_MIN

    made.run("reload", site="ams")
    until(lambda: sent_to(made, "ams") == (addresses["nyc"], 24), "after the reload the map is laid again")
