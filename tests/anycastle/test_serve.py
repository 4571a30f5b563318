"""A member as a process: what it refuses before it begins, how it ends, and that nothing of it is left behind."""

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from anycastle.replicator import pki
from anycastle.replicator.ledger import Ledger
from examples.demo.collector import Collector
from tests.anycastle.members import ADDRESS, Done, Members, alive, anycastle, members, prepared, until
from tests.ports import free_port

PREFIX = "198.51.100.0/24"
MORE_GROUP = '\n[groups.more]\nroot = "more"\nhosts = ["m.example.com"]\napplication = "http://127.0.0.1:1"\n'
FAULT = """
import pathlib, sys
from anycastle import cli, talk
encode, sign = talk.encode, pathlib.Path(sys.argv.pop(1))
def broken(said):
    assert not sign.exists(), "an invariant is broken"
    return encode(said)
talk.encode = broken
sys.exit(cli.main())
"""
"""`anycastle` in which an invariant breaks as soon as a file is there."""

EACH = """
import os, signal, sys
import anycastle.serve, anycastle.check
from anycastle import cli
for folder in sys.argv[1:]:
    if not (child := os.fork()):
        log = os.open(f"{folder}/ams.log", os.O_WRONLY | os.O_CREAT)
        os.dup2(log, 1), os.dup2(log, 2)
        signal.alarm(30)
        sys.exit(cli.main(["serve", "--config", f"{folder}/a.toml", "--site", "ams"]))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""`anycastle serve` in one folder after the other; prints each exit status."""

NOBODY = """
import os, sys
import anycastle.serve, anycastle.check
from anycastle import cli
os.setgroups([]), os.setgid(65534), os.setuid(65534)
sys.exit(cli.main())
"""


# -- what it refuses ----------------------------------------------------------------------------------------------


Undo = contextlib.ExitStack


def taken(what: str, kind: socket.SocketKind) -> Callable[[Members, Undo], None]:
    def take(made: Members, undo: Undo) -> None:
        holder = undo.enter_context(socket.socket(type=kind))
        holder.bind((ADDRESS, getattr(made.sites["ams"], what)))
        if kind is socket.SOCK_STREAM:
            holder.listen()

    return take


def ledger(made: Members, member: str = "ams") -> Ledger:
    folder = made.folder / "state" / "ams"
    folder.mkdir(parents=True)
    return Ledger.open(folder / "ledger.sqlite", member=member, groups=("photos",))


def ledger_in_use(made: Members, undo: Undo) -> None:
    undo.callback(ledger(made).close)


def ledger_of_another(made: Members, _: Undo) -> None:
    ledger(made, "nyc").close()


def ledger_damaged(made: Members, _: Undo) -> None:
    ledger(made).close()
    file = made.folder / "state" / "ams" / "ledger.sqlite"
    file.write_bytes(b"x" * len(file.read_bytes()))


def bgp_folder_is_a_file(made: Members, _: Undo) -> None:
    ledger(made).close()
    (made.folder / "state" / "ams" / "bgp").write_text("x")
    made.change("\n[groups", f'bgp = {{ router_id = "{ADDRESS}", local_as = 1 }}\n[groups')


def no_place_for_commands(made: Members, undo: Undo) -> None:
    ledger(made).close()
    (made.folder / "state" / "ams" / "control.sock").mkdir()
    undo.callback((made.folder / "state" / "ams" / "control.sock").rmdir)


def symlinked_roots(made: Members, _: Undo) -> None:
    (made.folder / "more").symlink_to("content/ams")
    made.configure(made.text + MORE_GROUP)


def foreign_certificate(made: Members, _: Undo) -> None:
    shutil.rmtree(made.folder / "pki")
    pki.init(made.folder / "pki")
    pki.init(made.folder / "foreign")
    for file in pki.issue(made.folder / "foreign", "ams"):
        shutil.copy(file, made.folder / "pki")


def writes(file: str, text: str) -> Callable[[Members, Undo], None]:
    return lambda made, _: (made.folder / file).write_text(text) and None


def changes(old: str, new: str) -> Callable[[Members, Undo], None]:
    return lambda made, _: made.change(old, new)


def removes(path: str) -> Callable[[Members, Undo], None]:
    def remove(made: Members, _: Undo) -> None:
        file = made.folder / path
        shutil.rmtree(file) if file.is_dir() else file.unlink()

    return remove


DASHBOARD = '"ams"\ndashboard'
REFUSED: dict[str, tuple[Callable[[Members, Undo], None], str]] = {
    "unknown key": (changes("[geo]", "[geo]\nnetwork = 1"), "geo.network: unknown key; did you mean 'networks'?"),
    "overlapping roots": (
        lambda made, _: made.configure(made.text + MORE_GROUP.replace('"more"', '"content/ams/x"')),
        "groups.more.root: overlaps the root of group 'photos' (content/{site})",
    ),
    "overlapping through a symlink": (symlinked_roots, "overlaps the root of group photos"),
    "no root": (removes("content/ams"), "group photos: root content/ams is not there: expected a folder"),
    "root is a file": (changes('"content/{site}"', '"zone"'), "group photos: root zone is not a folder: expected one"),
    "link taken": (taken("link", socket.SOCK_STREAM), "expected to listen there for the members' links"),
    "edge taken": (taken("edge", socket.SOCK_STREAM), "expected to listen there for the edge"),
    "DNS UDP taken": (taken("dns", socket.SOCK_DGRAM), "(UDP): Address already in use"),
    "DNS TCP taken": (taken("dns", socket.SOCK_STREAM), "(TCP): Address already in use"),
    "dashboard taken": (taken("dashboard", socket.SOCK_STREAM), "expected to listen there for the dashboard"),
    "state below a file": (
        changes('"state/{site}"', '"zone/x"'),
        "state_dir zone/x cannot be made: zone is not a folder",
    ),
    "state nowhere": (changes('"state/{site}"', '"/proc/x"'), "/proc/x cannot be made: "),
    "BGP's folder is a file": (bgp_folder_is_a_file, "state/ams/bgp cannot be made: File exists"),
    "no place for commands": (no_place_for_commands, "cannot listen for commands on state/ams/control.sock"),
    "ledger in use": (ledger_in_use, "ledger state/ams/ledger.sqlite is in use by another process"),
    "ledger of another": (ledger_of_another, "nyc"),
    "ledger damaged": (ledger_damaged, "ledger state/ams/ledger.sqlite is damaged"),
    "no certificate": (removes("pki/ams.pem"), "pki/ams.pem is not there"),
    "foreign certificate": (foreign_certificate, "pki/ams.pem is not signed by pki/ca.pem"),
    "no zone": (removes("zone"), "zone: cannot read the zone file: No such file or directory"),
    "zone error": (writes("zone", "$TTL 60\n@ SOA ns x 1 2 3 4 5\n@ NS ns\nx A 1.2.3\n"), "zone:4: "),
    "networks error": (writes("networks.csv", "# ok\n10.0.0.0/8,lon\n"), "networks.csv:2: 'lon' is no site"),
    "no token": (
        changes("dashboard = { ", 'dashboard = { token_file = "t", '),
        "sites.ams.dashboard.token_file: t cannot be read (No such file or directory)",
    ),
    "no md5 key": (
        changes(
            "\n[groups",
            f'bgp = {{ router_id = "{ADDRESS}", local_as = 1, peers = [\n'
            '{ address = "192.0.2.1", as = 2, md5_file = "k" }] }\n[groups',
        ),
        "sites.ams.bgp.peers[0].md5_file: k cannot be read (No such file or directory)",
    ),
    "no such member": (changes('"ams"', '"lon"'), "cluster.members: 'lon' needs a table [sites.lon]"),
}
LINES = {"no such member": 2, "foreign certificate": 1}


@pytest.fixture(scope="module")
def refusals() -> Iterator[dict[str, tuple[Members, Done]]]:
    """All of them from one interpreter that was started once: each is a process of its own all the same."""
    with Undo() as undo:
        spoilt: dict[str, Members] = {}
        for name, (spoil, _) in REFUSED.items():
            made = spoilt[name] = members("ams")
            undo.callback(shutil.rmtree, made.folder, ignore_errors=True)
            spoil(made, undo)
        folders = [made.folder for made in spoilt.values()]
        ended = subprocess.run([sys.executable, "-c", EACH, *folders], check=True, timeout=90, stdout=subprocess.PIPE)
        statuses = map(int, ended.stdout.split())
        yield {
            name: (made, Done(status, "", made.log("ams").replace(f"{made.folder}/", "")))
            for (name, made), status in zip(spoilt.items(), statuses, strict=True)
        }


@pytest.mark.parametrize("name", REFUSED)
def test_a_start_that_cannot_be_is_refused_with_a_line_and_nothing_begun(
    refusals: dict[str, tuple[Members, Done]], name: str
) -> None:
    made, done = refusals[name]
    assert done.status == 2, done.err
    lines = done.err.splitlines()
    assert len(lines) == LINES.get(name, 1), done.err
    assert REFUSED[name][1] in lines[0]
    assert not (made.folder / "state" / "ams" / "control.sock").is_socket()
    content = made.folder / "content"
    assert not [path for path in content.rglob("*") if path.is_file()], "nothing landed"
    for port in ("link", "edge", "dns", "dashboard"):
        if not name.startswith((port, port.upper())):
            with socket.create_server((ADDRESS, getattr(made.sites["ams"], port))):
                pass


def test_an_unprivileged_user_is_told_what_it_may_not_write() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become nobody")
    with prepared("ams") as made:
        made.folder.chmod(0o755)
        (made.folder / "pki" / "ams.key").chmod(0o644)
        command = [sys.executable, "-c", NOBODY, "serve", "--config", made.config, "--site", "ams"]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
        assert done.returncode == 2, done.stderr
        assert done.stderr.replace(f"{made.folder}/", "").splitlines() == [
            "state_dir state/ams is not writable: expected a folder this user may write to",
            "group photos: root content/ams is not writable: expected a folder this user may read and write",
        ]


# -- how it lives and ends ----------------------------------------------------------------------------------------


@pytest.fixture
def router(tmp_path: Path) -> Iterator[tuple[Collector, str]]:
    """Something that speaks BGP and says what it hears; and what a site needs to reach it."""
    address, port = "127.0.99.254", free_port("127.0.99.254")
    collector = Collector(tmp_path / "router", address, port, asn=64499, peers={ADDRESS: 64501})
    try:
        yield (
            collector,
            f'bgp = {{ router_id = "{ADDRESS}", local_as = 64501, '
            f'peers = [{{ address = "{address}", port = {port}, as = 64499 }}] }}',
        )
    finally:
        collector.close()


ROUTES = f'\n[[routes]]\nprefix = "{PREFIX}"\ngroup = "photos"\nallow_private = true\nhold_down = "0s"\n'


@contextlib.contextmanager
def one(bgp: str = "") -> Iterator[Members]:
    """One member that is ready, its application too."""
    with prepared("ams", site_more=bgp, more=ROUTES if bgp else "") as made:
        made.start_applications()
        made.start("ams")
        made.ready()
        yield made


def announced(collector: Collector) -> bool:
    return (ADDRESS, PREFIX) in collector.table()


def test_sigterm_withdraws_and_ends_all_of_it_whoever_hangs_on(router: tuple[Collector, str]) -> None:
    collector, bgp = router
    with one(bgp) as made:
        site = made.sites["ams"]
        until(lambda: announced(collector), "the route is announced")
        children = made.children("ams")
        assert len(children) >= 3, "a DNS worker, ExaBGP and its bridge"
        with contextlib.ExitStack() as clients:
            for port, path in ((site.dashboard, "/api/v1/events"), (site.dashboard, "/api/v1/wait?path=photos:x")):
                client = clients.enter_context(socket.create_connection((ADDRESS, port)))
                client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            for port in (site.dashboard, site.edge, site.link, site.dns):  # connected, and silent
                clients.enter_context(socket.create_connection((ADDRESS, port)))
            time.sleep(0.2)  # so that the requests are under way; nothing is decided by it
            status, seconds = made.stop("ams")
        assert status == 0, made.log("ams")
        assert seconds < 6
        assert not [pid for pid in children if alive(pid)]
        assert not announced(collector)
        assert "Traceback" not in made.log("ams")
        assert not (made.folder / "state" / "ams" / "control.sock").exists()


def test_frozen_routes_outlive_health_and_a_restart(router: tuple[Collector, str]) -> None:
    collector, bgp = router
    with one(bgp) as made:
        until(lambda: announced(collector), "the route is announced")
        assert made.run("routes", "--dry-run").out == "nothing would change\n"
        assert (
            made.run("freeze", "--reason", "works on the backbone").out == "routes are frozen: works on the backbone\n"
        )
        made.stop("ams")
        until(lambda: not announced(collector), "an ordered end withdraws, frozen or not")
        made.stop_applications()
        made.start("ams")
        until(lambda: announced(collector), "as it was frozen, though nothing answers at the site")
        shown = made.run("routes").out
        assert "routes: frozen for" in shown
        assert "works on the backbone" in shown
        assert made.run("status", "--json").json["levels"]["bgp"] == {"routes_frozen_bool": 1, "routes_refused_bool": 0}
        assert "note: routes are frozen: works on the backbone" in made.run("status").out
        until(lambda: "held back: change" in made.run("routes", "--dry-run").out, "what would be is shown")
        assert made.run("thaw").status == 0
        until(lambda: "degraded" in made.run("routes").out, "decisions count again, and it is the last site")
        assert "frozen" not in made.run("routes").out
        assert made.run("routes", "--accept").out == "nothing is refused\n"


def test_sigkill_leaves_no_process_and_no_route(router: tuple[Collector, str]) -> None:
    collector, bgp = router
    with one(bgp) as made:
        until(lambda: announced(collector), "the route is announced")
        children = made.children("ams")
        made.stop("ams", signal.SIGKILL)
        until(lambda: not [pid for pid in children if alive(pid)], "nothing of it lives", 5)
        until(lambda: not announced(collector), "the route is gone", 5)


def test_a_broken_invariant_withdraws_and_ends_with_a_traceback(router: tuple[Collector, str]) -> None:
    collector, bgp = router
    with prepared("ams", site_more=bgp, more=ROUTES) as made:
        made.start_applications()
        sign = made.folder / "fault"
        with (made.folder / "ams.log").open("wb") as log:
            made.processes["ams"] = subprocess.Popen(
                [sys.executable, "-c", FAULT, sign, "serve", "--config", made.config, "--site", "ams"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        made.ready()
        until(lambda: announced(collector), "the route is announced")
        children = made.children("ams")
        sign.touch()
        assert made.processes["ams"].wait(15) == 1
        assert "AssertionError: an invariant is broken" in made.log("ams")
        assert not [pid for pid in children if alive(pid)]
        assert not announced(collector)


def test_sigterm_during_the_start_ends_it_at_once_and_status_says_what_it_waits_for() -> None:
    with prepared("ams") as made, socket.create_server((ADDRESS, made.sites["ams"].application)):
        made.change(f'tcp = "{ADDRESS}:', f'http = "http://{ADDRESS}:')  # connects, and nobody answers
        made.change('timeout = "200ms"', 'timeout = "30s"')
        made.start("ams")
        done = until(lambda: _answered(made), "it answers commands")
        assert done.status == 2
        assert done.err == "anycastle: ams is starting: the first round of probes is not over\n"
        assert made.run("explain", "www.example.com").status == 2
        for path in ("/metrics", "/api/v1/status", "/api/v1/where?path=photos:x"):
            assert _get(made.sites["ams"].dashboard, path) == 503
        with socket.create_connection((ADDRESS, made.sites["ams"].dashboard)) as events:
            events.sendall(b"GET /api/v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"HTTP/1.1 " in events.recv(4096)
        status, seconds = made.stop("ams")
        assert status == 0, made.log("ams")
        assert seconds < 4
        assert "Traceback" not in made.log("ams")


def _get(port: int, path: str) -> int:
    connection = http.client.HTTPConnection(ADDRESS, port, timeout=10)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()


def _answered(made: Members) -> Done | None:
    done = made.run("status")
    return None if "is not running" in done.err else done


def test_a_state_dir_may_have_a_longer_path_than_a_socket() -> None:
    with prepared("ams") as made:
        made.change("state/{site}", "/".join(("s" * 100, "t" * 100, "{site}")))
        made.start_applications()
        made.start("ams")
        made.ready()
        assert made.run("status").status == 0
        assert anycastle("status", "--config", made.config).status == 0
        assert made.stop("ams")[0] == 0
        assert made.run("status").err.endswith(": it is not running\n")


def test_sighup_reloads_and_a_broken_zone_keeps_what_was() -> None:
    with one() as made:
        zone = made.folder / "zone"
        assert made.lookup("www.example.com") == ["192.0.2.80"]
        zone.write_text(zone.read_text().replace("192.0.2.80", "192.0.2.81"))
        made.processes["ams"].send_signal(signal.SIGHUP)
        until(lambda: made.lookup("www.example.com") == ["192.0.2.81"], "the new zone is served", 5)
        zone.write_text(zone.read_text() + "bad A 1.2.3\n")
        made.processes["ams"].send_signal(signal.SIGHUP)
        until(lambda: "event=reload-refused" in made.log("ams"), "it says so", 5)
        assert f"{zone}:6: " in made.log("ams")
        assert made.lookup("www.example.com") == ["192.0.2.81"]
        with urllib.request.urlopen(f"http://{ADDRESS}:{made.sites['ams'].dashboard}/metrics", timeout=10) as scraped:
            assert "\nanycastle_dns_reload_refused_bool 1.0\n" in scraped.read().decode()
        zone.write_text(zone.read_text().replace("bad A 1.2.3\n", ""))
        first = made.processes["ams"]
        assert made.start("ams").wait(30) == 2, "a second one of the same member"
        made.processes["ams"] = first
        assert "is in use by another process" in made.log("ams")
        assert made.run("status").status == 0, "and the first goes on"


def test_a_witness_votes_and_shows_what_it_knows() -> None:
    link = free_port(ADDRESS)
    witness = f'[witnesses.wit]\nstate_dir = "state/wit"\nlink = "{ADDRESS}:{link}"\nlink_listen = "{ADDRESS}:{link}"\n'
    with prepared("ams", more=witness) as made:
        made.change('members = ["ams"]', 'members = ["ams", "wit"]')
        pki.issue(made.folder / "pki", "wit")
        made.start_applications()
        for member in ("ams", "wit"):
            made.start(member)
        made.ready("ams", "wit")
        made.settled()
        assert made.run("lag", site="wit").status == 0
        done = made.run("where", "photos:x", site="wit")
        assert (done.status, done.err) == (2, "anycastle: no group 'photos' here; groups: none\n")
        assert made.run("drain", "ams", site="wit").status == 0, "an operator may speak there too"
        until(lambda: "is drained" in made.log("ams"), "ams hears it", 5)
        assert made.stop("wit")[0] == 0
        assert "Traceback" not in made.log("wit")


def test_an_exabgp_that_hangs_does_not_hold_up_the_end(router: tuple[Collector, str]) -> None:
    collector, bgp = router
    with one(bgp) as made:
        until(lambda: announced(collector), "the route is announced")
        children = made.children("ams")
        for pid in children:
            if b"exabgp" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGSTOP)
        status, seconds = made.stop("ams")
        assert status == 0, made.log("ams")
        assert seconds < 14
        assert not [pid for pid in children if alive(pid)]
