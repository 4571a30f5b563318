"""The commands that ask a running member, and how their answers look in a terminal.

Law: a command decides nothing; it asks over the Unix socket in `state_dir` and shows what came back.
"""

import argparse
import asyncio
import contextlib
import io
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
from rich.console import Console
from rich.table import Table

from anycastle.config import Config, load_config, short_path
from anycastle.errors import AnycastleError
from anycastle.takeover import GIVE_WAY_SECONDS_MAX, PREPARE_SECONDS_MAX, REFUSED_WORDS, START_SECONDS_MAX

ANSWER_SECONDS_MAX = 10.0
WATCH_SECONDS_MIN, WATCH_SECONDS_MAX = 0.2, 3600.0
TAKEOVER_SECONDS_MAX = GIVE_WAY_SECONDS_MAX + START_SECONDS_MAX
"""From the moment in which the other process has read all it needs."""
LOOK_SECONDS = 0.3
"""Between two looks at what is under way."""
Json = dict[str, Any]


class CommandError(AnycastleError):
    """The member does not run here, or refused."""


def choose(config: Config, site: str | None) -> tuple[str, Path]:
    """Who is asked, in words, and its socket: whom `--site` names; without it, the one that is on this machine.

    Members on machines of their own mostly have one `state_dir`, so sockets of one name: then it is whoever runs here.
    """
    if site is not None:
        return site, config.control_socket(site)
    found: dict[Path, list[str]] = {}
    for member in config.members:
        found.setdefault(config.control_socket(member), []).append(member)
    there = {socket: members for socket, members in found.items() if socket.exists()}
    if len(there) != 1:
        here = ", ".join(member for members in there.values() for member in members) or "none"
        raise CommandError(f"say which member with --site; running on this machine: {here}")
    ((socket, members),) = there.items()
    return members[0] if len(members) == 1 else "the member here", socket


def ask(
    options: argparse.Namespace, path: str, query: Mapping[str, str] | None = None, *, timeout_seconds: float = 0.0
) -> Json:
    """GET from the member's API."""
    return _call(options, "GET", path, query=query, body=None, timeout_seconds=timeout_seconds)


def tell(options: argparse.Namespace, path: str, body: Json, *, timeout_seconds: float = 0.0) -> Json:
    """POST to the member's API."""
    return _call(options, "POST", path, query=None, body=body, timeout_seconds=timeout_seconds)


def _call(
    options: argparse.Namespace,
    method: str,
    path: str,
    *,
    query: Mapping[str, str] | None,
    body: Json | None,
    timeout_seconds: float,
) -> Json:
    config = load_config(options.config)
    member, socket = choose(config, options.site)
    seconds = timeout_seconds + ANSWER_SECONDS_MAX
    try:
        with short_path(socket) as short:
            status, answer = asyncio.run(_request(short, method, path, query, body, seconds))
    except TimeoutError as error:
        raise CommandError(f"{member} did not answer within {seconds:.0f} s") from error
    except (aiohttp.ClientError, OSError) as error:
        raise CommandError(f"{member} does not answer on {socket}: {_reason(error)}") from error
    except ValueError as error:
        raise CommandError(f"{member} gave an answer on {socket} that is not JSON: {error}") from error
    if status >= 400:
        raise CommandError(str(answer.get("error", f"refused with status {status}")))
    return answer


async def _request(
    socket: str, method: str, path: str, query: Mapping[str, str] | None, body: Json | None, timeout_seconds: float
) -> tuple[int, Json]:
    timeout = aiohttp.ClientTimeout(total=timeout_seconds)
    connector = aiohttp.UnixConnector(socket)
    async with (
        aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
        session.request(method, f"http://member/api/v1/{path}", params=query, json=body) as response,
    ):
        return response.status, json.loads(await response.text())


def _reason(error: aiohttp.ClientError | OSError) -> str:
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    match cause:
        case FileNotFoundError() | ConnectionRefusedError():
            return "it is not running"
        case PermissionError():
            return "this user may not command it"
        case aiohttp.ClientError():
            return "it broke off; was it ended meanwhile?"
        case _:
            return str(cause)


# -- reading ----------------------------------------------------------------------------------------------------------


def status(options: argparse.Namespace) -> int:
    if options.watch is None:
        return _status(options)
    if not WATCH_SECONDS_MIN <= options.watch <= WATCH_SECONDS_MAX:
        raise CommandError(
            f"--watch is {options.watch:g}: expected {WATCH_SECONDS_MIN} to {WATCH_SECONDS_MAX:g} seconds"
        )
    while True:
        print(_frame(options), end="", flush=True)
        time.sleep(options.watch)


class _Screen(io.StringIO):
    """What is shown at once; as wide as where it will be shown."""

    def isatty(self) -> bool:
        return sys.__stdout__ is not None and sys.__stdout__.isatty()


def _frame(options: argparse.Namespace) -> str:
    """A member that is just not there is shown too: one watches through its restart."""
    with contextlib.redirect_stdout(_Screen()) as screen:
        try:
            _status(options)
        except CommandError as error:
            print(f"anycastle: {error}")
    clear = "\x1b[H\x1b[2J" if screen.isatty() else ""
    return f"{clear}{screen.getvalue()}{'' if clear else chr(10)}"


def _status(options: argparse.Namespace) -> int:
    answer = ask(options, "status")
    if as_json(options, answer):
        return 0
    alone = "  ISOLATED: it has lost all others" if answer["isolated"] else ""
    print(f"{answer['member']} of {answer['cluster']}, up for {_age(answer['uptime_seconds'])}{alone}")
    for note in answer["notes"]:
        print(f"note: {note}")
    _show_sites(answer["sites"])
    _show("links", ("peer", "state", "for", "protocol", "reason"), [_link(link) for link in answer["links"]])
    if answer["sessions"]:
        _show_routes(answer["sessions"])
    if zones := [(zone["name"], zone["serial"], zone["records"]) for zone in answer["zones"]]:
        _show("zones", ("zone", "serial", "records"), zones)
    waiting, conflicts_total = answer["flights_total"], answer["conflicts_total"]
    print(f"{waiting} entries in flight, {conflicts_total} conflicts")
    return 0


def sites(options: argparse.Namespace) -> int:
    answer = ask(options, "sites")
    if not as_json(options, answer):
        _show_sites(answer["sites"])
    return 0


def routes(options: argparse.Namespace) -> int:
    if options.dry_run:
        return _dry_run(options)
    if options.accept:
        return _accept(options)
    answer = ask(options, "routes")
    if not as_json(options, answer):
        _show_holds(answer["holds"])
        _show_routes(answer["sessions"])
    return 0


def _dry_run(options: argparse.Namespace) -> int:
    """Of the running member; with --view of a file, for which nobody needs to run."""
    if options.view is None:
        answer = ask(options, "plan")
    else:
        from anycastle.dry_run import dry_run

        answer = dry_run(load_config(options.config), options.site, options.view)
    if as_json(options, answer):
        return 0
    for change in answer["changes"]:
        print(f"{change['change']} {change['prefix']} ({change['state']}): {change['reason']}")
    for change in answer["held"]:
        print(f"held back: {change['change']} {change['prefix']}: {change['reason']}")
    if not answer["changes"] and not answer["held"]:
        print("nothing would change")
    return 0


def _accept(options: argparse.Namespace) -> int:
    answer = tell(options, "accept", {})
    if not as_json(options, answer):
        print(f"accepted: {answer['accepted']}" if answer["accepted"] else "nothing is refused")
    return 0


def lag(options: argparse.Namespace) -> int:
    answer = ask(options, "lag")
    if as_json(options, answer):
        return 0
    rows = [
        (g["name"], c["origin"], c["site"], c["known"], c["landed"], c["gaps"], _age(c["seconds"]))
        for g in answer["groups"]
        for c in g["cells"]
    ]
    _show("lag", ("group", "origin", "site", "known", "landed up to", "gaps", "oldest missing for"), rows)
    flights = [
        (
            f["group"],
            f["path"],
            f["origin"],
            f["size_bytes"],
            _age(f["age_seconds"]),
            ", ".join(f["waiting"]),
            f["reason"],
        )
        for f in answer["flights"]
    ]
    if flights:
        _show("in flight", ("group", "path", "origin", "bytes", "for", "not landed at", "why"), flights)
    return 0


def conflicts(options: argparse.Namespace) -> int:
    if options.verb:
        return _conflict(options)
    answer = ask(options, "conflicts")
    if as_json(options, answer):
        return 0
    rows = [(c["id"], c["group"], c["path"], c["winner"], c["loser"], c["kept"]) for c in answer["conflicts"]]
    if rows:
        _show("conflicts", ("id", "group", "path", "winner", "loser", "the loser is kept at (below the root)"), rows)
    else:
        print("no conflicts")
    return 0


def _conflict(options: argparse.Namespace) -> int:
    if options.id is None:
        raise CommandError(f"conflicts {options.verb}: expected the ID that `anycastle conflicts` shows")
    if (options.verb == "resolve") != bool(options.keep):
        raise CommandError("expected `conflicts get ID [--to FILE]` or `conflicts resolve ID --keep current|theirs`")
    answer = tell(options, "conflict", {"id": options.id, "keep": options.keep or ""})
    if as_json(options, answer):
        return 0
    if options.verb == "resolve":
        print(f"conflict {answer['id']} is over: of {answer['group']}:{answer['path']} {options.keep} stays")
        return 0
    return _fetch_kept(answer, options.to)


def _fetch_kept(answer: Json, to: Path | None) -> int:
    """The member's files are on this machine, as its socket is."""
    if not answer["file"]:
        raise CommandError(f"conflict {answer['id']} had no bytes to keep")
    kept = Path(answer["file"])
    try:
        content = os.fsencode(os.readlink(kept)) if kept.is_symlink() else kept.read_bytes()
        if to is None:
            sys.stdout.buffer.write(content)
        else:
            to.write_bytes(content)
            print(f"{kept} copied to {to}")
    except OSError as error:
        raise CommandError(f"{error.filename}: {error.strerror}") from error
    return 0


def audit(options: argparse.Namespace) -> int:
    answer = ask(options, "audit", {"limit": str(options.limit)})
    if as_json(options, answer):
        return 0
    rows = [(c["at"], c["who"], c["origin"], c["what"], c["order"], c["outcome"]) for c in answer["changes"]]
    if rows:
        _show("changes", ("at", "who", "from", "what", "order", "outcome"), rows)
    else:
        print("no change was asked for")
    return 0


def where(options: argparse.Namespace) -> int:
    answer = ask(options, "where", {"path": options.place})
    if not as_json(options, answer):
        print(answer["summary"])
        rows = [
            (site, "yes" if state["landed"] else "no", state["withheld"] or "eligible")
            for site, state in answer["sites"].items()
        ]
        _show("", ("site", "landed", "for steering"), rows)
        if answer["fence_waits_for"]:
            print(f"not fenced: {answer['fence_waits_for']}")
    return 0 if answer["newest"] else 1


def wait(options: argparse.Namespace) -> int:
    query = {"path": options.place, "timeout": f"{options.timeout:g}"}
    if options.sites != "all":
        query["sites"] = options.sites
    _progress(f"waiting for {options.place} at {options.sites}, at most {options.timeout:g} s")
    try:
        answer = ask(options, "wait", query, timeout_seconds=options.timeout)
    finally:
        _progress("")
    if not as_json(options, answer):
        missing = ", ".join(f"{site} ({answer['why'][site]})" for site in answer["missing"])
        print("landed" if answer["landed"] else f"not landed at {missing}")
    return 0 if answer["landed"] else 1


def explain(options: argparse.Namespace) -> int:
    if options.all_networks:
        return _all_networks(options)
    query = {"name": options.name, "type": options.type}
    if options.client:
        query["client"] = options.client
    answer = ask(options, "explain", query)
    if as_json(options, answer):
        return 0
    print(answer["summary"])
    for key in ("ttl", "ttl_reason", "scope", "place", "none_used"):
        if answer.get(key) not in (None, ""):
            print(f"  {key.replace('_', ' ')}: {answer[key]}")
    rows = [
        (
            site["site"],
            "yes" if site["eligible"] else "no",
            *("-" if site[key] is None else site[key] for key in ("rank", "kilometres")),
            _round_trip(site),
            site["cost"],
            site["weight"],
            _load(site),
            site["reason"],
        )
        for site in answer["sites"]
    ]
    if rows:
        _show("", ("site", "eligible", "rank", "km", "rtt", "cost", "weight", "load", "why"), rows)
    return 0


def _round_trip(site: Json) -> str:
    """As measured at the site's edge, with the connections behind it."""
    milliseconds = site["round_trip_milliseconds"]
    return "-" if milliseconds is None else f"{milliseconds:.1f} ms ({site['connections']:.0f})"


def _load(site: Json) -> str:
    """Requests/s, and the marks where there are some."""
    load, marks = site["load"], [site["soft_load"], site["hard_load"]]
    text = "-" if load is None else f"{load:g}"
    return text if marks == [None, None] else f"{text} of {' to '.join(f'{mark:g}' for mark in marks if mark)}"


def _all_networks(options: argparse.Namespace) -> int:
    """Page by page, so that a map of any size is shown in bounded memory and from the first moment on."""
    if options.client:
        raise CommandError("--all-networks shows every client: expected no --client")
    after: str | None = ""
    while after is not None:
        page = ask(options, "map", {"name": options.name, "after": after})
        for row in page["networks"]:
            print(json.dumps(row) if options.json else _network(row))
        after = page["next"]
    return 0


def _network(row: Json) -> str:
    sent = "by hash" if row["by_hash"] else ", ".join(row["chosen"]) or "-"
    return f"{row['network']:<22} {sent:<12} {' '.join(row['order']) or '-'}  ({row['why']})"


# -- changing ---------------------------------------------------------------------------------------------------------


def drain(options: argparse.Namespace) -> int:
    return _drain(options, "drain")


def undrain(options: argparse.Namespace) -> int:
    return _drain(options, "undrain")


def _drain(options: argparse.Namespace, verb: str) -> int:
    answer = tell(options, verb, {"site": options.target, "group": options.group})
    if not as_json(options, answer):
        drained = ", ".join("everything" if group == "*" else group for group in answer["drained"])
        print(f"{answer['site']} is drained for {drained}" if drained else f"{answer['site']} is not drained")
    return 0


def freeze(options: argparse.Namespace) -> int:
    answer = tell(options, "freeze", {"reason": options.reason})
    if not as_json(options, answer):
        print(f"routes are frozen: {answer['reason']}")
    return 0


def thaw(options: argparse.Namespace) -> int:
    answer = tell(options, "thaw", {})
    if not as_json(options, answer):
        print("routes are not frozen")
    return 0


def scrub(options: argparse.Namespace) -> int:
    """Begins a pass and follows it."""
    groups = tell(options, "scrub", {"group": options.group})["groups"]
    wanted = [options.group] if options.group else list(groups)
    while not options.no_wait and not all(_scrubbed(groups[name]) for name in wanted):
        _progress("; ".join(f"{name}: {_scrub_words(groups[name]['pass'])}" for name in wanted))
        time.sleep(LOOK_SECONDS)
        groups = ask(options, "scrub")["groups"]
    _progress("")
    found = {name: groups[name] for name in wanted}
    if not as_json(options, {"groups": found}):
        for name, group in found.items():
            print(f"{name}: {_scrub_words(group['pass'])}")
            for reason in group["damaged"].values():
                print(f"  damaged: {reason}")
    return 1 if any(group["damaged_total"] for group in found.values()) else 0


def _scrubbed(group: Json) -> bool:
    return bool(group["pass"] and group["pass"]["asked"] and group["pass"]["over"])


def _scrub_words(done: Json | None) -> str:
    if done is None:
        return "not begun"
    seconds, size, total = max(done["seconds"], 0.001), done["bytes"], done["bytes_total"]
    rate = f"{done['files'] / seconds:.0f} files/s, {size / seconds / 1e6:.1f} MB/s"
    found = f"{done['damaged']} damaged, {done['repaired']} repaired"
    if done["over"]:
        return f"{done['files']} files, {size / 1e6:.1f} MB in {_age(seconds)} ({rate}), {found}"
    left = f", {_age(max(0.0, total - size) * seconds / size)} left" if size else ""
    files = f"{done['files']} of {done['files_total']} files"
    return f"{files}, {size / 1e6:.1f} of {total / 1e6:.1f} MB ({rate}{left}), {found}"


def _progress(text: str) -> None:
    """One line that is written over, where somebody looks."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def resync(options: argparse.Namespace) -> int:
    answer = tell(options, "resync", {"group": options.group})
    if not as_json(options, answer):
        groups = ", ".join(answer["groups"])
        print(f"{answer['member']} compares what it holds of {groups}; `anycastle status` says when that is over")
    return 0


def reload(options: argparse.Namespace) -> int:
    answer = tell(options, "reload", {})
    if not as_json(options, answer):
        print(f"reloaded: {', '.join(answer['reloaded'])}")
        if answer["needs_restart"]:
            print(f"changed, but needs a restart of the member: {', '.join(answer['needs_restart'])}")
        for warning in answer.get("warnings", ()):
            print(f"warning: {warning}")
    return 0


def restart(options: argparse.Namespace) -> int:
    """Asks for it, and looks until one of the two processes serves."""
    before, began = ask(options, "status"), time.monotonic()
    _progress("another process reads configuration and zones")
    answer = tell(options, "restart", {}, timeout_seconds=PREPARE_SECONDS_MAX)
    prepared = time.monotonic()
    _progress(f"process {answer['to']} takes over from {answer['from']}")
    while True:
        time.sleep(LOOK_SECONDS)
        with contextlib.suppress(CommandError):  # for a moment nobody listens, or the new one has no picture yet
            after = ask(options, "status")
            refused = next((note for note in after["notes"] if note.startswith(REFUSED_WORDS)), "")
            if refused or after["process"] == answer["to"]:
                break
        if time.monotonic() - prepared > TAKEOVER_SECONDS_MAX:
            raise CommandError(f"nobody serves {TAKEOVER_SECONDS_MAX:.0f} s after the restart: look at the log")
    _progress("")
    if refused:
        raise CommandError(refused)
    took = {"prepare_seconds": round(prepared - began, 1), "takeover_seconds": round(time.monotonic() - prepared, 1)}
    if not as_json(options, {**answer, "version": after["version"], **took}):
        versions = f"{after['version']} (process {answer['to']}) has taken over from {before['version']}"
        print(f"{after['member']}: {versions} (process {answer['from']}) after {took['takeover_seconds']:g} s")
    return 0


# -- how it looks -----------------------------------------------------------------------------------------------------


def as_json(options: argparse.Namespace, answer: Json) -> bool:
    if options.json:
        json.dump(answer, sys.stdout, indent=2)
        print()
    return bool(options.json)


def _show(title: str, columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(str, row))
    Console(width=None if sys.stdout.isatty() else 200, highlight=False, markup=False).print(table)


def _show_sites(found: list[Json]) -> None:
    rows = []
    for site in found:
        for name, group in site["groups"].items() or [("-", None)]:
            rows.append((site["name"], site["health"], name, *_group_words(site, group), site["reason"]))
    _show("sites", ("site", "health", "group", "steering", "lag", "pending", "reason"), rows)


def _group_words(site: Json, group: Json | None) -> tuple[str, str, str]:
    if group is None:
        return (site["withheld"] or "eligible", "-", "-")
    pending = ", ".join(group["pending"]) + (" …" if group["pending_total"] > len(group["pending"]) else "")
    return (group["withheld"] or "eligible", _age(group["lag_seconds"]), pending or "-")


def _link(link: Json) -> tuple[str, str, str, str, str]:
    return (link["peer"], link["state"], _age(link["since_seconds"]), str(link["protocol"] or "-"), link["reason"])


def _show_holds(holds: list[Json]) -> None:
    for hold in holds:
        print(f"routes: {hold['kind']} for {_age(hold['seconds'])}: {hold['reason']}")


def _show_routes(sessions: list[Json]) -> None:
    rows = [
        (s["peer"], s["asn"], _session(s), r["prefix"], _wanted(r), _acknowledged(r), r["reason"])
        for s in sessions
        for r in s["routes"]
    ]
    _show("routes", ("peer", "as", "session", "prefix", "wanted", "acknowledged", "why"), rows)


def _session(session: Json) -> str:
    """A session that is not up says why."""
    why = session["reason"] if session["state"] != "up" else ""
    state = f"{session['state']} for {_age(session['since_seconds'])}"
    return f"{state}: {why}" if why else state


def _wanted(route: Json) -> str:
    return f"{route['wanted']} for {_age(route['since_seconds'])}"


def _acknowledged(route: Json) -> str:
    """With what it waits for, when that is not what is wanted."""
    seconds = route["acknowledged_seconds"]
    state = route["acknowledged"] if seconds is None else f"{route['acknowledged']} for {_age(seconds)}"
    return f"{state}; {route['waits_for']}" if route["waits_for"] else str(state)


def _age(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds else "0 s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
