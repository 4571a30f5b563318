"""How much memory one member takes more when its group grows: run in a process of its own, prints two numbers.

`python -m tests.replicator.memory_process FOLDER FEW MANY`: resident KiB with FEW files known, and with MANY more.
SQLite's page cache is made small first: it is bounded, and would hide what is not.
"""

import asyncio
import os
import sys
from pathlib import Path

from anycastle.replicator import schema
from tests.replicator.cluster import GROUP, Site, cluster

FILES_IN_FOLDER = 500


def resident_kib() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def make(root: Path, first: int, count: int) -> None:
    for number in range(first, first + count):
        folder = root / f"{number // FILES_IN_FOLDER}"
        if number % FILES_IN_FOLDER == 0:
            folder.mkdir()
        file = os.open(folder / f"photo-{number}.jpg", os.O_CREAT | os.O_WRONLY)
        os.write(file, b"%d" % number)
        os.close(file)


async def known(site: Site, count: int) -> None:
    while site.ledger.count_locals(GROUP) < count + count // FILES_IN_FOLDER or site.reason():  # noqa: ASYNC110
        await asyncio.sleep(0.1)


async def main(folder: Path, few: int, many: int) -> None:
    schema.CACHE_KIB = 2048
    async with cluster(folder, ("ams",), start=False) as (site,):
        make(site.root, 0, few)
        await site.start()
        await known(site, few)
        print(resident_kib(), flush=True)
        await site.stop()
        make(site.root, few, many)
        await site.start()  # found by a scan
        await known(site, few + many)
        print(resident_kib(), flush=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
