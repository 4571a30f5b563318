"""Three sites with Debian's nginx, php-fpm and MariaDB as its packages set them up, and what a page of docs/ adds.

Each site is a network namespace and, by bind mounts, has folders of its own at the usual places, so the commands of a
recipe run as they stand. Law: everything started here is ended here by its process id, everything it writes is below
one folder, and no packet leaves the namespaces.
"""

import contextlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from anycastle.replicator import pki
from tests.anycastle.members import until
from tests.e2e.recipe import Block
from tests.lag import entered
from tests.processes import end
from tests.wire import Wire, wired

SITES = ("ams", "nyc", "sgp")
USERS = "users"
ADDRESSES = {"ams": "192.0.2.10", "nyc": "192.0.2.20", "sgp": "192.0.2.30", USERS: "192.0.2.99"}
ONE_WAY_SECONDS, BITS_PER_SECOND = 0.005, 1e8
"""So that a picture of a megabyte lands at two other sites a quarter of a second after its upload succeeded."""
NGINX_PORT, EDGE_PORT = 80, 8080
OWN = ("/etc", "/srv", "/run", "/var/lib", "/var/log")
"""What each site has for itself."""
KEPT = ("nginx", "php", "wordpress", "mediawiki")
"""Of /var/lib, what packages put there."""
READY_SECONDS = 120.0
"""Three sites, three kinds of servers and their tests share one machine."""
_SHOWN_CHARACTERS = 3000


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes
    headers: http.client.HTTPMessage

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")


@dataclass
class ApplicationSites:
    """What runs."""

    folder: Path
    wire: Wire
    processes: dict[tuple[str, str], subprocess.Popen[bytes]] = field(default_factory=dict)
    """By name and site."""

    def path(self, site: str, path: str) -> Path:
        """Where a folder of a site is for the test."""
        top = next(own for own in OWN if path.startswith(own))
        return self.folder / site / top.strip("/").replace("/", "-") / path[len(top) :].strip("/")

    def run(self, site: str, script: str) -> str:
        """A script of a shell, at a site; what it prints. A command that fails ends it, and the test."""
        done = subprocess.run(
            self._inside(site, "bash", "-euo", "pipefail", "-c", script),
            env=self._environment(site),
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, f"at {site}: {script}\n{done.stdout}{done.stderr}"
        return done.stdout

    def follow(self, block: Block) -> None:
        """What a recipe says, at several sites at the same time."""
        with ThreadPoolExecutor(len(SITES)) as people:
            for _ in people.map(lambda site: self.run(site, block.text), block.sites(SITES)):
                pass

    def copy(self, path: str, from_site: str, to_site: str) -> None:
        """As scp by hand."""
        subprocess.run(["cp", "-a", self.path(from_site, path), self.path(to_site, path)], check=True)

    def start(self, site: str, name: str, *command: str) -> None:
        with (self.folder / f"{name}-{site}.log").open("ab") as words:
            self.processes[name, site] = subprocess.Popen(
                self._inside(site, *command),
                env=self._environment(site),
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=words,
            )

    def stop(self, name: str, site: str) -> None:
        end([self.processes.pop((name, site))])

    def start_database(self, site: str) -> None:
        """As Debian's unit does it, but for two things.

        What is not for the ages need not reach the disk. And a server that starts deletes what servers left in the
        folder for temporary tables, so that folder is not shared with others on this machine.
        """
        own = "--tmpdir=/run/mysqld"
        install = f"mariadb-install-db --user=mysql --skip-test-db --datadir=/var/lib/mysql {own} > /dev/null"
        self.run(site, f"install -d -o mysql -g mysql /var/lib/mysql /run/mysqld && {install}")
        quick = ("--innodb-flush-log-at-trx-commit=0", "--skip-log-bin", "--performance-schema=off")
        self.start(site, "mariadb", "mariadbd", "--user=mysql", own, f"--bind-address={ADDRESSES[site]}", *quick)
        until(self.path(site, "/run/mysqld/mysqld.sock").exists, "the database listens", READY_SECONDS)

    def start_member(self, site: str) -> None:
        self.start(site, "member", "anycastle", "serve", "--site", site)

    def wait_until_well(self) -> None:
        until(lambda: all(map(self._eligible, SITES)), "every member holds every site to be eligible", READY_SECONDS)

    def _eligible(self, site: str) -> bool:
        """The member there holds every site to be fit for users of every group."""
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as connected, contextlib.suppress(OSError):
            connected.connect(str(self.path(site, "/var/lib/anycastle/control.sock")))
            connected.sendall(b"GET /api/v1/sites HTTP/1.0\r\nHost: member\r\n\r\n")
            told = json.loads(connected.makefile("rb").read().partition(b"\r\n\r\n")[2])
            groups = [group for each in told.get("sites", ()) for group in each["groups"].values()]
            return bool(groups) and not any(group["withheld"] for group in groups)
        return False

    def start_web(self, site: str) -> None:
        """Of Debian's configuration only that it stays in the foreground."""
        self.start(site, "php", "php-fpm8.2", "--nodaemonize", "--fpm-config", "/etc/php/8.2/fpm/php-fpm.conf")
        self.start(site, "nginx", "nginx", "-g", "daemon off;")

    def ask(
        self,
        site: str,
        host: str,
        path: str,
        *,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        port: int = NGINX_PORT,
    ) -> Answer:
        """One request of a user, to nginx at a site or to the edge."""
        with (
            Path(f"/run/netns/{self.wire.prefix}-{USERS}").open("rb") as place,
            entered(place.fileno()),
            contextlib.closing(http.client.HTTPConnection(ADDRESSES[site], port, timeout=60)) as connection,
        ):
            connection.request(method, path, body, {"Host": host, **(headers or {})})
            answer = connection.getresponse()
            return Answer(answer.status, answer.read(), answer.headers)

    def logs(self) -> str:
        """The end of each, for a test that failed."""
        files = [*self.folder.glob("*.log"), *self.folder.glob("*/var-log/nginx/error.log")]
        return "\n".join(f"-- {file}\n{file.read_text(errors='replace')[-_SHOWN_CHARACTERS:]}" for file in files)

    def close(self) -> None:
        end(self.processes.values())

    def _inside(self, site: str, *command: str) -> list[str]:
        """`ip netns exec` has mounts of its own, which nobody else sees."""
        mounts = "".join(f"mount --bind {self.path(site, own)} {own} && " for own in OWN)
        return self.wire.inside(site, "sh", "-c", f'{mounts}cd / && exec "$@"', "sh", *command)

    def _environment(self, site: str) -> dict[str, str]:
        programs = f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin"
        return {**os.environ, "PATH": programs, "SITE": site}


@contextlib.contextmanager
def application_sites(*hosts: str) -> Iterator[ApplicationSites]:
    """Sites on a line, where nothing runs yet; each finds `hosts` at itself, as DNS would tell it."""
    folder = Path(tempfile.mkdtemp(prefix="ac-"))
    try:
        line = wired(ADDRESSES, delay_seconds=ONE_WAY_SECONDS, loss=0.0, bits_per_second=BITS_PER_SECOND)
        with line as wire, contextlib.ExitStack() as undo:
            sites = ApplicationSites(folder, wire)
            undo.callback(sites.close)
            for site in SITES:
                _furnish(sites, site, hosts)
            yield sites
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _furnish(sites: ApplicationSites, site: str, hosts: tuple[str, ...]) -> None:
    for own in OWN[1:]:
        sites.path(site, own).mkdir(parents=True)
    shutil.copytree("/etc", sites.path(site, "/etc"), symlinks=True)
    for name in KEPT:
        subprocess.run(["cp", "-a", f"/var/lib/{name}", sites.path(site, "/var/lib")], check=True)
    for folder in ("/run/php", "/run/anycastle", "/var/log/nginx", "/etc/anycastle"):
        sites.path(site, folder).mkdir()
    with sites.path(site, "/etc/hosts").open("a") as names:
        names.write(f"{ADDRESSES[site]} {' '.join(hosts)}\n")


def configure(sites: ApplicationSites, text: str, **profiles: str) -> None:
    """The same files and authority for every member, and its own certificate."""
    first = sites.path(SITES[0], "/etc/anycastle")
    pki.init(first / "pki")
    for site in SITES:
        pki.issue(first / "pki", site)
    for site in SITES:
        own = sites.path(site, "/etc/anycastle")
        if own != first:
            shutil.copytree(first / "pki", own / "pki")
        for name, each in {"anycastle": text, **profiles}.items():
            (own / f"{name}.toml").write_text(each)
