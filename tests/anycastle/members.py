"""Real members for tests: a configuration for N of them on an address of this process, certificates, applications.

Law: everything started here is ended here by its process id, and everything is below one short folder.
"""

import contextlib
import dataclasses
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dns.message
import dns.query

from anycastle import cli
from anycastle.replicator import pki
from examples.demo.upload_app import Handler
from tests.ports import free_port

_PID = os.getpid()
ADDRESS = f"127.{64 + (_PID >> 16) % 128}.{_PID >> 8 & 255}.{(_PID & 255) or 255}"
"""Nobody else's, so that no outgoing connection and no other test takes a port between its choice and its use."""
READY_SECONDS = 40.0
ZONE = "$TTL 60\n@ SOA ns hostmaster 1 3600 600 86400 60\n@ NS ns\nns A 192.0.2.53\nwww A 192.0.2.80\n"


def until(true: Callable[[], Any], what: str, seconds: float = READY_SECONDS) -> Any:
    """Ask until the answer is true; the answer."""
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline, f"{what}, within {seconds:g} s"
        time.sleep(0.03)
    return found


@dataclasses.dataclass(frozen=True)
class Done:
    """What a command left."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.out)
        return answer


def anycastle(*words: str | Path) -> Done:
    """One command, in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = cli.main([str(word) for word in words])
        except SystemExit as end:  # what argparse refuses
            status = int(end.code or 0)
    return Done(status, out.getvalue(), err.getvalue())


class Adopted:
    """A process that took over from one that was started here: as much of a Popen as is needed."""

    returncode = 0
    """Nobody tells us: it is not our child."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def poll(self) -> int | None:
        return None if alive(self.pid) else self.returncode

    def wait(self, timeout: float = 30.0) -> int:
        deadline = time.monotonic() + timeout
        while alive(self.pid):
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("a member", timeout)
            time.sleep(0.02)
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


@dataclasses.dataclass
class Site:
    """Where one member is."""

    name: str
    link: int
    dns: int
    edge: int
    application: int
    dashboard: int


@dataclasses.dataclass
class Members:
    """A folder with everything for some members, and those that run."""

    folder: Path
    sites: dict[str, Site]
    text: str
    processes: dict[str, subprocess.Popen[bytes] | Adopted] = dataclasses.field(default_factory=dict)
    applications: list[ThreadingHTTPServer] = dataclasses.field(default_factory=list)
    before: tuple[str, ...] = ()
    """Words that the command line of each member begins with, such as those of setpriv."""
    environment: dict[str, str] = dataclasses.field(default_factory=dict)
    """Beside that of the test."""

    @property
    def config(self) -> Path:
        return self.folder / "a.toml"

    def configure(self, text: str) -> None:
        self.text = text
        self.config.write_text(text)

    def change(self, old: str, new: str) -> None:
        """Replace something in the configuration."""
        assert old in self.text, old
        self.configure(self.text.replace(old, new))

    # -- running them ---------------------------------------------------------------------------------------------

    def start(self, site: str) -> subprocess.Popen[bytes]:
        log = (self.folder / f"{site}.log").open("ab")
        command = [
            *self.before,
            sys.executable,
            "-m",
            "anycastle.cli",
            "serve",
            "--config",
            self.config,
            "--site",
            site,
        ]
        environment = os.environ | self.environment
        started = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
        self.processes[site] = started
        log.close()
        return started

    def restart(self, site: str) -> Done:
        """Another process takes over; it is the site's from then on, if it does."""
        done = self.run("restart", "--json", site=site)
        if done.status == 0:
            assert done.json["from"] == self.processes[site].pid
            assert self.processes[site].wait(20) == 0, self.log(site)
            self.processes[site] = Adopted(done.json["to"])
        return done

    def serve(self, site: str) -> Done:
        """Start a member that is expected to refuse."""
        process = self.start(site)
        status = process.wait(60)
        log = self.log(site)
        (self.folder / f"{site}.log").unlink()
        return Done(status, "", log)

    def log(self, site: str) -> str:
        return (self.folder / f"{site}.log").read_text("utf-8", "replace")

    def ready(self, *sites: str) -> None:
        for site in sites or tuple(self.sites):
            until(lambda site=site: self._is_ready(site), f"{site} is ready: {self.log(site)}")

    def _is_ready(self, site: str) -> bool:
        process = self.processes[site]
        assert process.poll() is None, f"{site} ended: {self.log(site)}"
        return "event=ready" in self.log(site)

    def settled(self) -> None:
        """Every member holds every site to be eligible."""

        def all_eligible() -> bool:
            for site in self.processes:
                found = self.run("sites", "--json", site=site)
                if found.status:
                    return False
                groups = [group for each in found.json["sites"] for group in each["groups"].values()]
                if not groups or any(group["withheld"] for group in groups):
                    return False
            return True

        until(all_eligible, "all sites are eligible")

    def stop(self, site: str, number: signal.Signals = signal.SIGTERM) -> tuple[int, float]:
        """Its exit status, and the seconds it took."""
        process, began = self.processes[site], time.monotonic()
        process.send_signal(number)
        status = process.wait(30)
        del self.processes[site]
        return status, time.monotonic() - began

    # -- asking them ----------------------------------------------------------------------------------------------

    def run(self, *words: str, site: str = "") -> Done:
        return anycastle(*words, "--config", self.config, "--site", site or next(iter(self.sites)))

    def lookup(self, name: str, site: str = "", kind: str = "A", address: str = ADDRESS) -> list[str]:
        """The texts of the answer's records."""
        port = self.sites[site or next(iter(self.sites))].dns
        reply = dns.query.udp(dns.message.make_query(name, kind), address, port=port, timeout=5)
        return sorted(str(record) for rrset in reply.answer for record in rrset)

    def root(self, site: str) -> Path:
        return self.folder / "content" / site

    def children(self, site: str) -> set[int]:
        """The process ids of everything a member started, at this moment."""
        return descendants(self.processes[site].pid)

    def start_applications(self) -> None:
        for site in self.sites.values():
            handler = type("Application", (Handler,), {"root": self.root(site.name)})
            server = ThreadingHTTPServer((ADDRESS, site.application), handler)
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}).start()
            self.applications.append(server)

    def stop_applications(self) -> None:
        for server in self.applications:
            server.shutdown()
            server.server_close()
        self.applications.clear()

    def close(self) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                process.terminate()
        for process in self.processes.values():
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.stop_applications()


def descendants(pid: int) -> set[int]:
    """Children of children included."""
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, task.read_text().split()):
                found |= {child} | descendants(child)
    return found


def alive(pid: int) -> bool:
    """Runs, and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def members(*names: str, more: str = "", site_more: str = "", face: bool = False) -> Members:
    """A configuration and everything it names; nothing runs yet. `close` and `remove` are the caller's."""
    folder = Path(tempfile.mkdtemp(prefix="ac-"))
    sites = {name: Site(name, *(free_port(ADDRESS) for _ in range(5))) for name in names}
    (folder / "zone").write_text(ZONE)
    (folder / "networks.csv").write_text(f"10.0.0.0/8,{' '.join(names)}\n")
    pki.init(folder / "pki")
    for name in names:
        pki.issue(folder / "pki", name)
        (folder / "content" / name).mkdir(parents=True)
    made = Members(folder, sites, "")
    made.configure("\n".join([_top(names), *(_site(site, site_more) for site in sites.values()), _rest(more)]))
    if face:  # all that an edge can listen on
        for site in sites.values():
            listen = f'edge = {{ listen = ["{ADDRESS}:{site.edge}"]'
            tls = f'tls_listen = ["{ADDRESS}:{free_port(ADDRESS)}"]'
            made.change(listen, f'{listen}, {tls}, verdict = {{ socket = "{folder}/{site.name}.verdict" }}')
    return made


def _top(names: tuple[str, ...]) -> str:
    listed = ", ".join(f'"{name}"' for name in names)
    return f'[cluster]\nname = "test"\nmembers = [{listed}]\nlease = {{ term = "1s", renewal = "300ms" }}\n'


def _site(site: Site, more: str) -> str:
    probe = f'{{ tcp = "{ADDRESS}:{site.application}", interval = "200ms", timeout = "200ms", rise = 1 }}'
    return f"""
[sites.{site.name}]
addresses = ["192.0.2.{10 + ord(site.name[0]) % 100}"]
state_dir = "state/{{site}}"
link = "{ADDRESS}:{site.link}"
link_listen = "{ADDRESS}:{site.link}"
dns = {{ listen = ["{ADDRESS}:{site.dns}"] }}
edge = {{ listen = ["{ADDRESS}:{site.edge}"] }}
dashboard = {{ listen = "{ADDRESS}:{site.dashboard}" }}
applications = {{ photos = "http://{ADDRESS}:{site.application}" }}
probes = [{probe}]
{more.replace("{site}", site.name)}"""


def _rest(more: str) -> str:
    return f"""
[groups.photos]
root = "content/{{site}}"
hosts = ["*.photos.example.com"]
document_root = "{{1}}"
application = "http://127.0.0.1:1"

[[zones]]
file = "zone"
origin = "example.com"

[[names]]
name = "*.photos.example.com"
content = "photos:{{1}}/"
ttl = {{ min = "1s", max = "5s" }}

[geo]
networks = "networks.csv"
{more}"""


@contextlib.contextmanager
def running(
    *names: str, more: str = "", site_more: str = "", face: bool = False, verdict: bool = False
) -> Iterator[Members]:
    """Members that run, their applications included, all eligible for everybody."""
    made = members(*names, more=more, site_more=site_more, face=face)
    for site in made.sites.values() if verdict else ():
        listen = f'edge = {{ listen = ["{ADDRESS}:{site.edge}"]'
        made.change(listen, f'{listen}, verdict = {{ socket = "{made.folder}/{site.name}.verdict" }}')
    try:
        made.start_applications()
        for name in names:
            made.start(name)
        made.ready()
        made.settled()
        yield made
    finally:
        made.close()
        shutil.rmtree(made.folder, ignore_errors=True)


@contextlib.contextmanager
def prepared(*names: str, more: str = "", site_more: str = "") -> Iterator[Members]:
    """Everything but running members."""
    made = members(*names, more=more, site_more=site_more)
    try:
        yield made
    finally:
        made.close()
        shutil.rmtree(made.folder, ignore_errors=True)
