"""A little upload application that knows nothing of Anycastle: one folder for each customer, photos in it.

POST /NAME   stores the body as NAME      GET /NAME   gives it back      GET /health   says ok
"""

import argparse
import re
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PHOTO = re.compile(r"/([A-Za-z0-9][A-Za-z0-9._-]{0,100})")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    root: Path

    def do_GET(self) -> None:
        if self.path == "/health":
            self._answer(HTTPStatus.OK, b"ok\n")
            return
        photo = self._photo()
        if photo is None or not photo.is_file():
            self._answer(HTTPStatus.NOT_FOUND, b"no such photo\n")
            return
        self._answer(HTTPStatus.OK, photo.read_bytes(), "image/jpeg")

    do_HEAD = do_GET

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        photo = self._photo()
        if photo is None:
            self._answer(HTTPStatus.BAD_REQUEST, b"a photo needs a plain name\n")
            return
        photo.parent.mkdir(parents=True, exist_ok=True)
        photo.write_bytes(body)  # in place, as simple software does
        self._answer(HTTPStatus.CREATED, b"stored\n")

    def _photo(self) -> Path | None:
        customer = self.headers.get("Host", "").split(".")[0]
        name = PHOTO.fullmatch(self.path)
        if not name or not re.fullmatch(r"[a-z0-9-]{1,63}", customer):
            return None
        return self.root / customer / name[1]

    def _answer(self, status: HTTPStatus, body: bytes, kind: str = "text/plain") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listen", default="127.0.0.1:8090")
    parser.add_argument("--root", type=Path, required=True)
    options = parser.parse_args()
    host, _, port = options.listen.rpartition(":")
    Handler.root = options.root
    ThreadingHTTPServer((host, int(port)), Handler).serve_forever()


if __name__ == "__main__":
    main()
