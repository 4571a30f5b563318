"""In which order things reach the disk, as the kernel saw it: `strace` of a real member in a process of its own.

What a power cut may take is what was not synced. So: content before its name, its name before the ledger says that it
landed, the ledger before anybody is told.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.replicator.cluster import cluster
from tests.replicator.members import until

CALLS = "openat,write,pwrite64,fsync,fdatasync,syncfs,sync_file_range,rename,renameat,renameat2,sendto,sendmsg,fchmod"
LINE = re.compile(r"^(?:\[pid +)?(\d+)\]? +(\w+)\((.*)$")

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


class Call(NamedTuple):
    name: str
    rest: str


def calls(trace: Path) -> list[Call]:
    lines = trace.read_text("utf-8", "replace").splitlines()
    matched = (LINE.match(line) for line in lines if " = -1 " not in line)
    return [Call(each[2], each[3]) for each in matched if each]


def first(found: list[Call], name: str, holding: str, after: int = -1) -> int:
    """Where the first such call stands behind another."""
    for at in range(after + 1, len(found)):
        if re.fullmatch(name, found[at].name) and re.search(holding, found[at].rest):
            return at
    near = "\n".join(f"{call.name}({call.rest[:150]}" for call in found[max(0, after) : after + 40])
    raise AssertionError(f"no {name} of {holding} after call {after}:\n{near}")


async def upload_and_land(folder: Path, path: str) -> None:
    """What runs under strace: two members; a file of 200 KB, which travels with its announcement."""
    async with cluster(folder, ("ams", "nyc")) as (ams, nyc):
        target = ams.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(os.urandom(200_000))
        assert await ams.fence() is None
        await until(lambda: nyc.has_landed(path), "landed")


def traced(tmp_path: Path, path: str) -> list[Call]:
    trace = tmp_path / "trace"
    command = ["strace", "-f", "-y", "-s", "120", "-o", str(trace), "-e", f"trace={CALLS},mkdirat"]
    run = f"asyncio.run(power.upload_and_land(pathlib.Path({str(tmp_path)!r}), {path!r}))"
    code = f"import asyncio, pathlib, tests.replicator.test_power as power; {run}"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)}
    subprocess.run([*command, sys.executable, "-c", code], check=True, timeout=100, env=environment)
    return calls(trace)


def test_content_then_name_then_ledger(tmp_path: Path) -> None:
    found = traced(tmp_path, "photo")
    temp = r"nyc/root/\.anycastle/tmp>, \"([0-9a-f]{24})\", O_RDWR\|O_CREAT"
    made = first(found, "openat", temp)
    name = re.search(temp, found[made].rest)
    assert name is not None
    written = first(found, "write|pwrite64", rf"tmp/{name[1]}>", made)
    attributes = first(found, "fchmod", rf"tmp/{name[1]}>", written)
    synced = first(found, "fsync|syncfs", rf"tmp/{name[1]}>|nyc/root>", attributes)
    renamed = first(found, "renameat2?", rf"\"{name[1]}\", .*\"photo\"", synced)
    folder = first(found, "fsync|syncfs", r"nyc/root>", renamed)
    before = [call for call in found[renamed:folder] if re.search(r"nyc/ledger\.sqlite-wal>", call.rest)]
    assert not before, "the ledger says nothing of it until its name is on the disk"
    first(found, "f(data)?sync", r"nyc/ledger\.sqlite-wal>", folder)


def test_nothing_is_announced_before_it_is_in_the_ledger(tmp_path: Path) -> None:
    found = traced(tmp_path, "photo")
    upload = first(found, "openat", r"ams/root/photo\", O_WRONLY\|O_CREAT")
    journaled = first(found, "f(data)?sync", r"ams/ledger\.sqlite-wal>", upload)
    told = next(at for at in range(upload, len(found)) if sent_bytes(found[at]) > 10_000)
    assert journaled < told


def sent_bytes(call: Call) -> int:
    """Of a TCP send; a lease takes some hundred, a piece of a body sixteen thousand."""
    size = re.search(r"= (\d+)$", call.rest)
    return int(size[1]) if call.name in ("sendto", "sendmsg") and size else 0


def test_folders_made_on_the_way_are_on_the_disk_too(tmp_path: Path) -> None:
    """Their own entries may come later; the file's ledger entry must not outlive its path."""
    found = traced(tmp_path, "new/deep/photo")
    renamed = first(found, "renameat2?", r"\"photo\"")
    landed = first(found, "f(data)?sync", r"nyc/ledger\.sqlite-wal>", renamed)
    for folder in ("", "/new", "/new/deep"):
        assert any(
            call.name in ("fsync", "syncfs") and re.search(rf"nyc/root({folder})?>", call.rest)
            for call in found[:landed]
        ), f"{folder or 'the root'} was synced"
