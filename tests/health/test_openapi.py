"""The OpenAPI document against the routes, and schemathesis against the running API by that document."""

import asyncio
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from aiohttp import web
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

from anycastle.clock import SystemClock
from anycastle.config_tokens import read_tokens
from anycastle.health.access import Access
from anycastle.health.audit import Audit
from anycastle.health.dashboard import PAGE_FILES, make_app
from anycastle.health.openapi import document
from tests.health.picture import Ports

TOKEN = "schema-0123456789abcdef"


class Quick(Ports):
    """Waits for nobody, and knows every site and group: what is refused is refused by its form."""

    async def wait(self, group: str, path: bytes, sites: tuple[str, ...], timeout_seconds: float) -> dict[str, Any]:
        return await super().wait(group, path, sites, 0.0)


def app_of(folder: Path) -> web.Application:
    (folder / "tokens").write_text(TOKEN)
    access = Access(folder / "tokens", read_tokens)
    return make_app(Quick(), access=access, audit=Audit(folder / "audit.log", SystemClock()))


def test_every_route_is_described_and_nothing_else(tmp_path: Path) -> None:
    served = {
        (route.method.lower(), route.resource.canonical)
        for route in app_of(tmp_path).router.routes()
        if route.resource is not None and route.method != "HEAD" and route.resource.canonical not in PAGE_FILES
    }
    described = {(method, path) for path, methods in document()["paths"].items() for method in methods}
    assert described == served


def test_every_reference_leads_somewhere_and_names_are_given_once() -> None:
    found = document()
    references = set(re.findall(r"'#/components/schemas/(\w+)'", repr(found)))
    assert references <= set(found["components"]["schemas"])
    operations = [each["operationId"] for methods in found["paths"].values() for each in methods.values()]
    assert len(operations) == len(set(operations))


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running API, in a loop of its own thread, since schemathesis asks and waits."""
    folder, loop, ready = tmp_path_factory.mktemp("api"), asyncio.new_event_loop(), threading.Event()
    runner = web.AppRunner(app_of(folder), shutdown_timeout=1.0, access_log=None)

    async def start() -> None:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        ready.set()

    def run() -> None:
        loop.run_until_complete(start())
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    assert ready.wait(20)
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    loop.call_soon_threadsafe(loop.stop)
    thread.join(20)


SCHEMA = schemathesis.openapi.from_dict(document()).exclude(path="/api/v1/events")
CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
    checks.ignored_auth,
    checks.unsupported_method,
]


@SCHEMA.parametrize()
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_api_is_what_the_document_says(case: schemathesis.Case, api: str) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    case.call_and_validate(base_url=api, headers=headers, checks=CHECKS)
