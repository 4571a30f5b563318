"""Real members, each with a real nginx before it, and one php-fpm for all; an upload page that knows nothing of us.

Law: everything started here is ended here by its process id; no service of the system is touched.
"""

import contextlib
import http.client
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.anycastle.members import ADDRESS, Members, prepared, until
from tests.ports import free_port

HOST = "alice.photos.example.com"
PHP_FPM = shutil.which("php-fpm8.2", path="/usr/sbin:/sbin") or ""
NGINX = shutil.which("nginx", path="/usr/sbin:/sbin:/usr/bin") or ""
UPLOAD_PAGE = """<?php
header('Content-Type: application/json');
if ($_SERVER['REQUEST_METHOD'] === 'POST') {
    @mkdir(__DIR__ . '/photos');
    $name = basename($_FILES['photo']['name']);
    if (!move_uploaded_file($_FILES['photo']['tmp_name'], __DIR__ . '/photos/' . $name)) { http_response_code(500); }
}
$names = is_dir(__DIR__ . '/photos') ? array_values(array_diff(scandir(__DIR__ . '/photos'), ['.', '..'])) : [];
echo json_encode([
    'names' => $names, 'client' => $_SERVER['REMOTE_ADDR'], 'host' => $_SERVER['HTTP_HOST'],
    'info' => $_SERVER['PATH_INFO'] ?? '', 'scheme' => $_SERVER['REQUEST_SCHEME'], 'uri' => $_SERVER['REQUEST_URI'],
]);
"""


@dataclass
class Answer:
    status: int
    body: bytes
    headers: http.client.HTTPMessage

    @property
    def verdict(self) -> str:
        return str(self.headers["X-Anycastle-Verdict"])


@dataclass
class Sites:
    """What the tests use."""

    members: Members
    ports: dict[str, int] = field(default_factory=dict)

    def ask(
        self,
        site: str,
        path: str,
        *,
        method: str = "GET",
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        host: str = HOST,
    ) -> Answer:
        """One request to a site's nginx, from a client at ADDRESS."""
        connection = http.client.HTTPConnection(ADDRESS, self.ports[site], timeout=30, source_address=(ADDRESS, 0))
        with contextlib.closing(connection):
            connection.request(method, path, body, {"Host": host, **(headers or {})})
            answer = connection.getresponse()
            return Answer(answer.status, answer.read(), answer.headers)

    def upload(self, site: str, name: str, content: bytes, **headers: str) -> Answer:
        """As a browser's form does it."""
        edge = uuid.uuid4().hex
        disposition = f'Content-Disposition: form-data; name="photo"; filename="{name}"'
        body = f"--{edge}\r\n{disposition}\r\n\r\n".encode() + content + f"\r\n--{edge}--\r\n".encode()
        kind = {"Content-Type": f"multipart/form-data; boundary={edge}", **headers}
        return self.ask(site, "/upload.php", method="POST", body=body, headers=kind)


@contextlib.contextmanager
def nginx_sites(*names: str, site_more: str = "") -> Iterator[Sites]:
    """Members that are eligible for each other, web servers that answer."""
    with prepared(*names, site_more=site_more) as members, contextlib.ExitStack() as undo:
        page = members.root(names[0]) / "alice/upload.php"
        page.parent.mkdir(parents=True)
        page.write_text(UPLOAD_PAGE)
        fpm = f"unix:{members.folder}/fpm.sock"
        undo.enter_context(_running(_php_fpm(members.folder), members.folder / "fpm.log"))
        for site in members.sites.values():
            old = f'edge = {{ listen = ["{ADDRESS}:{site.edge}"] }}'
            socket = f'verdict = {{ socket = "{members.folder}/{{site}}.sock" }}'
            members.change(old, f'edge = {{ listen = ["{ADDRESS}:{site.edge}"], {socket} }}')
        members.change('application = "http://127.0.0.1:1"', 'application = "http://127.0.0.1:1"\nfence_timeout = "3s"')
        found = Sites(members)
        for name in names:
            found.ports[name] = free_port(ADDRESS)
            undo.enter_context(
                _running(_nginx(members, name, found.ports[name], fpm), members.folder / f"{name}.nginx")
            )
            members.start(name)
        members.ready()
        members.settled()
        until(
            lambda: all((members.root(name) / "alice/upload.php").exists() for name in names), "the page is everywhere"
        )
        yield found


def _nginx(members: Members, site: str, port: int, fpm: str) -> list[str]:
    """With what `anycastle nginx-config` writes, as it is."""
    folder = members.folder / f"nginx-{site}"
    folder.mkdir()
    shutil.copy("/etc/nginx/fastcgi_params", folder)
    done = members.run("nginx-config", "--listen", f"{ADDRESS}:{port}", "--php", fpm, site=site)
    assert done.status == 0, done.err
    (folder / "anycastle.conf").write_text(done.out)
    paths = "".join(
        f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; user root; worker_processes 1; pid {folder}/pid; error_log stderr;\n"
        f"events {{ worker_connections 512; }}\nhttp {{ access_log off;\n{paths}include anycastle.conf; }}\n"
    )
    command = [NGINX, "-p", str(folder), "-e", "stderr", "-c", str(folder / "nginx.conf")]
    tested = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
    assert tested.returncode == 0, tested.stderr
    assert "warn" not in tested.stderr, tested.stderr
    return command


def _php_fpm(folder: Path) -> list[str]:
    (folder / "fpm.conf").write_text(
        f"[global]\nerror_log = {folder}/php.log\ndaemonize = no\n[www]\nuser = root\nlisten = {folder}/fpm.sock\n"
        "pm = static\npm.max_children = 4\n"
    )
    return [PHP_FPM, "--allow-to-run-as-root", "--nodaemonize", "--fpm-config", str(folder / "fpm.conf"), "-n"]


@contextlib.contextmanager
def _running(command: list[str], log: Path) -> Iterator[None]:
    with log.open("wb") as words:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=words, stderr=words)
    try:
        yield
        assert process.poll() is None, log.read_text()
    finally:
        process.terminate()
        deadline = time.monotonic() + 10
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        process.kill()
        process.wait()
