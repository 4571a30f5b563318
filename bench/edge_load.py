"""What the edge benchmark asks: wrk for requests, one selector loop for verdicts, single uploads with their time."""

import contextlib
import http.client
import re
import selectors
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.edge_systems import HOST
from bench.process import BenchError

_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


@dataclass(frozen=True, slots=True)
class Load:
    """One run of wrk."""

    per_second: float
    requests: int
    p50_seconds: float
    p99_seconds: float


def wrk(port: int, path: str, *, connections: int, seconds: int) -> Load:
    """One thread, kept connections. Raises BenchError, also for any answer that is no success."""
    command = [
        "wrk",
        "-t1",
        f"-c{connections}",
        f"-d{seconds}s",
        "--latency",
        "--timeout",
        "10s",
        "-H",
        f"Host: {HOST}",
    ]
    command.append(f"http://127.0.0.1:{port}{path}")
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30, check=False)
    return parse_wrk(done.stdout + done.stderr)


def parse_wrk(text: str) -> Load:
    if "Non-2xx" in text or "Socket errors" in text:
        raise BenchError(
            " / ".join(line.strip() for line in text.splitlines() if "Non-2xx" in line or "Socket" in line)
        )
    rate, count = re.search(r"Requests/sec:\s+([\d.]+)", text), re.search(r"(\d+) requests in", text)
    quantiles = {name: _seconds(value) for name, value in re.findall(r"(50|99)%\s+([\d.]+[a-z]+)", text)}
    if not rate or not count or len(quantiles) != 2:
        raise BenchError(f"wrk gave no statistics: {text.strip()[-300:]}")
    return Load(float(rate[1]), int(count[1]), quantiles["50"], quantiles["99"])


def _seconds(text: str) -> float:
    found = re.fullmatch(r"([\d.]+)([a-z]+)", text)
    assert found
    return float(found[1]) * _SECONDS[found[2]]


def checks(path: Path, uris: Sequence[str], *, connections: int, seconds: float) -> int:
    """Verdicts got in that time: each connection asks the next thing when it has the last answer, as nginx does."""
    asked = [f"GET / HTTP/1.1\r\nHost: {HOST}\r\nX-Original-URI: {uri}\r\n\r\n".encode() for uri in uris]
    done = 0
    with contextlib.ExitStack() as opened, selectors.DefaultSelector() as ready:
        for number in range(connections):
            sock = opened.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            sock.connect(str(path))
            sock.send(asked[number % len(asked)])
            ready.register(sock, selectors.EVENT_READ, sock)
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            for key, _ in ready.select(1.0):
                answer = key.data.recv(4096)
                if not answer.startswith(b"HTTP/1.1 204 "):
                    raise BenchError(f"a verdict was {answer[:60]!r}")
                done += 1
                key.data.send(asked[done % len(asked)])
    return done


def get(port: int, path: str) -> tuple[int, str]:
    """Status and verdict of one request; 0 when nobody listens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(connection):
        try:
            connection.request("GET", path, headers={"Host": HOST})
            answer = connection.getresponse()
            answer.read()
        except OSError:
            return 0, ""
        return answer.status, answer.headers["X-Anycastle-Verdict"] or ""


def upload_seconds(port: int, path: str, content: bytes) -> float:
    """From the first byte of the request to the last of the answer, over a kept connection. Raises BenchError."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        connection.connect()
        began = time.perf_counter()
        connection.request("POST", path, content, {"Host": HOST, "Content-Type": "application/octet-stream"})
        answer = connection.getresponse()
        answer.read()
        took = time.perf_counter() - began
    if answer.status != 200:
        raise BenchError(f"an upload was answered {answer.status}")
    return took
