"""Three sites in network namespaces on one line: a real member, nginx and php-fpm at each, and a host for users.

Law: everything started here is ended here by its process id, everything it writes is below one short folder, and no
packet leaves the namespaces.
"""

import contextlib
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from anycastle.replicator import pki
from tests.anycastle.members import anycastle, until
from tests.anycastle.nginx_sites import NGINX, PHP_FPM
from tests.e2e.gate_pages import UPLOAD_PAGE, WIKI_PAGE
from tests.processes import end
from tests.wire import Wire, wired

MEMBERS = ("ams", "nyc", "sgp")
USERS = "users"
ADDRESSES = {name: f"192.0.2.{number}" for number, name in enumerate((*MEMBERS, USERS), 1)}
ONE_WAY_SECONDS, LOSS, BITS_PER_SECOND = 0.01, 0.001, 1e9
TERM_SECONDS = 3.0
CUSTOMERS = 8
NEEDED = ("nginx", "php-fpm8.2")
"""Programs; also root and /dev/net/tun."""
_TOP = """\
[cluster]
name = "gate"
members = ["ams", "nyc", "sgp"]
lease = { term = "3s", renewal = "1s" }

[edge]
connections_per_client = 1000
"""
_SITE = """
[sites.SITE]
addresses = ["ADDRESS"]
state_dir = "state/{site}"
link = "ADDRESS:7400"
link_listen = "ADDRESS:7400"
edge = { listen = ["127.0.0.1:8080", "ADDRESS:8080"], verdict = { socket = "FOLDER/{site}.sock" } }
probes = [{ tcp = "ADDRESS:80" }]
"""
_GROUPS = """
[groups.photos]
root = "content/{site}/photos"
hosts = ["*.photos.example.com"]
document_root = "{1}"
application = "http://127.0.0.1:8081"
static = ["photos/*"]

[groups.wiki]
root = "content/{site}/wiki"
hosts = ["wiki.example.com"]
document_root = ""
application = "http://127.0.0.1:8081"
writes = ["ams", "nyc", "sgp"]
exclude = ["*.lock"]
"""


@dataclass
class GateSites:
    """What runs."""

    folder: Path
    wire: Wire
    gated: bool
    members: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    servers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def config(self) -> Path:
        return self.folder / "a.toml"

    def root(self, site: str, group: str) -> Path:
        return self.folder / "content" / site / group

    # -- members ----------------------------------------------------------------------------------------------------

    def start(self, site: str) -> None:
        command = [sys.executable, "-m", "anycastle.cli", "serve", "--config", str(self.config), "--site", site]
        self.members[site] = self._spawn(site, command, f"{site}.log")

    def kill(self, site: str) -> None:
        self.members[site].kill()
        self.members[site].wait()

    def pause(self, site: str) -> None:
        self.members[site].send_signal(signal.SIGSTOP)

    def resume(self, site: str) -> None:
        self.members[site].send_signal(signal.SIGCONT)

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text("utf-8", "replace")

    def wait_until_well(self, seconds: float = 40.0) -> None:
        """Every member holds every site to be eligible for every group, and has landed all that it knows."""
        try:
            until(self._all_well, "all sites are eligible", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}: {[self.log(site)[-1000:] for site in MEMBERS]}") from None

    def _all_well(self) -> bool:
        for site, process in self.members.items():
            assert process.poll() is None, f"{site} ended"
            found = anycastle("sites", "--json", "--config", self.config, "--site", site)
            if found.status:
                return False
            groups = [group for each in found.json["sites"] for group in each["groups"].values()]
            if len(groups) != len(MEMBERS) * 2 or any(group["withheld"] for group in groups):
                return False
        return True

    # -- servers beside them ----------------------------------------------------------------------------------------

    def start_web(self, site: str) -> None:
        """php-fpm, and nginx with what `anycastle nginx-config` writes; without the gate the question is left out."""
        own = self.folder / f"web-{site}"
        own.mkdir()
        socket = own / "fpm.sock"
        (own / "fpm.conf").write_text(
            f"[global]\nerror_log = {own}/php.log\ndaemonize = no\n[www]\nuser = root\nlisten = {socket}\n"
            f"pm = static\npm.max_children = 6\nphp_admin_value[upload_tmp_dir] = {own}\n"
        )
        php = [PHP_FPM, "--allow-to-run-as-root", "--nodaemonize", "--fpm-config", str(own / "fpm.conf"), "-n"]
        self.servers.append(self._spawn(site, php, f"php-{site}.log"))
        wanted = ("--listen", f"{ADDRESSES[site]}:80", "--php", f"unix:{socket}")
        done = anycastle("nginx-config", *wanted, "--config", self.config, "--site", site)
        assert done.status == 0, done.err
        shutil.copy("/etc/nginx/fastcgi_params", own)
        (own / "part.conf").write_text(done.out if self.gated else without_gate(done.out))
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temps = "".join(f"{kind}_temp_path {own}/{kind}; " for kind in kinds)
        (own / "nginx.conf").write_text(
            f"daemon off; user root; worker_processes 1; pid {own}/pid; error_log stderr;\n"
            f"events {{ worker_connections 4096; }}\nhttp {{ access_log off; {temps} include part.conf; }}\n"
        )
        nginx = [NGINX, "-p", str(own), "-e", "stderr", "-c", str(own / "nginx.conf")]
        self.servers.append(self._spawn(site, nginx, f"nginx-{site}.log"))

    def users(self, plan: str) -> subprocess.Popen[bytes]:
        """The process of users, in their namespace."""
        return self._spawn(USERS, [sys.executable, "-m", "tests.e2e.gate_users", plan], "users.log")

    def _spawn(self, host: str, command: list[str], log: str) -> subprocess.Popen[bytes]:
        with (self.folder / log).open("ab") as words:
            return subprocess.Popen(
                self.wire.inside(host, *command), stdin=subprocess.DEVNULL, stdout=words, stderr=words
            )

    def close(self) -> None:
        end([*self.members.values(), *self.servers])


def without_gate(config: str) -> str:
    """The same nginx, which asks nobody before it serves a file or runs a program."""
    asked = "auth_request /.anycastle/verdict;"
    assert asked in config
    return config.replace(asked, "auth_request off;")


@contextlib.contextmanager
def gate_sites(*, gated: bool = True) -> Iterator[GateSites]:
    """Sites that are eligible for each other, with the two applications everywhere."""
    folder = Path(tempfile.mkdtemp(prefix="ac-"))
    try:
        line = wired(ADDRESSES, delay_seconds=ONE_WAY_SECONDS, loss=LOSS, bits_per_second=BITS_PER_SECOND)
        with line as wire, contextlib.ExitStack() as undo:
            sites = GateSites(folder, wire, gated)
            undo.callback(sites.close)
            _lay_out(sites)
            for name in MEMBERS:
                sites.start_web(name)
                sites.start(name)
            sites.wait_until_well()
            yield sites
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _lay_out(sites: GateSites) -> None:
    text = [_TOP]
    pki.init(sites.folder / "pki")
    for name in MEMBERS:
        pki.issue(sites.folder / "pki", name)
        words = {"SITE": name, "ADDRESS": ADDRESSES[name], "FOLDER": str(sites.folder)}
        site = _SITE
        for word, value in words.items():
            site = site.replace(word, value)
        text.append(site)
        for group in ("photos", "wiki"):
            sites.root(name, group).mkdir(parents=True)
    sites.config.write_text("".join([*text, _GROUPS]))
    first = MEMBERS[0]
    for number in range(CUSTOMERS):
        customer = sites.root(first, "photos") / f"customer{number}"
        customer.mkdir()
        (customer / "upload.php").write_text(UPLOAD_PAGE)
    (sites.root(first, "wiki") / "wiki.php").write_text(WIKI_PAGE)
