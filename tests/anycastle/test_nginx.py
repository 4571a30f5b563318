"""What `anycastle nginx-config` writes and refuses; tests/anycastle/test_nginx_real.py runs it."""

import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from anycastle.nginx import NginxError, Wanted, nginx_config, select
from anycastle.replicator.edge_target import Targets
from anycastle.replicator.settings import EdgeSettings, GroupSettings, VerdictSettings
from tests.anycastle.members import anycastle

NGINX = shutil.which("nginx", path="/usr/sbin:/sbin:/usr/bin")
EDGE = EdgeSettings(site="ams", listen=(("127.0.0.1", 8080),))
VERDICT = VerdictSettings(site="ams", socket=Path("/run/anycastle/verdict.sock"), passes=Path('/run/our "passes"; x'))
GROUP = GroupSettings(
    name="blogs-1",
    root=Path('/srv/our "blogs"; x'),
    hosts=("*.blogs.example.com", "*.de.blogs.example.com"),
    document_root="{1}/htdocs",
    application="http://127.0.0.1:8081",
    prefix_depth=1,
    dynamic=("*.php", "*.cgi", "admin/?.pl"),
    writing=("admin/*.php", "[!a]/{x}.php"),
)
WIKI = replace(GROUP, name="wiki", root=Path("/srv/wiki"), hosts=("wiki.example.com",), document_root="")
PHP = Wanted(php="unix:/run/php/php8.2-fpm.sock")


@pytest.mark.skipif(not NGINX, reason="needs nginx (script/bootstrap)")
@pytest.mark.parametrize("wanted", [Wanted(), PHP, Wanted(listen=("127.0.0.1:1080", "[::1]:1080"))])
def test_nginx_takes_it_without_a_warning(tmp_path: Path, wanted: Wanted) -> None:
    assert NGINX is not None
    text = nginx_config(EDGE, VERDICT, (GROUP, replace(WIKI, application="http://[::1]:8081")), wanted)
    (tmp_path / "a.conf").write_text(text)
    (tmp_path / "fastcgi_params").write_text("fastcgi_param QUERY_STRING $query_string;\n")
    top = f"pid {tmp_path}/pid;\nevents {{}}\nhttp {{ access_log off; include a.conf; }}\n"
    (tmp_path / "nginx.conf").write_text(top)
    command = [NGINX, "-t", "-e", "stderr", "-c", str(tmp_path / "nginx.conf")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = [
        line for line in done.stderr.splitlines() if "test is successful" not in line and "syntax is ok" not in line
    ]
    assert not [line for line in lines if os.geteuid() == 0 or '"user" directive' not in line]


def test_every_location_is_behind_the_gate_but_those_that_ask_it() -> None:
    text = nginx_config(EDGE, VERDICT, (WIKI,), PHP)
    public = text.partition("# The application as the edge knows it")[0]
    off = re.findall(r"location (.+?) \{\n(?:        internal;\n)?        auth_request off;", public)
    assert off == ["= /.anycastle/verdict", "= /.anycastle/write", "@anycastle_elsewhere", "@anycastle_refused"]
    assert public.count("auth_request off;") == len(off)
    assert public.count("    auth_request /.anycastle/verdict;") == 1


def test_without_passes_the_gate_is_always_asked() -> None:
    with_passes = nginx_config(EDGE, VERDICT, (GROUP,), PHP)
    assert 'if (-f "/run/our \\"passes\\"; x/${anycastle_pass_blogs_1}/$anycastle_tenth") {' in with_passes
    assert "    *.de.blogs.example.com blogs-1;" in with_passes
    without = nginx_config(EDGE, replace(VERDICT, passes=None), (GROUP,), PHP)
    assert not re.search(r"\(-f|anycastle_tenth|anycastle_pass_", without)


@pytest.mark.parametrize("pattern", ["wp-admin/*.php", "*.php", "a?c", "[!a]x", "[a-c^]x.php", "a.b(c"])
@pytest.mark.parametrize(
    "path",
    [
        "wp-admin/x.php",
        "wp-admin/a/b.php/7",
        "wp-admin/x.css",
        "wp-adminx.php",
        "abc",
        "ac",
        "bx",
        "ax",
        "^x.php",
        "a.b(c",
    ],
)
def test_what_writes_under_any_method_is_the_same_for_nginx_and_gate(pattern: str, path: str) -> None:
    group = replace(WIKI, writing=("never", pattern))
    text = nginx_config(EDGE, VERDICT, (group,), PHP)
    (quoted,) = re.findall(r'if \(\$uri ~ "(.+)"\) \{', text)
    expression = re.sub(r"\\(.)", lambda found: found[1] if found[1] in '"\\' else found[0], quoted)
    writes = Targets((group,)).find("wiki.example.com", f"/{path}").writes("GET")
    assert bool(re.search(expression, f"/{path}")) is writes
    assert "$uri ~" not in nginx_config(EDGE, VERDICT, (replace(WIKI, writing=()),), PHP)


def test_the_star_of_a_host_is_the_capture_of_its_root() -> None:
    text = nginx_config(EDGE, VERDICT, (GROUP,), PHP)
    assert 'root "/srv/our \\"blogs\\"; x/${anycastle_host_blogs_1}/htdocs";' in text
    found = re.findall(r'"~(\^.+\$)" \$stands;', text)
    assert [re.sub(r"\(\?<", "(?P<", expression) for expression in found]
    first, second = (re.compile(expression.replace("(?<", "(?P<")) for expression in found)
    assert first.match("a.de.blogs.example.com")["stands"] == "a"  # type: ignore[index]
    assert second.match("a.b.blogs.example.com")["stands"] == "a.b"  # type: ignore[index]
    assert not second.match("..blogs.example.com")
    assert "anycastle_host" not in nginx_config(EDGE, VERDICT, (WIKI,), PHP)


def test_programs_that_nothing_runs_are_not_shown_as_text() -> None:
    text = nginx_config(EDGE, VERDICT, (WIKI,), PHP)
    assert text.count('location ~ "^/(.*\\\\.cgi)(/|$)"') == 2
    assert text.count('location ~ "^/(admin/.\\\\.pl)(/|$)"') == 2


def test_an_edge_on_all_addresses_is_asked_on_loopback() -> None:
    for host, asked in (("0.0.0.0", "127.0.0.1:80"), ("::", "[::1]:80"), ("192.0.2.1", "192.0.2.1:80")):
        edge = replace(EDGE, listen=((host, 80),))
        assert f"server {asked};" in nginx_config(edge, VERDICT, (WIKI,), PHP)


@pytest.mark.parametrize(
    ("change", "wanted", "problem"),
    [
        ({"application": "http://192.0.2.1:80"}, PHP, "expected a loopback address"),
        ({"application": "http://127.0.0.1:80/app"}, PHP, "expected a loopback address"),
        ({"application": "https://127.0.0.1"}, PHP, "expected a loopback address"),
        ({"root": Path("/srv/$host")}, PHP, "dollar sign"),
        ({"root": Path("/srv/a\nb")}, PHP, "control character"),
        ({}, Wanted(php="unix:/a; }"), "--php"),
        ({}, Wanted(listen=("80; include x",)), "listen"),
    ],
)
def test_refused(change: dict[str, object], wanted: Wanted, problem: str) -> None:
    with pytest.raises(NginxError, match=problem):
        nginx_config(EDGE, VERDICT, (replace(WIKI, **change),), wanted)  # type: ignore[arg-type]


def test_what_the_site_must_have() -> None:
    for edge, verdict, groups in ((None, VERDICT, (WIKI,)), (EDGE, None, (WIKI,)), (EDGE, VERDICT, ())):
        with pytest.raises(NginxError):
            nginx_config(edge, verdict, groups, Wanted())
    assert select((GROUP, WIKI), "wiki") == (WIKI,)
    assert select((GROUP, WIKI), None) == (GROUP, WIKI)
    with pytest.raises(NginxError, match="no group 'x' here"):
        select((GROUP, WIKI), "x")


def test_the_command(tmp_path: Path) -> None:
    example = (Path(__file__).parents[2] / "examples/three-sites.toml").read_text()
    file = tmp_path / "a.toml"
    file.write_text(example.replace("edge = { ", 'edge = { verdict = { socket = "/run/{site}.sock" }, '))
    done = anycastle("nginx-config", "--config", file, "--site", "nyc", "--listen", "8000")
    assert done.status == 0, done.err
    assert 'server "unix:/run/nyc.sock";' in done.out
    assert "listen 8000;" in done.out
    done = anycastle("nginx-config", "--config", file)
    assert (done.status, done.err) == (2, "anycastle: say for which site with --site; sites: ams, nyc, sgp\n")


def test_verdicts_are_not_told_where_the_edge_does_not() -> None:
    told = nginx_config(EDGE, VERDICT, (GROUP,), PHP)
    silent = nginx_config(replace(EDGE, verdict_headers=False), VERDICT, (GROUP,), PHP)
    assert "add_header X-Anycastle-" in told
    assert "add_header X-Anycastle-" not in silent
    assert silent.count("add_header ETag") == told.count("add_header ETag")
