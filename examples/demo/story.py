"""The demo: a photo uploaded at one site is never missing or wrong at another. Each observed fact is printed with its
time; the first that is false ends the story with exit status 1.

    script/demo --once    play it and exit        script/demo    leave three sites running, with commands to try
"""

import argparse
import asyncio
import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from examples.demo.cluster import PREFIX, SITES, Cluster, cluster, ports_in_use

TERM_SECONDS = 3.0
"""The lease term of examples/three-sites.toml."""
UPLOADS = 100
OVERWRITES = 30
BIG_BYTES = 20 * 1000 * 1000
TRICKLE_BYTES_PER_SECOND = 2_500_000.0


class Untrue(Exception):
    """A fact that the story tells did not hold."""


class Story:
    """Says what it sees."""

    def __init__(self, running: Cluster) -> None:
        self.c = running
        self.began = time.monotonic()
        self.facts = 0

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self.began:7.2f} s  {text}", flush=True)

    def fact(self, true: object, text: str) -> None:
        """`text` is claimed; it must be so."""
        if not true:
            self.say(f"FALSE: {text}")
            raise Untrue(text)
        self.facts += 1
        self.say(f"ok     {text}")

    def chapter(self, text: str) -> None:
        print(f"\n{text}", flush=True)

    async def until(self, true: Callable[[], Awaitable[object]], what: str, *, seconds: float) -> float:
        """Wait until it is so; returns after how many seconds it was."""
        began = time.monotonic()
        while not await true():
            if time.monotonic() - began > seconds:
                self.fact(False, f"{what}, within {seconds:g} s")
            await asyncio.sleep(0.02)
        return time.monotonic() - began

    # -- small questions ------------------------------------------------------------------------------------------

    async def gives(self, near: str, site: str | None, *, customer: str = "alice", at: str = "ams") -> bool:
        return await self.c.resolve(at, customer, near) == site

    async def ready(self) -> bool:
        """All sites are eligible for everybody near them, and announced."""
        for site, process in self.c.members.items():
            if process.poll() is not None:
                self.fact(False, f"{site} runs (it ended with status {process.returncode})")
        nearest = [await self.gives(site, site, at=at) for site in SITES for at in SITES]
        return all(nearest) and self.c.routes() == set(SITES)

    async def same_everywhere(self, customer: str, photo: str, body: bytes) -> bool:
        return all(self.c.photo_on_disk(site, customer, photo) == body for site in SITES)


async def steering(s: Story) -> None:
    s.chapter("Three sites start; each client is sent to the nearest")
    took = await s.until(s.ready, "all sites are up, steered to and announced", seconds=60)
    s.fact(
        True, f"all three sites are up, steered to, and announce {PREFIX} to the route collector (after {took:.1f} s)"
    )
    s.fact(await s.gives("nyc", "nyc"), "a client near nyc resolves alice.photos.example.com with ECS and gets nyc")
    why = await s.c.command("ams", "explain", "alice.photos.example.com", "--client", "10.2.7.0")
    s.fact(why["answers"][0].endswith(SITES["nyc"]), f"explain gives the same answer: {why['summary']}")
    s.fact(all(site["reason"] for site in why["sites"]), "with a reason for each site")
    for site in why["sites"]:
        s.say(f"         {site['site']}: {site['reason']}")


async def uploads(s: Story) -> None:
    s.chapter(f"{UPLOADS} photos are uploaded at ams, and fetched elsewhere the moment success comes back")
    right, slowest = 0, 0.0
    for i in range(UPLOADS):
        body = f"photo {i} ".encode() * 1000
        began = time.monotonic()
        stored = await s.c.upload("ams", "alice", f"p{i}.jpg", body)
        slowest = max(slowest, time.monotonic() - began)
        if stored.status != 201:
            s.fact(False, f"upload {i} succeeds (it was answered {stored.status}: {stored.body!r})")
        got = await asyncio.gather(*(s.c.get(site, "alice", f"p{i}.jpg") for site in ("nyc", "sgp")))
        right += all(answer.status == 200 and answer.body == body for answer in got)
    s.fact(
        right == UPLOADS, f"{right} of {UPLOADS} uploads were right at nyc and sgp at once (slowest {slowest:.3f} s)"
    )

    s.chapter("The same photo is overwritten again and again, at changing sites")
    right, names = 0, list(SITES)
    for i in range(OVERWRITES):
        body = os.urandom(2000)
        at = names[i % 3]
        stored = await s.c.upload(at, "alice", "same.jpg", body)
        got = await asyncio.gather(*(s.c.get(site, "alice", "same.jpg") for site in SITES))
        right += stored.status == 201 and all(answer.body == body for answer in got)
    s.fact(right == OVERWRITES, f"{right} of {OVERWRITES} overwrites were never answered with old bytes, at any site")


async def trickle(s: Story) -> None:
    s.chapter(
        "A big file leaves ams over a thin link: users of that content are steered to it, others are not disturbed"
    )
    await s.until(s.ready, "everything has settled", seconds=20)
    s.c.relays.slow_down("ams", TRICKLE_BYTES_PER_SECOND)
    body = os.urandom(BIG_BYTES)
    stored = await s.c.upload("ams", "bob", "big.jpg", body)
    s.fact(stored.status == 201, f"a file of {BIG_BYTES // 1000**2} MB is uploaded at ams, and answered with success")
    s.fact(not await s.gives("nyc", "nyc", customer="bob"), "at once nyc is withheld in DNS for bob's name")
    s.fact(not await s.gives("sgp", "sgp", customer="bob"), "and so is sgp")
    s.fact(await s.gives("nyc", "nyc", customer="carol"), "for carol's name nyc is given as before")
    s.fact(s.c.photo_on_disk("nyc", "bob", "big.jpg") is None, "the file has not landed at nyc")
    where = await s.c.command("nyc", "where", "photos:bob/big.jpg")
    s.fact(where["sites"]["nyc"]["withheld"], f"where says why: {where['sites']['nyc']['withheld']}")
    got = await s.c.get("nyc", "bob", "big.jpg")
    s.fact(got.status == 200 and got.body == body, f"nyc serves it all the same, right to the byte ({got.verdict})")
    took = await s.until(lambda: s.gives("nyc", "nyc", customer="bob"), "DNS gives nyc again", seconds=90)
    s.fact(
        s.c.photo_on_disk("nyc", "bob", "big.jpg") == body,
        f"it has landed at nyc, and DNS gives nyc again ({took:.1f} s)",
    )
    s.c.relays.slow_down("ams", None)


async def killed(s: Story) -> None:
    s.chapter("nyc is killed")
    await s.until(s.ready, "everything has settled", seconds=60)
    s.c.kill("nyc")
    began = time.monotonic()
    stored = await s.c.upload("ams", "alice", "after.jpg", b"after the kill")
    took = time.monotonic() - began
    s.fact(stored.status == 201, f"an upload at ams succeeds {took:.2f} s after the kill")
    s.fact(took <= TERM_SECONDS * 1.1 + 0.5, f"that is within one lease term of {TERM_SECONDS:g} s")
    gone = await s.until(lambda: s.gives("nyc", "ams"), "DNS stops giving nyc", seconds=15)
    s.fact(True, f"DNS gives clients near nyc the next site instead ({took + gone:.1f} s after the kill)")

    async def withdrawn() -> bool:
        return s.c.routes() == {"ams", "sgp"}

    await s.until(withdrawn, "the collector sees nyc's route go", seconds=15)
    s.fact(True, f"the collector has seen nyc's route go ({time.monotonic() - began:.1f} s after the kill)")
    missed = {f"missed{i}.jpg": os.urandom(50_000) for i in range(20)}
    began = time.monotonic()
    answers = [await s.c.upload("ams", "alice", name, body) for name, body in missed.items()]
    each = (time.monotonic() - began) / len(missed)
    s.fact(all(a.status == 201 for a in answers), f"20 more uploads at ams succeed ({each:.3f} s each)")

    s.c.start_member("nyc")

    async def given_or_announced() -> bool:
        return await s.gives("nyc", "nyc") or "nyc" in s.c.routes()

    took = await s.until(given_or_announced, "nyc comes back", seconds=60)
    here = [s.c.photo_on_disk("nyc", "alice", name) == body for name, body in missed.items()]
    s.fact(all(here), f"nyc comes back, and had all it missed before anybody was sent there ({took:.1f} s)")
    await s.until(s.ready, "nyc is steered to and announced again", seconds=60)
    s.fact(True, "nyc is steered to and announced again")


async def cut_off(s: Story) -> None:
    s.chapter("ams is cut off from the others")
    await s.c.upload("nyc", "alice", "both.jpg", b"before")
    await s.until(s.ready, "everything has settled", seconds=20)
    s.c.relays.cut("ams", True)

    async def refuses() -> bool:
        return (await s.c.get("ams", "alice", "both.jpg")).status == 503

    took = await s.until(refuses, "ams refuses what it cannot vouch for", seconds=10)
    s.fact(True, f"ams refuses to serve what it cannot vouch for ({took:.1f} s after the cut)")
    await s.until(lambda: s.gives("ams", "nyc", at="ams"), "its own nameserver leaves it out", seconds=10)
    s.fact(True, "its own nameserver leaves it out: clients near ams are given nyc")
    stored = await s.c.upload("ams", "alice", "lost.jpg", b"never")
    s.fact(stored.status == 503, "and refuses an upload, honestly")
    stored = await s.c.upload("nyc", "alice", "both.jpg", b"edited at nyc")
    s.fact(stored.status == 201, "nyc goes on accepting")
    got = await s.c.get("sgp", "alice", "both.jpg")
    s.fact(got.status == 200 and got.body == b"edited at nyc", "and sgp serves what nyc accepted")
    beside = await s.c.upload_beside_the_edge("ams", "alice", "both.jpg", b"edited at ams, beside the edge")
    s.fact(beside == 201, "somebody edits the same photo at ams beside the edge")
    s.c.relays.cut("ams", False)

    async def known() -> bool:
        for site in SITES:
            found = (await s.c.command(site, "conflicts"))["conflicts"]
            if any(conflict["path"] == "alice/both.jpg" for conflict in found):
                kept.extend((site, conflict) for conflict in found if conflict["path"] == "alice/both.jpg")
                return True
        return False

    async def same() -> bool:
        return len({s.c.photo_on_disk(site, "alice", "both.jpg") for site in SITES}) == 1

    kept: list[tuple[str, dict[str, str]]] = []
    await s.until(same, "the cut heals and all sites agree", seconds=30)
    await s.until(known, "the conflict is listed", seconds=15)
    winner = s.c.photo_on_disk("sgp", "alice", "both.jpg")
    site, conflict = kept[0]
    loser = (s.c.folder / "content" / site / conflict["kept"]).read_bytes()
    both = {winner, loser}
    s.fact(both == {b"edited at nyc", b"edited at ams, beside the edge"}, "the cut heals; both versions are kept")
    s.fact(
        True, f"conflicts says at {site}: {conflict['winner']} won over {conflict['loser']}, kept at {conflict['kept']}"
    )
    await s.until(s.ready, "all sites are steered to again", seconds=30)
    got = [await s.c.get(site, "alice", f"missed{i}.jpg") for site in SITES for i in (0, 19)]
    s.fact(all(answer.status == 200 for answer in got), "nothing else was lost")


async def drained(s: Story) -> None:
    s.chapter("An operator drains nyc")
    await s.c.command("ams", "drain", "nyc")
    await s.until(lambda: s.gives("nyc", "ams", at="sgp"), "DNS moves users away", seconds=5)
    s.fact(True, "users near nyc are moved away, also by the nameserver at sgp")
    s.c.stop("ams")
    s.c.start_member("ams")
    await s.until(lambda: s.gives("nyc", "ams", at="ams"), "ams is back", seconds=60)
    s.fact(True, "the drain survives a restart of the member where it was said")
    await s.c.command("sgp", "undrain", "nyc")
    await s.until(s.ready, "nyc is given and announced again", seconds=30)
    s.fact(True, "after undrain nyc is given and announced again")


CHAPTERS = (steering, uploads, trickle, killed, cut_off, drained)


async def play(folder: Path) -> int:
    """The whole story; the exit status."""
    async with cluster(folder) as running:
        story = Story(running)
        try:
            for chapter in CHAPTERS:
                await chapter(story)
        except Untrue:
            for site in SITES:
                print(f"\n--- the end of {site}'s log ---\n{_tail(folder / f'{site}.log')}", flush=True)
            return 1
    print(f"\n{story.facts} facts observed, all true, in {time.monotonic() - story.began:.0f} s")
    return 0


def _tail(log: Path, lines: int = 25) -> str:
    return "\n".join(log.read_text("utf-8", "replace").splitlines()[-lines:]) if log.exists() else "(none)"


async def stay(folder: Path) -> int:
    """Three running sites, until interrupted."""
    async with cluster(folder) as running:
        story = Story(running)
        print("starting three sites …", flush=True)
        await story.until(story.ready, "all sites are up", seconds=60)
        command = f"anycastle {{}} --config {running.config} --site ams"
        print(
            f"""
Three sites are running. Their dashboards: {"  ".join(f"http://{address}:9080/" for address in SITES.values())}
Things to try (in another terminal, after: . .venv/bin/activate):

  kdig @127.0.1.1 -p 5300 alice.photos.example.com +subnet=10.2.0.0/24
  curl -H 'Host: alice.photos.example.com' --data-binary @README.md http://127.0.1.1:8080/readme.jpg
  curl -i -H 'Host: alice.photos.example.com' http://127.0.1.2:8080/readme.jpg
  {command.format("where photos:alice/readme.jpg")}
  {command.format("explain alice.photos.example.com --client 10.2.0.1")}
  {command.format("status")}
  {command.format("drain nyc")}

Everything is below {folder}, logs included. Ctrl-C ends it.""",
            flush=True,
        )
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="script/demo", description=__doc__)
    parser.add_argument("--once", action="store_true", help="play the story and exit")
    options = parser.parse_args()
    if taken := ports_in_use():
        print(f"demo: {taken}", file=sys.stderr)
        return 2
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # also when a script started us with them ignored
        signal.signal(number, signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="anycastle-demo-"))
    try:
        with contextlib.suppress(KeyboardInterrupt):
            return asyncio.run((play if options.once else stay)(folder))
        return 0
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
