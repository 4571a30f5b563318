"""Users in a process of their own: `python -m tests.e2e.gate_users PLAN`, what they saw goes to a file, a line each.

They upload photos and look at them, edit pages and read them, each request at a random site, through its nginx or its
built-in edge, with a time to think before it. They know nothing of the sites but their addresses.
"""

import asyncio
import random
import sys
import time
from pathlib import Path

import aiohttp
import msgspec

from tests.e2e.gate_history import Seen

PORTS = {"nginx": 80, "edge": 8080}
PATIENCE_SECONDS = 12.0
SIZES = {300: 8, 5_000: 6, 30_000: 3, 120_000: 2, 400_000: 1}
"""Of photos, bytes and how often; the last is too large to travel with its announcement."""
SHARES = {"upload": 6, "edit": 3, "file": 60, "page": 31}
END = ":end"


class Plan(msgspec.Struct, frozen=True):
    """What the users are told."""

    seed: int
    seconds: float
    users: int
    think_seconds: float
    """On average."""
    sites: dict[str, str]
    """Name -> address."""
    customers: int
    photos: int
    """Of each customer."""
    pages: int
    history: str
    """The file."""


class Users:
    """All of them."""

    def __init__(self, plan: Plan, http: aiohttp.ClientSession, history: "History") -> None:
        self._plan = plan
        self._http = http
        self._history = history
        self._written = 0

    async def live(self, number: int, until: float) -> None:
        """One user."""
        own = random.Random(self._plan.seed * 100_003 + number)
        await asyncio.sleep(own.uniform(0, self._plan.think_seconds))
        while time.monotonic() < until:
            await self.once(own)
            await asyncio.sleep(own.expovariate(1 / self._plan.think_seconds))

    async def once(self, own: random.Random) -> None:
        site, door = own.choice(list(self._plan.sites)), own.choice(list(PORTS))
        kind = own.choices(list(SHARES), list(SHARES.values()))[0]
        if kind in ("upload", "file"):
            path = f"customer{own.randrange(self._plan.customers)}/{own.randrange(self._plan.photos)}.jpg"
        else:
            path = f"wiki/page{own.randrange(self._plan.pages)}"
        await self.ask(kind, path, site, door, own.choices(list(SIZES), list(SIZES.values()))[0])

    async def ask(self, kind: str, path: str, site: str, door: str, size: int = 300) -> Seen:
        """One request, also noted in the history."""
        folder, _, name = path.partition("/")
        url = f"http://{self._plan.sites[site]}:{PORTS[door]}"
        headers = {"Host": "wiki.example.com" if folder == "wiki" else f"{folder}.photos.example.com"}
        token, data = None, None
        if kind in ("upload", "edit"):
            self._written += 1
            token = f"{self._plan.seed}.{self._written}"
        match kind:
            case "upload":
                data = aiohttp.FormData()
                data.add_field("photo", f"{token}:{'x' * size}{END}".encode(), filename=name)
                url += "/upload.php"
            case "edit":
                data = aiohttp.FormData({"page": name, "line": token})
                url += "/wiki.php"
            case "file":
                url += f"/photos/{name}"
            case "page":
                url += f"/wiki.php?page={name}"
        began, status, verdict = time.monotonic(), 0, ""
        try:
            async with self._http.request("POST" if data else "GET", url, data=data, headers=headers) as answer:
                body = await answer.text("latin-1")
                status, verdict = answer.status, answer.headers.get("X-Anycastle-Verdict", "")
                if status == 200 and token is None:
                    token = photo_token(body) if kind == "file" else page_token(body)
                elif status >= 500:
                    own_words = "nginx's own words" if body.startswith("<html>") else body.strip()[:200]
                    verdict = f"{verdict} {answer.headers.get('X-Anycastle-Reason') or own_words}".strip()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            verdict = type(error).__name__
        seen = Seen(path, kind, door, site, began, time.monotonic(), status, token, verdict)
        self._history.add(seen)
        return seen


def photo_token(body: str) -> str:
    """What was uploaded; with the word `half` when it is not all of it."""
    token = body.partition(":")[0]
    return token if body.endswith(END) else f"half {token}"


def page_token(body: str) -> str:
    """The newest line of a page: `page NAME, N edits`, a line each, `end`."""
    lines = body.split("\n")
    whole = lines[-2:] == ["end", ""] and lines[0].endswith(f", {len(lines) - 3} edits")
    return lines[-3] if whole else f"half {lines[1:2]} of {len(body)} bytes"


class History:
    """What was seen, written down as it comes."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=1 << 16)

    def add(self, seen: Seen) -> None:
        self._file.write(msgspec.json.encode(seen) + b"\n")

    def close(self) -> None:
        self._file.close()


def read_history(path: Path) -> list[Seen]:
    return [msgspec.json.decode(line, type=Seen) for line in path.read_bytes().splitlines()]


def session() -> aiohttp.ClientSession:
    timeout = aiohttp.ClientTimeout(total=PATIENCE_SECONDS)
    return aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0))


async def _live(plan: Plan) -> None:
    history = History(Path(plan.history))
    try:
        async with session() as http, asyncio.TaskGroup() as group:
            users, until = Users(plan, http, history), time.monotonic() + plan.seconds
            for number in range(plan.users):
                group.create_task(users.live(number, until))
    finally:
        history.close()


if __name__ == "__main__":
    asyncio.run(_live(msgspec.json.decode(sys.argv[1], type=Plan)))
