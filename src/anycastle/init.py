"""`anycastle init`: a first configuration with words of explanation, from five answers; zone, tokens, certificates too.

Laws: nothing that is there is replaced; what is written passes `anycastle check`; each answer can be a flag.
"""

import argparse
import ipaddress
import os
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from anycastle.errors import AnycastleError
from anycastle.replicator import pki

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")
_HOST = re.compile(r"([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.){2,}[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
FILE = "anycastle.toml"
GROUP = "content"


class InitError(AnycastleError):
    """An answer that says something else than expected, or a place where something is already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What a first configuration needs to know."""

    sites: dict[str, str]
    """Name -> address."""
    witnesses: dict[str, str]
    host: str
    root: str
    application: str

    @property
    def zone(self) -> str:
        return self.host.partition(".")[2]


QUESTIONS = {
    "sites": "Sites, as NAME=ADDRESS with spaces between (ams=192.0.2.10 nyc=198.51.100.10)",
    "witnesses": "Witness that holds no content but votes, as NAME=ADDRESS (nothing for none; two sites need one)",
    "host": "Host name that users come to (www.example.com)",
    "root": "Folder of the content, the same at all sites (/srv/www)",
    "application": "URL of the software that serves it, on each site's machine (http://127.0.0.1:8081)",
}


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where it is written, such as /etc/anycastle")
    for key, question in QUESTIONS.items():
        parser.add_argument(f"--{key}", metavar="ANSWER", help=question[0].lower() + question[1:])
    parser.add_argument("--no-pki", action="store_true", help="make no authority and no certificates")


def init(options: argparse.Namespace) -> int:
    """Asks for what no flag says; returns the exit status."""
    _refuse([options.folder / FILE])  # before anybody answers five questions in vain
    said = {key: getattr(options, key) for key in QUESTIONS}
    answers = read_answers(said, _ask)
    for made in write(options.folder, answers, with_pki=not options.no_pki):
        print(f"made {made}")
    print(_next_steps(options.folder, answers, with_pki=not options.no_pki))
    return 0


def _next_steps(folder: Path, answers: Answers, *, with_pki: bool) -> str:
    first = next(iter(answers.sites))
    steps = [f"look it through, then: anycastle check --config {folder / FILE}"]
    if with_pki:
        steps.append(
            "take the folder to every member, but of pki only ca.pem and the member's own NAME.pem and NAME.key"
        )
        steps.append(f"move {folder}/pki/ca.key to a safe place: whoever has it can be any member")
    steps.append(f"at each member: anycastle doctor --site {first}, then anycastle serve --site {first} (its own name)")
    return "now:\n" + "\n".join(f"  {number}. {step}" for number, step in enumerate(steps, 1))


def _ask(question: str) -> str:
    try:
        return input(f"{question}: ")
    except EOFError:
        raise InitError(f"no answer to: {question}; expected one, or its flag") from None


def read_answers(said: dict[str, str | None], ask: Callable[[str], str]) -> Answers:
    """Raises InitError at the first answer that is not as expected."""
    given = {key: value if (value := said.get(key)) is not None else ask(text) for key, text in QUESTIONS.items()}
    sites, witnesses = _members(given["sites"]), _members(given["witnesses"])
    if not sites:
        raise InitError("sites: expected one at least, as in ams=192.0.2.10")
    if both := set(sites) & set(witnesses):
        raise InitError(f"witnesses: {', '.join(sorted(both))} is a site already")
    host, root, application = (given[key].strip() for key in ("host", "root", "application"))
    host = host.lower().rstrip(".")
    if not _HOST.fullmatch(host):
        raise InitError(f"host is {host!r}: expected a name below a zone, as in www.example.com")
    if not root.startswith("/") or '"' in root or "\\" in root:
        raise InitError(f"root is {root!r}: expected an absolute folder, as in /srv/www")
    if not re.fullmatch(r"http://[A-Za-z0-9.:\[\]-]+", application):
        raise InitError(f"application is {application!r}: expected a URL without a path, as in http://127.0.0.1:8081")
    return Answers(sites=sites, witnesses=witnesses, host=host, root=root, application=application)


def _members(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for word in text.split():
        name, _, address = word.partition("=")
        try:
            plain = str(ipaddress.ip_address(address))
        except ValueError:
            plain = ""
        if not _NAME.fullmatch(name) or not plain or name in found:
            raise InitError(f"{word!r}: expected NAME=ADDRESS, each name once, as in ams=192.0.2.10")
        found[name] = plain
    return found


def write(folder: Path, answers: Answers, *, with_pki: bool) -> list[Path]:
    """Everything, or nothing when something is there already. Raises InitError and PkiError."""
    zone = folder / "zones" / answers.zone
    texts = {folder / FILE: _configuration(answers), zone: _zone(answers), folder / "tokens": _tokens()}
    authority = folder / "pki"
    _refuse([*texts, *([authority / "ca.pem"] if with_pki else [])])
    try:
        zone.parent.mkdir(parents=True, exist_ok=True)
        for file, text in texts.items():
            mode = 0o600 if file.name == "tokens" else 0o644
            with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as opened:
                opened.write(text)
    except OSError as error:
        raise InitError(f"{error.filename} cannot be written: {error.strerror}") from error
    made = list(texts)
    if with_pki:
        made += [pki.init(authority), authority / "ca.key"]
        for member in (*answers.sites, *answers.witnesses):
            made += pki.issue(authority, member)
    return made


def _refuse(files: list[Path]) -> None:
    if there := [file for file in files if file.exists()]:
        raise InitError(f"{there[0]} is there already: expected a folder without it")


def _at(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _tokens() -> str:
    return f"# NAME  SCOPES (read, drain, routes, admin)  TOKEN\noperator  admin  {secrets.token_urlsafe(24)}\n"


def _zone(answers: Answers) -> str:
    """Every site's nameserver serves it."""
    servers = "".join(f"@        NS     ns-{name}\n" for name in answers.sites)
    glue = "".join(
        f"ns-{name:<5} {'AAAA' if ':' in address else 'A':<6} {address}\n" for name, address in answers.sites.items()
    )
    return (
        f"; {answers.zone}: what is not steered. Add your records; steered names are in {FILE}.\n"
        f"$TTL 3600\n@        SOA    ns-{next(iter(answers.sites))} hostmaster 1 7200 900 1209600 300\n{servers}{glue}"
    )


def _configuration(answers: Answers) -> str:
    members = ", ".join(f'"{name}"' for name in (*answers.sites, *answers.witnesses))
    sites = "".join(_site(name, address, answers.host) for name, address in answers.sites.items())
    witnesses = "".join(
        f'\n{_noted(f"[witnesses.{name}]", "votes, and holds no content")}\nlink = "{_at(address, 7400)}"\n'
        f'dashboard = {{ listen = "127.0.0.1:9080", token_file = "tokens" }}\n'
        for name, address in answers.witnesses.items()
    )
    return f"""\
# The same file at every member. `anycastle check` says what is wrong with it; docs/configuration.md has every key.

[cluster]
name = "{answers.zone}"
members = [{members}]
# pki/ca.pem goes to all members, NAME.pem and NAME.key to NAME alone, ca.key to none of them.
tls = {{ authority = "pki/ca.pem", certificate = "pki/{{site}}.pem", key = "pki/{{site}}.key" }}
{sites}{witnesses}
{_noted(f"[groups.{GROUP}]", "one tree of content")}
root = "{answers.root}"
{_noted(f'hosts = ["{answers.host}"]', "what the edge answers to")}
application = "{answers.application}"
{_noted('writes = "any"', "or sites in order, for software that edits files in place")}
{_noted("copies = 1", "2: an upload succeeds when two sites have it on their disks")}
{_noted('exclude = ["*.lock"]', "what is not content")}
{_noted('# profile = "generic"', 'or "wordpress", "mediawiki", "static": what such software needs of a group')}

[[zones]]
file = "zones/{answers.zone}"

{_noted("[[names]]", "which site, decided per query")}
name = "{answers.host}"
content = "{GROUP}:"
{_noted('steer = "closest"', "the first site for everybody, until it has coordinates and [geo]")}
ttl = {{ min = "5s", max = "60s" }}

{_noted("# [geo]", "where clients are: a country or city database (mmdb), or a list")}
# country = "country.mmdb"
# networks = "networks.csv"                     # lines such as 198.51.100.0/24,{" ".join(answers.sites)}: nearest first
"""


def _noted(line: str, words: str) -> str:
    return f"{line:<47} # {words}"


def _site(name: str, address: str, host: str) -> str:
    link = f'link = "{_at(address, 7400)}"'
    return f"""
[sites.{name}]
{_noted(f'addresses = ["{address}"]', "what users are given")}
{_noted("# coordinates = [52.37, 4.90]", 'latitude, longitude in degrees: for steer = "closest"')}
{_noted(link, "the other members connect here: let them through the firewall")}
dns = {{ listen = ["{_at(address, 53)}"] }}
edge = {{ listen = ["{_at(address, 80)}"] }}
dashboard = {{ listen = "127.0.0.1:9080", token_file = "tokens" }}
probes = [
    {_noted(f'{{ tcp = "{_at(address, 80)}" }},', "the edge is there")}
    # and the software behind it is well:
    # {{ http = "http://{host}/health", address = "{address}" }},
]
"""
