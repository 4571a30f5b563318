"""The access log: a line for each request, whoever is slow."""

import asyncio
import logging
import re
from pathlib import Path

import aiohttp
import pytest

from anycastle.replicator.edge_access import LINES_MAX, AccessLog, AccessLogError
from anycastle.replicator.edge_client import Proxies
from anycastle.replicator.gate import Refuse
from tests.replicator.edge_site import ALICE, site
from tests.replicator.members import until

LINE = re.compile(
    r'(\S+) - - \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "(.*?)" (\d{3}) (\d+) '
    r'"(.*?)" "(.*?)" "(.*?)" (\w+) "(.*?)" \d+\.\d{3}'
)


async def test_a_line_for_each_request(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    async with site(access_log=log) as ams, aiohttp.ClientSession(headers={"Host": ALICE}) as client:
        told = {"X-Forwarded-For": "192.0.2.7", "User-Agent": 'a "b" \\ c', "Referer": "http://r/"}
        async with client.get(ams.url("/a.jpg?x"), headers=told) as got:
            await got.read()
        async with client.post(ams.url("/new"), data=b"photo") as got:
            await got.read()
        ams.gate.read = Refuse("not current", 1)
        async with client.get(ams.url("/a.jpg")) as got:
            await got.read()
        reader, writer = await asyncio.open_connection(*ams.edge.addresses[0])
        writer.write(b"rub\xffbish\r\n\r\n")
        await reader.read()
        writer.close()
        await until(lambda: len(log.read_text().splitlines()) == 4, "all lines are there")
        found = [LINE.fullmatch(line) for line in log.read_text().splitlines()]
    first, second, third, last = (each.groups() if each else ("?",) for each in found)
    agent = r"a \x22b\x22 \x5c c"
    assert first[:3] == ("192.0.2.7", "GET /a.jpg?x HTTP/1.1", "200")
    assert first[4:] == ("http://r/", agent, ALICE, "ams", "serve")
    assert 100 < int(first[3]) < 1000, "bytes with the head"
    assert (second[0], second[1], second[2], second[8]) == ("127.0.0.1", "POST /new HTTP/1.1", "201", "write")
    assert (third[2], third[8]) == ("503", "refuse")
    assert (last[2], last[8]) == ("400", "-")


async def test_a_renamed_file_is_made_anew(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    async with site(access_log=log) as ams, aiohttp.ClientSession(headers={"Host": ALICE}) as client:
        for _ in range(2):
            async with client.get(ams.url()) as got:
                await got.read()
            await until(lambda: log.exists() and log.read_text(), "written")
            log.rename(tmp_path / "access.log.1")
        assert len((tmp_path / "access.log.1").read_text().splitlines()) == 1


async def test_nobody_waits_for_a_disk_that_stands_still(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    stands = threading.Event()
    monkeypatch.setattr(logging.FileHandler, "emit", lambda self, record: stands.wait(30) and None)
    log = AccessLog(tmp_path / "access.log", "ams", Proxies(()))
    with log.open():
        assert log.logger is not None
        for _ in range(LINES_MAX + 100):
            log.logger.info("line")
        assert 98 <= log.lost <= 100
        stands.set()


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    log = AccessLog(tmp_path / "none" / "access.log", "ams", Proxies(()))
    with pytest.raises(AccessLogError, match=r"edge\.access_log .* cannot be written"), log.open():
        pass
