"""The alert rules, judged by Prometheus' own tool: well formed, firing on what they are for, and else silent."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

RULES = Path(__file__).parents[2] / "packaging" / "prometheus" / "anycastle.rules.yml"
STORY = Path(__file__).parent / "anycastle.rules.test.yml"

pytestmark = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (prometheus) is not installed")


def promtool(*words: str | Path) -> None:
    done = subprocess.run(["promtool", *words], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def play(folder: Path, story: str) -> None:
    file = folder / "story.yml"
    file.write_text(story.replace("[RULES]", f'["{RULES}"]'))
    promtool("test", "rules", file)


def test_the_rules_are_well_formed() -> None:
    promtool("check", "rules", RULES)


def test_each_alert_fires_on_what_it_is_for(tmp_path: Path) -> None:
    play(tmp_path, STORY.read_text())


def test_every_alert_is_in_the_story_twice() -> None:
    alerts = re.findall(r"- alert: (\w+)", RULES.read_text())
    assert len(alerts) == len(set(alerts)) == 10
    for alert in alerts:
        assert STORY.read_text().count(f"alertname: {alert}") >= 2, alert


@pytest.mark.parametrize("line", ["anycastle_bgp_session_up_bool", "up{job"])
def test_the_story_notices(tmp_path: Path, line: str) -> None:
    """What is broken in it must fail."""
    story = re.sub(rf"(series: '{re.escape(line)}.*values: )\"0x60\"", r'\1"1x60"', STORY.read_text())
    assert story != STORY.read_text()
    with pytest.raises(AssertionError, match="FAILED"):
        play(tmp_path, story)
