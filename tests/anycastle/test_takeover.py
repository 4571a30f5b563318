"""A restart under load: another process takes over the sockets, and no query, connection or request is lost."""

import http.client
import itertools
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from anycastle import takeover
from anycastle.takeover import VARIABLE, Inheritance, Predecessor, Successor, TakeoverError
from examples.demo.collector import Collector
from tests.anycastle.members import ADDRESS, Adopted, Members, alive, prepared, running, until
from tests.anycastle.test_notify import after_watchdogs, lines, listening
from tests.anycastle.test_serve import announced, one, router
from tests.asking import ANSWER_SECONDS_MAX, Asking, asking

HOST, PATH, BODY = "alice.photos.example.com", "/a.txt", b"the same before and after"
KINDS = 6
__all__ = ["router"]


@contextmanager
def loaded(made: Members) -> Iterator[Asking]:
    """Users ask for everything that ams serves, before, while and after what is done meanwhile."""
    (made.root("ams") / "alice").mkdir()
    (made.root("ams") / "alice" / "a.txt").write_bytes(BODY)
    assert made.run("wait", "photos:alice/a.txt").status == 0
    site = made.sites["ams"]
    with asking() as asked:
        asked.ask_dns((ADDRESS, site.dns), "www.example.com")
        asked.ask_http((ADDRESS, site.edge), HOST, PATH, BODY)
        asked.begin("upload", uploading((ADDRESS, site.edge)), 1)
        until(lambda: all_more(asked, Counter()), "everything is answered")
        yield asked
        so_far = Counter(asked.answered)
        until(lambda: all_more(asked, so_far), "everything is answered again")


def all_more(asked: Asking, so_far: Counter[str]) -> bool:
    enough = all(count >= so_far[kind] + 10 for kind, count in asked.answered.items())
    return bool(asked.lost) or (enough and len(asked.answered) >= KINDS)


def uploading(edge: tuple[str, int]) -> Callable[[], None]:
    """A success at the edge is a file that is there."""
    numbers = itertools.count()

    def once() -> None:
        with closing(http.client.HTTPConnection(*edge, timeout=ANSWER_SECONDS_MAX)) as connection:
            connection.request("POST", f"/up{next(numbers)}", b"a photo", {"Host": HOST})
            response = connection.getresponse()
            if response.status != 201:
                raise OSError(f"{response.status} {response.read()!r}")

    return once


def asking_the_gate(path: str) -> Callable[[], None]:
    """As a web server does; on a busy machine a lease may be late, and then another site is named."""

    def once() -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(ANSWER_SECONDS_MAX)
            connection.connect(path)
            connection.sendall(f"GET {PATH} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
            if not (answer := connection.recv(1000)).startswith((b"HTTP/1.1 204 ", b"HTTP/1.1 403 ")):
                raise OSError(f"{answer!r}")

    return once


def test_restarts_under_load_lose_nothing() -> None:
    with running("ams", "nyc", "sgp", verdict=True) as made, loaded(made) as asked:
        asked.begin("verdict", asking_the_gate(str(made.folder / "ams.verdict")), 1)
        for _ in range(2):
            children = made.children("ams")
            done = made.restart("ams")
            assert done.status == 0, done.err
            assert not [pid for pid in children - {made.processes["ams"].pid} if alive(pid)]
            assert "Traceback" not in made.log("ams")
            print(done.out, asked.answered, asked.slowest_seconds, asked.asked_again)  # what docs/operations.md tells
        made.settled()
    assert asked.lost == []


def test_what_is_wrong_with_the_new_configuration_is_said_and_nothing_happens() -> None:
    with running("ams", "nyc") as made, loaded(made) as asked:
        first, text = made.processes["ams"], made.text
        made.configure(text.replace("[geo]", "[geo]\nnetwork = 1"))
        done = made.run("restart")
        assert (done.status, done.out) == (2, "")
        assert "geo.network: unknown key" in done.err, "the command reads the file, too"
        made.configure(text.replace('"content/{site}"', '"nowhere/{site}"'))
        done = made.run("restart")
        made.configure(text)
        why = "the new process cannot start, and this one serves on: "
        assert done.status == 2
        assert done.err.startswith(f"anycastle: {why}group photos: root ")
        (made.folder / "zone").write_text("broken\n")
        done = made.run("restart")
        assert f"{why}{made.folder}/zone:" in done.err
        assert "note: the last restart was refused: " in made.run("status").out
        assert first.poll() is None
        assert made.run("status", "--json").json["process"] == first.pid
    assert asked.lost == []


def test_a_new_process_that_fails_in_the_end_gives_everything_back() -> None:
    with running("ams", "nyc") as made, loaded(made) as asked:
        first, site = made.processes["ams"], made.sites["ams"]
        taken = socket.create_server((ADDRESS, 0))
        made.change(
            f'dashboard = {{ listen = "{ADDRESS}:{site.dashboard}"',
            f'dashboard = {{ listen = "{ADDRESS}:{taken.getsockname()[1]}"',
        )
        done = made.run("restart", site="ams")
        taken.close()
        assert done.status == 2
        assert "the last restart was refused: " in done.err
        assert "Address already in use" in done.err
        assert first.poll() is None
        assert made.run("status", "--json").json["process"] == first.pid
        until(lambda: made.log("ams").count("event=ready") == 2, "it has begun anew")
        assert made.restart("ams").status == 0, "the second try, when the address is free"
    assert asked.lost == []


def test_who_was_before_dies_and_the_new_process_serves_what_waits_in_its_sockets() -> None:
    with prepared("ams") as made, (made.folder / "ams.log").open("ab") as log:
        made.start_applications()
        site = made.sites["ams"]
        words = [sys.executable, "-c", BEFORE, str(site.edge), str(made.config)]
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=log) as before:
            assert before.stdout is not None
            made.processes["ams"] = Adopted(int(before.stdout.readline()))
            with socket.create_connection((ADDRESS, site.edge), 30) as waits:
                waits.sendall(b"GET /none HTTP/1.1\r\nHost: a.photos.example.com\r\nConnection: close\r\n\r\n")
                assert before.stdout.readline() == b"prepared\n"
                before.kill()
                assert waits.recv(100).startswith(b"HTTP/1.1 404 ")
        made.ready()
        assert made.lookup("www.example.com") == ["192.0.2.80"]


BEFORE = f"""
import os, socket, subprocess, sys, time
edge = socket.create_server(("{ADDRESS}", int(sys.argv[1])))
ours, theirs = socket.socketpair()
numbers = (theirs.fileno(), edge.fileno())
os.environ["{VARIABLE}"] = ",".join(map(str, numbers))
words = [sys.executable, "-m", "anycastle.cli", "serve", "--config", sys.argv[2], "--site", "ams"]
print(subprocess.Popen(words, pass_fds=numbers).pid, flush=True)
print(ours.recv(100).decode(), end="", flush=True)
time.sleep(60)
"""
"""A process before, as far as its sockets and its first words go."""


def test_routes_are_withdrawn_and_come_back(router: tuple[Collector, str]) -> None:
    collector, bgp = router
    with one(bgp) as made:
        until(lambda: announced(collector), "the route is announced")
        assert made.restart("ams").status == 0
        until(lambda: announced(collector), "it is announced again, by an ExaBGP of the new process")
        assert made.stop("ams")[0] == 0
        until(lambda: not announced(collector), "and withdrawn at the end", 5)
        assert "Traceback" not in made.log("ams")


def test_systemd_hears_who_is_the_service(tmp_path: Path) -> None:
    with listening(tmp_path / "notify") as heard, prepared("ams") as made:
        made.environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "6000000"}
        made.start_applications()
        made.start("ams")
        assert lines(heard)["READY"] == "1"
        assert made.restart("ams").status == 0
        process = made.processes["ams"].pid
        assert after_watchdogs(heard)["MAINPID"] == str(process)
        assert lines(heard) == {"READY": "1", "STATUS": "member ams serves"}
        assert lines(heard) == {"WATCHDOG": "1"}
        made.processes["ams"].terminate()
        assert after_watchdogs(heard)["STOPPING"] == "1"
        made.processes["ams"].wait()


def test_one_that_hangs_can_be_killed_and_the_next_one_starts_as_ever() -> None:
    with prepared("ams") as made:
        made.start_applications()
        made.start("ams")
        made.ready()
        made.processes["ams"].send_signal(signal.SIGSTOP)
        made.stop("ams", signal.SIGKILL)
        made.start("ams")
        made.settled()


@pytest.fixture
def channel(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[socket.socket, Predecessor]]:
    ours, theirs = socket.socketpair()
    monkeypatch.setattr(takeover, "GIVE_WAY_SECONDS_MAX", 0.1)
    found = Predecessor.from_environment(environment := {VARIABLE: str(theirs.detach()), "PATH": "x"})
    assert environment == {"PATH": "x"}
    assert found is not None
    yield ours, found
    ours.close()


async def test_who_does_not_give_way_is_not_waited_for_for_ever(channel: tuple[socket.socket, Predecessor]) -> None:
    with pytest.raises(TakeoverError, match="the process before did not give way within 0 s"):
        await channel[1].gives_way()
    assert channel[0].recv(100) == b"prepared\n"
    channel[0].close()
    await channel[1].goes()


DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"


async def test_a_new_process_that_hangs_is_killed_and_the_sockets_are_still_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(takeover, "START_SECONDS_MAX", 0.5)
    monkeypatch.setattr(takeover, "KILL_SECONDS", 0.5)
    monkeypatch.setattr(sys, "orig_argv", [sys.executable, "-c", DEAF])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        successor = Successor.start((listener,), {})
        assert await successor.takes_over() == "it said nothing within 0 s"
        assert not alive(successor.process)
        (kept,) = successor.inheritance().take(socket.SOCK_STREAM, address)
    with kept, socket.create_connection(address, 5):
        successor.release()


async def test_a_new_process_that_ends_without_a_word_is_said_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "orig_argv", [sys.executable, "-c", "raise SystemExit(3)", "--rebuild-ledger"])
    successor = Successor.start((), {})
    with pytest.raises(TakeoverError, match="it ended with status 3; what it said is in the log"):
        await successor.prepared()
    successor.release()
    monkeypatch.setattr(sys, "orig_argv", ["/nowhere/anycastle"])
    with pytest.raises(TakeoverError, match="cannot start the next process: No such file"):
        Successor.start((), {})


def test_descriptors_that_are_none_are_refused() -> None:
    for text in ("x", "1000000", "-1"):
        with pytest.raises(TakeoverError, match="expected descriptors of sockets"):
            Predecessor.from_environment({VARIABLE: text})
    assert Predecessor.from_environment({}) is None


def test_an_inheritance_is_found_by_address_and_the_rest_is_closed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("::1", 0), family=socket.AF_INET6) as two:
        inheritance = Inheritance((one, two))
        port = two.getsockname()[1]
        assert inheritance.has(socket.SOCK_STREAM, ("0:0:0:0:0:0:0:1", port))
        assert inheritance.take(socket.SOCK_DGRAM, ("::1", port)) == ()
        assert inheritance.take(socket.SOCK_STREAM, ("::1", port)) == (two,)
        assert inheritance.take(socket.SOCK_STREAM, ("::1", port)) == ()
        inheritance.close()
        assert (one.fileno() == -1, two.fileno() == -1) == (True, False)
