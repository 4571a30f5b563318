"""What members tell each other of their clients' round trips, and when a map is made of it."""

from pathlib import Path

import msgspec
import pytest

from anycastle.dns.fastest import CONNECTIONS_MIN, Overlay
from anycastle.dns.measured import connections
from anycastle.dns.settings import Policy, SteeredName
from anycastle.dns.steer import decide
from anycastle.dns.tables import Tables, with_fastest
from anycastle.round_trips import PUBLISH_SECONDS, STALE_SECONDS, ClientRoundTrips
from anycastle.talk import MEASURED_MAX, Measured
from tests.dns.world import make_tables, make_view

SITES = ("ams", "nyc", "sgp")
NAMES = (SteeredName(name="shop.example.com", policy=Policy.FASTEST),)
NETWORK = bytes((10, 1, 7))
"""The map says ams nyc sgp."""
CLIENT = bytes((10, 1, 7, 1))


class StandingClock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.at = 10_000.0

    def now(self) -> float:
        return self.at

    def wall(self) -> float:
        return self.at + 1.7e9


def member(name: str = "ams", names: tuple[SteeredName, ...] = NAMES) -> tuple[ClientRoundTrips, StandingClock]:
    clock = StandingClock()
    return ClientRoundTrips(name, SITES, names, clock=clock), clock


def measured(told: ClientRoundTrips, milliseconds: float, *, times: int = int(CONNECTIONS_MIN)) -> None:
    for _ in range(times):
        told.sampled("10.1.7.9", milliseconds / 1000)


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    return make_tables(tmp_path, names=NAMES)


def sent_to(tables: Tables) -> str:
    match = tables.steering.match((b"shop", b"example", b"com"))
    assert match is not None
    return decide(tables.steering, match, CLIENT, 32, make_view(), now=10_000.0).sites[0]


# -- what is told -------------------------------------------------------------------------------------------------


def test_what_is_measured_is_told_once_and_again_when_a_link_comes_up() -> None:
    told, _ = member()
    measured(told, 12.3, times=3)
    assert told.untold() == (Measured(NETWORK, 12300, 3),)
    assert told.untold() == ()
    measured(told, 12.3, times=1)
    assert told.untold() == (Measured(NETWORK, 12300, 4),)
    told.tell_all()
    assert told.untold() == (Measured(NETWORK, 12300, 4),)


def test_it_is_told_a_few_networks_at_a_time_and_each_once() -> None:
    told, _ = member()
    for number in range(MEASURED_MAX + 7):
        told.sampled(f"10.2.{number}.1", 0.01)
    first, second = told.untold(), told.untold()
    assert (len(first), len(second), told.untold()) == (MEASURED_MAX, 7, ())
    assert len({each.network for each in (*first, *second)}) == MEASURED_MAX + 7


def test_what_is_forgotten_is_not_told() -> None:
    told, clock = member()
    measured(told, 12.3, times=1)
    clock.at += 2 * 3600
    assert told.untold() == ()


def test_addresses_that_are_no_network_of_clients_are_left_out() -> None:
    told, _ = member()
    told.sampled("::1", 0.01)
    assert told.untold() == ()


def test_without_a_name_that_goes_by_speed_nothing_is_kept_or_told() -> None:
    told, _ = member(names=(SteeredName(name="shop.example.com"),))
    measured(told, 12.3)
    told.hear("nyc", (Measured(NETWORK, 5000, 50),))
    assert told.untold() == ()
    assert told.levels()["dns"]["measured_networks"] == 0
    told.use(NAMES)
    measured(told, 12.3)
    assert len(told.untold()) == 1
    measured(told, 12.3)
    told.use(())
    assert told.untold() == ()
    assert told.levels()["edge"]["measured_networks"] == 0


def test_a_site_speaks_for_itself_only_and_a_witness_for_nobody() -> None:
    told, clock = member()
    told.hear("nyc", (Measured(NETWORK, 5000, 50),))
    told.hear("ams", (Measured(NETWORK, 1, 1_000_000),))
    told.hear("witness", (Measured(NETWORK, 1, 1_000_000),))
    assert [site for site, networks in told.sites.items() if networks.numbers] == ["nyc"]
    assert connections(told.sites["nyc"].numbers[NETWORK], now=clock.now()) == 50
    assert told.levels() == {
        "edge": {"measured_networks": 0},
        "dns": {"measured_networks": 1, "ranked_networks": 0},
    }


# -- when a map is made -------------------------------------------------------------------------------------------


async def test_a_map_is_made_when_there_is_news_and_given_to_workers_when_it_differs(tables: Tables) -> None:
    told, clock = member()
    found = await told.next_map(tables)
    assert found is not None
    tables, overlay = found
    assert (overlay, sent_to(tables)) == (None, "ams")
    assert await told.next_map(tables) is None

    measured(told, 90.0)
    found = await told.next_map(tables)
    assert found is not None
    tables, overlay = found
    assert (overlay, sent_to(tables)) == (None, "ams")  # numbers to show, and nothing to do

    told.hear("nyc", (Measured(NETWORK, 10_000, 50),))
    found = await told.next_map(tables)
    assert found is not None
    faster, overlay = found
    assert overlay is not None
    assert sent_to(faster) == sent_to(with_fastest(tables, overlay)) == "nyc"
    assert msgspec.msgpack.decode(overlay, type=Overlay).orders == (("nyc", "ams", "sgp"),)
    assert told.levels()["dns"]["ranked_networks"] == 1

    told.hear("nyc", (Measured(NETWORK, 200_000, 50),))
    assert await told.next_map(faster) is None  # not so soon
    clock.at += PUBLISH_SECONDS
    found = await told.next_map(faster)
    assert found is not None
    assert sent_to(found[0]) == "ams"


async def test_after_a_reload_it_is_laid_again_at_once(tables: Tables) -> None:
    told, _ = member()
    measured(told, 90.0)
    told.hear("nyc", (Measured(NETWORK, 10_000, 50),))
    assert await told.next_map(tables) is not None
    found = await told.next_map(tables)  # these have no map: as a reload makes them
    assert found is not None
    assert found[1] is not None
    assert sent_to(found[0]) == "nyc"


async def test_what_is_forgotten_leaves_the_map(tables: Tables) -> None:
    told, clock = member()
    measured(told, 90.0)
    told.hear("nyc", (Measured(NETWORK, 10_000, 50),))
    found = await told.next_map(tables)
    assert found is not None
    clock.at += max(STALE_SECONDS, 3 * 3600)
    found = await told.next_map(found[0])
    assert found is not None
    assert found[1] is not None
    assert sent_to(found[0]) == "ams"
