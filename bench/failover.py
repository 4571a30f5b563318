"""`script/bench failover [--quick] [--json]`: from the end of an application, a site or its network to users elsewhere.

Law: what moved is seen from outside: by a user's queries and requests, and in the router's table; each from its own
host. The same failures hit gdnsd's and ExaBGP's own ways of noticing them, with their defaults and their fastest
settings. What a peer does not do at all is a row without a value.
"""

import argparse
import contextlib
import http.client
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import dns.exception
import dns.message
import dns.query
from pyroute2.netns import setns

from bench.failover_sites import (
    ADDRESSES,
    DEFAULT,
    FAST,
    HOST,
    ORIGIN_PORT,
    OWN_AS,
    PREFIX,
    ROUTER_AS,
    SITES,
    USER,
    Hosts,
    Profile,
    hosts,
    session,
)
from bench.healthcheck import healthcheck
from bench.packages import find, provide
from bench.process import BenchError
from bench.report import OURS, Row, as_json, machine, median_rows, table

NEEDS = (("bird", "bird2"), ("gdnsd", "gdnsd"), ("curl", "curl"))
LOST = SITES[0]
POLL_SECONDS = 0.005
GIVE_UP_SECONDS = 240.0
ANSWER_SECONDS = 0.5
"""A user who hears nothing asks again."""
GDNSD, HEALTHCHECK = "gdnsd", "exabgp healthcheck"
CASES = ("application killed", "site killed", "network cut")


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of it."""

    rounds: int
    profiles: tuple[Profile, ...]
    peers_default: bool
    """Whether to wait for the peers' defaults too: minutes."""


FULL = Plan(rounds=5, profiles=(FAST, DEFAULT), peers_default=True)
QUICK = Plan(rounds=1, profiles=(FAST,), peers_default=False)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="script/bench failover", description="How soon users are elsewhere.")
    parser.add_argument("--quick", action="store_true", help="one round of the fast settings only")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    given = parser.parse_args(arguments)
    provide(NEEDS)
    if os.geteuid() or find("bird") is None:
        print("bench: needs root (network namespaces) and bird2", file=sys.stderr)
        return 2
    rows = []
    for row in measure(QUICK if given.quick else FULL):
        if row.value is not None:
            print(f"{row.system}: {row.case}: {row.metric} {row.value:.2f} s", file=sys.stderr)
        rows.append(row)
    print(as_json("failover", machine(), rows) if given.json else f"{machine()}\n\n{table(rows)}")
    return 0


def measure(plan: Plan) -> Iterator[Row]:
    for profile in plan.profiles:
        yield from _ours(profile, plan.rounds)
    settings = [("fastest", True), *([("defaults", False)] if plan.peers_default else [])]
    for name, fastest in settings:
        if find("gdnsd") is not None:
            yield from _gdnsd(name, plan.rounds if fastest else 1, fastest=fastest)
        yield from _healthcheck(name, plan.rounds if fastest else 1, fastest=fastest)


# ---- a user ----------------------------------------------------------------------------------------------------------


class User:
    """Sees the world from a host of its own: threads there ask until they are content."""

    def __init__(self, made: Hosts) -> None:
        self._threads = ThreadPoolExecutor(8, "user", lambda: setns(made.net.namespace(USER)))

    def close(self) -> None:
        self._threads.shutdown()

    def waits(
        self, wishes: dict[str, Callable[[], bool]], began: float, *, seconds_max: float = GIVE_UP_SECONDS
    ) -> dict[str, float | None]:
        """Seconds until each wish comes true; None where that was too long."""
        waiting = {name: self._threads.submit(_wait, wish, began, seconds_max) for name, wish in wishes.items()}
        return {name: done.result() for name, done in waiting.items()}

    def begins(self, made: Hosts, wish: Callable[[], bool]) -> None:
        """All is as it was before a failure. Raises BenchError."""
        for _ in range(int(GIVE_UP_SECONDS)):
            made.check()
            if self.waits({"": wish}, time.monotonic(), seconds_max=1.0)[""] is not None:
                return
        raise BenchError(f"nothing is as it should be within {GIVE_UP_SECONDS:g} s")


def _wait(wish: Callable[[], bool], began: float, seconds_max: float) -> float | None:
    while time.monotonic() - began < seconds_max:
        if wish():
            return time.monotonic() - began
        time.sleep(POLL_SECONDS)
    return None


def answered_without(server: str, name: str, lost: str, port: int = 53) -> bool:
    """A nameserver names other sites, and not the lost one."""
    query = dns.message.make_query(name, "A")
    try:
        reply = dns.query.udp(query, ADDRESSES[server], port=port, timeout=ANSWER_SECONDS)
    except (dns.exception.Timeout, OSError):
        return False
    found = {str(record) for rrset in reply.answer for record in rrset}
    return bool(found) and ADDRESSES[lost] not in found


def request(site: str, method: str, path: str, body: bytes | None = None) -> int:
    """The status; 0 for none."""
    connection = http.client.HTTPConnection(ADDRESSES[site], 80, timeout=ANSWER_SECONDS)
    with contextlib.closing(connection):
        try:
            connection.request(method, path, body, {"Host": HOST})
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return 0


# ---- ours ------------------------------------------------------------------------------------------------------------


def _ours(profile: Profile, rounds: int) -> Iterator[Row]:
    with _world() as made:
        made.configure(profile)
        made.start_router("\n".join(session(site, OWN_AS + number) for number, site in enumerate(SITES, 1)))
        for site in SITES:
            made.start_application(site)
            made.start_member(site)
        user = User(made)
        try:
            found = []
            for _ in range(rounds):
                for case in CASES:
                    made.wait_until_well()
                    user.begins(made, lambda: request("nyc", "POST", "/a.jpg", b"photo") == 201)
                    found.append(_round(made, user, case, profile.name))
            yield from median_rows(found)
        finally:
            user.close()


def _round(made: Hosts, user: User, case: str, name: str) -> list[Row]:
    wishes: dict[str, Callable[[], bool]] = {
        "DNS at the others": lambda: all(answered_without(site, HOST, LOST) for site in SITES[1:]),
        "the router": lambda: not made.has_route(LOST),
        "a write elsewhere": lambda: request("nyc", "POST", "/a.jpg", b"photo") == 201,
    }
    if case == CASES[0]:
        wishes["a read at its own edge"] = lambda: request(LOST, "GET", "/a.jpg") == 200
    began = time.monotonic()
    _fail(made, case)
    took = user.waits(wishes, began)
    _heal(made, case)
    return [Row(OURS, f"{case}, {name}", what, "s", seconds) for what, seconds in took.items()]


def _fail(made: Hosts, case: str) -> None:
    match case:
        case "application killed":
            made.kill(f"application-{LOST}")
        case "site killed":
            made.kill(f"member-{LOST}", f"application-{LOST}")
        case _:
            made.cable(LOST, "down")


def _heal(made: Hosts, case: str) -> None:
    match case:
        case "application killed":
            made.start_application(LOST)
        case "site killed":
            made.start_application(LOST)
            made.start_member(LOST)
        case _:
            made.cable(LOST, "up")


@contextlib.contextmanager
def _world() -> Iterator[Hosts]:
    with tempfile.TemporaryDirectory(prefix="ac-") as text:
        folder = Path(text)
        folder.chmod(0o755)
        with hosts(folder) as made:
            yield made


# ---- the peers -------------------------------------------------------------------------------------------------------

_GDNSD = """\
options => { listen => ADDRESS:53, udp_threads => 1, tcp_threads => 1
  run_dir => FOLDER/run, state_dir => FOLDER/state }
service_types => { web => { plugin => http_status, url_path => /health, port => PORT, ok_codes => [200]SPEED } }
plugins => { multifo => { photos => { service_types => web, up_thresh => 0.01
  ams => 192.0.2.1, nyc => 192.0.2.2, sgp => 192.0.2.3 } } }
"""
_GDNSD_FASTEST = ", interval => 2, timeout => 1, up_thresh => 1, ok_thresh => 1, down_thresh => 1"


def _gdnsd(name: str, rounds: int, *, fastest: bool) -> Iterator[Row]:
    with _world() as made:
        folder = made.folder / "gdnsd"
        (folder / "zones").mkdir(parents=True)
        words = {"ADDRESS": ADDRESSES["nyc"], "FOLDER": str(folder), "PORT": str(ORIGIN_PORT)}
        text = _GDNSD.replace("SPEED", _GDNSD_FASTEST if fastest else "")
        for word, value in words.items():
            text = text.replace(word, value)
        (folder / "config").write_text(text)
        (folder / "zones/example.com").write_text(
            "@ SOA ns hostmaster 1 3600 600 86400 60\n@ NS ns\nns A 192.0.2.2\nwww 1 DYNA multifo!photos\n"
        )
        for site in SITES:
            made.start_application(site)
        made.start("gdnsd", "nyc", str(find("gdnsd")), "-c", str(folder), "start")
        user = User(made)
        try:
            found = []
            for _ in range(rounds):
                for case in (CASES[0], CASES[2]):
                    user.begins(made, lambda: _names_all("www.example.com"))
                    began = time.monotonic()
                    _fail(made, case)
                    wish = {"DNS at the others": lambda: answered_without("nyc", "www.example.com", LOST)}
                    took = user.waits(wish, began)
                    _heal(made, case)
                    found.append([Row(GDNSD, f"{case}, {name}", what, "s", seconds) for what, seconds in took.items()])
            yield from median_rows(found)
        finally:
            user.close()


def _names_all(name: str) -> bool:
    try:
        reply = dns.query.udp(dns.message.make_query(name, "A"), ADDRESSES["nyc"], timeout=ANSWER_SECONDS)
    except (dns.exception.Timeout, OSError):
        return False
    return {str(record) for rrset in reply.answer for record in rrset} >= {ADDRESSES[site] for site in SITES}


def _healthcheck(name: str, rounds: int, *, fastest: bool) -> Iterator[Row]:
    """At the site that is lost, as its manual says."""
    speed = ("interval = 0.1", "fast-interval = 0.1", "rise = 1", "fall = 1", "timeout = 1") if fastest else ()
    hold = 3 if fastest else 180
    with _world() as made:
        route = PREFIX.replace(".0/24", ".1/32")
        command = healthcheck(
            made.folder,
            check=f"curl -sf http://{ADDRESSES[LOST]}:{ORIGIN_PORT}/health",
            route=route,
            own=(ADDRESSES[LOST], OWN_AS + 1),
            router=(ADDRESSES["router"], ROUTER_AS),
            hold_seconds=hold,
            options=speed,
        )
        made.start_router(session(LOST, OWN_AS + 1))
        made.start_application(LOST)
        made.start(f"member-{LOST}", LOST, *command)
        user = User(made)
        try:
            found = []
            for _ in range(rounds):
                for case in CASES:
                    user.begins(made, lambda: made.has_route(LOST, route))
                    began = time.monotonic()
                    _fail(made, case)
                    took = user.waits({"the router": lambda: not made.has_route(LOST, route)}, began)
                    if case == CASES[1]:
                        made.start_application(LOST)
                        made.start(f"member-{LOST}", LOST, *command)
                    else:
                        _heal(made, case)
                    found.append([Row(HEALTHCHECK, f"{case}, {name}", w, "s", seconds) for w, seconds in took.items()])
            yield from median_rows(found)
        finally:
            user.close()


if __name__ == "__main__":
    sys.exit(main())
