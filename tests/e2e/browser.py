"""What a browser does with the pages of an application: keeps cookies, sends forms and files."""

import random
import re
import struct
import uuid
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from urllib.parse import urlencode

from tests.e2e.application_sites import Answer, ApplicationSites


@dataclass
class Browser:
    """One user of one host; each request says at which site it arrives."""

    sites: ApplicationSites
    host: str
    cookies: dict[str, str] = field(default_factory=dict)

    def get(self, site: str, path: str) -> Answer:
        return self._ask(site, path, "GET", None, {})

    def post(self, site: str, path: str, form: Mapping[str, str]) -> Answer:
        body = urlencode(form).encode()
        return self._ask(site, path, "POST", body, {"Content-Type": "application/x-www-form-urlencoded"})

    def upload(self, site: str, path: str, form: Mapping[str, str], field: str, name: str, content: bytes) -> Answer:
        """A form with a file in it (RFC 7578)."""
        edge = uuid.uuid4().hex
        texts = "".join(
            f'--{edge}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'
            for key, value in form.items()
        )
        head = f'--{edge}\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n'
        body = f"{texts}{head}Content-Type: image/png\r\n\r\n".encode() + content + f"\r\n--{edge}--\r\n".encode()
        return self._ask(site, path, "POST", body, {"Content-Type": f"multipart/form-data; boundary={edge}"})

    def _ask(self, site: str, path: str, method: str, body: bytes | None, headers: dict[str, str]) -> Answer:
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        more = {"Cookie": cookie} if cookie else {}
        answer = self.sites.ask(site, self.host, path, method=method, body=body, headers=headers | more)
        for line in answer.headers.get_all("Set-Cookie") or ():
            self.cookies |= {name: morsel.value for name, morsel in SimpleCookie(line).items()}
        return answer


def found(pattern: str, page: Answer) -> str:
    """The first group of what must be in the page."""
    matched = re.search(pattern, page.text)
    assert matched, f"no {pattern} in {page.status} {dict(page.headers)}: {page.text[-2000:]}"
    return matched[1]


def picture(width: int, height: int, seed: int) -> bytes:
    """A PNG of noise, so that it stays large; another one for each `seed`."""
    noise = random.Random(seed)
    lines = b"".join(b"\0" + noise.randbytes(width * 3) for _ in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pieces = ((b"IHDR", header), (b"IDAT", zlib.compress(lines, 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(map(_chunk, pieces))


def size_of(picture: bytes) -> tuple[int, int]:
    """Width and height of a PNG."""
    assert picture.startswith(b"\x89PNG\r\n\x1a\n"), picture[:200]
    width, height = struct.unpack(">II", picture[16:24])
    return width, height


def _chunk(piece: tuple[bytes, bytes]) -> bytes:
    kind, body = piece
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
