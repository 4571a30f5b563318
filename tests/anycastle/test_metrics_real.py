"""What a real member exports, against what is promised of it: the table, the alert rules, the dashboard of Grafana."""

import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import jsonschema_rs
import pytest
from prometheus_client.parser import text_string_to_metric_families

from anycastle.health.openapi import document
from tests.anycastle.members import ADDRESS, Members, running, until
from tests.ports import free_port

ROOT = Path(__file__).parents[2]
RULES = ROOT / "packaging" / "prometheus" / "anycastle.rules.yml"
GRAFANA = ROOT / "packaging" / "grafana" / "anycastle.json"
TABLE = ROOT / "docs" / "metrics.md"
WORD = re.compile(r"\banycastle_[a-z_]+\b")
MORE = """
[[routes]]
prefix = "198.51.100.0/24"
group = "photos"
allow_private = true

[edge]
certificates = [{ certificate = "pki/{site}.pem", key = "pki/{site}.key" }]
"""


@pytest.fixture(scope="module")
def pair() -> Iterator[Members]:
    """Two members with everything on: nameserver, edge with TLS, verdicts, routes to a router that is not there."""
    peer = f'{{ address = "{ADDRESS}", as = 64499, port = {free_port(ADDRESS)} }}'
    bgp = f'bgp = {{ router_id = "{ADDRESS}", local_as = 64501, user = "nobody", peers = [{peer}] }}'
    with running("ams", "nyc", site_more=bgp, more=MORE, face=True) as made:
        url = f"http://{ADDRESS}:{made.sites['ams'].edge}/a.jpg"
        host = {"Host": "alice.photos.example.com"}
        for request in (
            urllib.request.Request(url, data=b"x", method="POST", headers=host),
            urllib.request.Request(url, headers=host),
        ):
            with urllib.request.urlopen(request, timeout=20) as answer:
                assert answer.status in (200, 201)
        made.lookup("alice.photos.example.com")
        yield made


def text(made: Members, path: str) -> str:
    with urllib.request.urlopen(f"http://{ADDRESS}:{made.sites['ams'].dashboard}{path}", timeout=10) as answer:
        found: str = answer.read().decode()
        return found


@pytest.fixture(scope="module")
def exported(pair: Members) -> dict[str, str]:
    """Name -> type; taken when the workers have told their first counts."""
    until(lambda: "anycastle_dns_queries_total" in text(pair, "/metrics"), "the workers have counted", 20)
    found = {}
    for family in text_string_to_metric_families(text(pair, "/metrics")):
        found[family.name + ("_total" if family.type == "counter" else "")] = family.type
    return found


def table() -> dict[str, str]:
    """Name, where capitals stand for what differs -> type, as the documentation has it."""
    rows = re.findall(
        r"^\| `(anycastle_[A-Za-z_]+)(?:\{[a-z, ]+\})?` \| (gauge|counter) \|", TABLE.read_text(), re.MULTILINE
    )
    assert len(rows) == len(dict(rows)), "each metric has one row"
    return dict(rows)


def pattern(name: str) -> str:
    return re.sub(r"[A-Z]+", "[a-z0-9_]+", name)


def test_every_metric_is_in_the_table_with_its_type(exported: dict[str, str]) -> None:
    rows = table()
    missing = {
        f"{name} ({kind})"
        for name, kind in exported.items()
        if not any(re.fullmatch(pattern(row), name) and kind == said for row, said in rows.items())
    }
    assert not missing


def test_the_table_has_nothing_else(exported: dict[str, str]) -> None:
    """Rows with capitals are of what happened, and need not have happened here."""
    assert not {row for row in table() if row.islower() and row not in exported}


@pytest.mark.parametrize("file", [RULES, GRAFANA], ids=["rules", "grafana"])
def test_what_is_looked_at_is_exported(exported: dict[str, str], file: Path) -> None:
    named = set(WORD.findall(file.read_text()))
    assert len(named) > 8
    assert not {name for name in named if name not in exported}


def test_the_labels_that_rules_and_dashboard_use_are_there(pair: Members) -> None:
    families = text_string_to_metric_families(text(pair, "/metrics"))
    labels = {sample.name: set(sample.labels) for family in families for sample in family.samples}
    for file in (RULES, GRAFANA):
        for name, inside in re.findall(r"(anycastle_[a-z_]+)\{([^}]*)\}", file.read_text().replace('\\"', '"')):
            used = {part.split("=")[0].rstrip("!~ ") for part in inside.split(",")} - {"instance", "job", ""}
            assert used <= labels.get(name, used), name


def test_the_dashboard_is_what_grafana_imports() -> None:
    found = json.loads(GRAFANA.read_text())
    assert found["uid"] == "anycastle"
    assert {panel["type"] for panel in found["panels"]} <= {"timeseries", "stat", "table", "row", "state-timeline"}
    assert all(panel["targets"] for panel in found["panels"] if panel["type"] != "row")
    assert len({panel["id"] for panel in found["panels"]}) == len(found["panels"])


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/status",
        "/api/v1/sites",
        "/api/v1/routes",
        "/api/v1/plan",
        "/api/v1/lag",
        "/api/v1/conflicts",
        "/api/v1/where?path=photos:alice/a.jpg",
        "/api/v1/explain?name=alice.photos.example.com",
        "/api/v1/map?name=alice.photos.example.com",
        "/api/v1/scrub",
        "/api/v1/wait?path=photos:alice/a.jpg&timeout=0",
    ],
)
def test_a_real_members_answers_are_what_the_document_says(pair: Members, path: str) -> None:
    described = document()
    answers = described["paths"][path.partition("?")[0]]["get"]["responses"]["200"]["content"]
    schema = {**answers["application/json"]["schema"], "components": described["components"]}
    jsonschema_rs.validate(schema, json.loads(text(pair, path)))
