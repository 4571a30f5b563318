"""What the edge benchmark starts: members of ours as anybody runs them, nginx with what they write for it, php-fpm.

Law: everything is below the folder given and in the foreground, and in the network namespace of whoever starts it.
"""

import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from anycastle.replicator import pki
from bench.packages import find
from bench.process import BenchError

GROUP, HOST = "bench", "a.bench.example.com"
NEEDS = (("nginx", "nginx"), ("php-fpm8.2", "php8.2-fpm"), ("wrk", "wrk"))
PAGE = """<?php
header('Content-Type: text/plain');
if ($_SERVER['REQUEST_METHOD'] === 'POST') {
    file_put_contents(__DIR__ . '/upload.bin', file_get_contents('php://input'));
}
echo count(scandir(__DIR__)), ' files, ', str_repeat('text ', 400);
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where one member and its nginx are."""

    site: str
    address: str
    """For the link; the rest is on loopback."""
    link: int
    edge: int
    application: int
    nginx: int


def write_config(folder: Path, places: Mapping[str, Place]) -> Path:
    """One file for all members, their certificates, their empty trees."""
    pki.init(folder / "pki")
    listed = ", ".join(f'"{name}"' for name in places)
    text = [f'[cluster]\nname = "bench"\nmembers = [{listed}]']
    for place in places.values():
        pki.issue(folder / "pki", place.site)
        (folder / "content" / place.site / "a").mkdir(parents=True)
        verdict = f'{{ socket = "{folder}/{{site}}.sock" }}'
        text.append(
            f"[sites.{place.site}]\n"
            'addresses = ["192.0.2.1"]\n'
            f'link = "{place.address}:{place.link}"\nlink_listen = "{place.address}:{place.link}"\n'
            f'state_dir = "state/{{site}}"\n'
            f'edge = {{ listen = ["127.0.0.1:{place.edge}"], verdict = {verdict} }}\n'
            f'applications = {{ {GROUP} = "http://127.0.0.1:{place.application}" }}\n'
            f'probes = [{{ tcp = "{place.address}:{place.link}", interval = "500ms" }}]'
        )
    text.append(
        f'[groups.{GROUP}]\nroot = "content/{{site}}"\nhosts = ["*.bench.example.com"]\ndocument_root = "{{1}}"\n'
        'application = "http://127.0.0.1:1"\n'
    )
    (folder / "a.toml").write_text("\n".join(text))
    return folder / "a.toml"


def member_command(config: Path, site: str) -> list[str]:
    return [sys.executable, "-m", "anycastle.cli", "serve", "--config", str(config), "--site", site]


def php_command(folder: Path) -> list[str]:
    pool = f"[www]\nuser = root\nlisten = {folder}/fpm.sock\npm = static\npm.max_children = 4\n"
    (folder / "fpm.conf").write_text(f"[global]\nerror_log = {folder}/fpm.log\n{pool}")
    return [find("php-fpm8.2") or "", "-R", "-F", "-n", "-y", str(folder / "fpm.conf")]


def nginx_gated(folder: Path, config: Path, place: Place) -> list[str]:
    """As `anycastle nginx-config` writes it."""
    command = [sys.executable, "-m", "anycastle.cli", "nginx-config", "--config", str(config), "--site", place.site]
    command += ["--listen", f"127.0.0.1:{place.nginx}", "--php", f"unix:{folder}/fpm.sock"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(done.stderr)
    return _nginx(folder / f"nginx-{place.site}", done.stdout)


def nginx_alone(folder: Path, root: Path, port: int) -> list[str]:
    """The same files and program without us."""
    text = f"""server {{
    listen 127.0.0.1:{port};
    root {root};
    location / {{ sendfile on; }}
    location ~ \\.php$ {{ include fastcgi_params; fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name;
        fastcgi_pass unix:{folder}/fpm.sock; }}
}}
"""
    return _nginx(folder / "nginx-alone", text)


def _nginx(own: Path, text: str) -> list[str]:
    """One worker, no access log; otherwise as it comes."""
    own.mkdir()
    shutil.copy("/etc/nginx/fastcgi_params", own)
    (own / "part.conf").write_text(text)
    temps = "".join(f"{kind}_temp_path {own}/{kind}; " for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (own / "nginx.conf").write_text(
        f"daemon off; user root; worker_processes 1; pid {own}/pid; error_log stderr;\nevents {{ }}\n"
        f"http {{ access_log off; keepalive_requests 1000000; {temps}include part.conf; }}\n"
    )
    return [find("nginx") or "", "-p", str(own), "-e", "stderr", "-c", str(own / "nginx.conf")]
