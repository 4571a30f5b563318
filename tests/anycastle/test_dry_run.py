"""A view in a file, and what routers would be told of it."""

from pathlib import Path

import msgspec
import pytest

from anycastle.cli import main
from anycastle.config import load_config
from anycastle.dry_run import DryRunError, dry_run, read_view
from anycastle.health.view import GroupView, Health, SiteView, View

EXAMPLE = Path(__file__).parents[2] / "examples" / "three-sites.toml"
PREFIX = "198.51.100.0/24"


def view(health: Health = Health.UP, pending: dict[bytes, float] | None = None) -> View:
    photos = GroupView(current=True, current_reason="3 of 3 leases", pending=pending or {})
    told = frozenset({PREFIX})
    own = SiteView(health=health, reason="no answer", since=0.0, groups={"photos": photos}, announced=told)
    other = SiteView(health=Health.UP, reason="well", since=0.0, groups={"photos": photos}, announced=told)
    return View(member="ams", generation=7, at=1000.0, sites={"ams": own, "nyc": other})


def written(tmp_path: Path, value: object) -> Path:
    file = tmp_path / "view.json"
    file.write_bytes(msgspec.json.encode(value))
    return file


def test_a_view_survives_the_file_and_an_answer_that_has_one_will_do(tmp_path: Path) -> None:
    seen = view(pending={b"alice/": 1.5, b"\xff": 2.0})
    assert read_view(written(tmp_path, seen)) == seen
    answer = dry_run(load_config(EXAMPLE), None, written(tmp_path, seen))
    assert read_view(written(tmp_path, answer)) == seen


def test_the_plan_of_a_file_needs_no_member(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path, view(Health.DOWN))
    assert main(["routes", "--config", str(EXAMPLE), "--dry-run", "--view", str(file)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"withdraw {PREFIX} (withdrawn): down: no answer; 1 other sites announce",
        "announce 203.0.113.53/32 (normal): local DNS is well",
    ]
    # Of another site of the same view: it is well, and announces what it should but for its nameserver.
    assert main(["routes", "--config", str(EXAMPLE), "--site", "nyc", "--dry-run", "--view", str(file)]) == 0
    assert capsys.readouterr().out.splitlines() == ["announce 203.0.113.53/32 (normal): local DNS is well"]


def test_what_the_limit_would_hold_back_is_said(tmp_path: Path) -> None:
    text = EXAMPLE.read_text().replace("local_as = 64501", "local_as = 64501, changes_max = 1", 1)
    more = '[[routes]]\nprefix = "192.0.2.0/24"\nallow_private = true\ngroup = "photos"\n\n[geo]'
    config = tmp_path / "a.toml"
    config.write_text(text.replace("[geo]", more, 1))
    seen = view(Health.DOWN)
    both = frozenset({PREFIX, "192.0.2.0/24"})
    sites = {name: msgspec.structs.replace(site, announced=both) for name, site in seen.sites.items()}
    file = written(tmp_path, msgspec.structs.replace(seen, sites=sites))
    answer = dry_run(load_config(config), "ams", file)
    assert [change["prefix"] for change in answer["changes"]] == ["203.0.113.53/32"]
    assert {(held["change"], held["prefix"]) for held in answer["held"]} == {("withdraw", p) for p in both}
    assert all(held["reason"].startswith("refused, too many changes at once") for held in answer["held"])


@pytest.mark.parametrize("data", [b"", b"[]", b"3", b"\xff", b'{"view": {}}', b'{"member": "ams"}'])
def test_a_file_without_a_view_is_one_clear_line(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "view.json"
    file.write_bytes(data)
    with pytest.raises(DryRunError, match=r"holds no view .*expected what `anycastle routes --dry-run --json` prints"):
        read_view(file)
    with pytest.raises(DryRunError, match="cannot be read"):
        read_view(tmp_path / "none")
