"""House rules as tests: what may import what, what a core may touch, and how things are named."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PARTS = ("dns", "bgp", "replicator", "health")
TOP = ROOT / "src" / "anycastle"
LAYERS = (
    *("errors", "clock", "config_read", "config_values", "config_prefixes", "config_routes", "config_edge"),
    "config_profile",
    "config_probes",
    *("config_parts", "config_tokens", "config_log", "config_zones", "config"),
)
"""Modules of src/anycastle below the composition; `app` and what follows may import every part."""
SHARED = {"anycastle.errors", "anycastle.clock", "anycastle.health.view"}
CORES = {
    "dns": (
        "zone",
        "zone_build",
        "node_table",
        "difference",
        "wire",
        "edns",
        "rrset",
        "reply",
        "geo",
        "measured",
        "fastest",
        "closeness",
        "rank",
        "standing",
        "steer",
        "respond",
        "serial",
        "transfer",
        "tsig",
        "secondary",
        "limit",
        "cookie",
        "service",
        "decider",
        "touched",
        "view_change",
        "template",
        "shelf",
    ),
    "bgp": ("route", "addresses", "damp", "restrain", "decide", "exabgp", "reconcile"),
    "replicator": (
        *("entry", "message", "event", "fence", "feed", "pursuit", "coarse", "intake", "landed_board"),
        *(
            "progress_vector",
            "controller",
            "reception",
            "stable",
            "memory",
            "gate",
            "flight",
            "edge_target",
            "edge_request",
            "edge_client",
            "edge_affinity",
            "edge_reason",
            "edge_hosts",
            "link_frame",
            "fanotify_record",
            "pace",
            "packing",
            "trouble",
        ),
    ),
    "health": ("view", "observe", "judge", "backlog", "drain", "event", "series", "report"),
}
IMPURE = {  # pathlib is allowed: settings name files, and a path is a value until somebody opens it
    "asyncio",
    "logging",
    "os",
    "random",
    "secrets",
    "socket",
    "subprocess",
    "threading",
    "time",
    "anycastle.clock",
}
FILE_LINES_MAX = 600
"""Hardly any file over 300; this catches the one that grows without end."""


def sources() -> list[Path]:
    return [path for part in PARTS for path in sorted((ROOT / part).glob("*.py"))] + sorted(TOP.glob("*.py"))


def imports(path: Path) -> set[str]:
    """Absolute names of all modules that a file imports, wherever in the file."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            if node.module in ("anycastle", *(f"anycastle.{part}" for part in PARTS)):
                found |= {f"{node.module}.{name.name}" for name in node.names}
    return found


def label(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", [path for part in PARTS for path in sorted((ROOT / part).glob("*.py"))], ids=label)
def test_parts_import_only_themselves_and_the_shared_words(path: Path) -> None:
    own = f"anycastle.{path.parent.name}"
    ours = {name for name in imports(path) if name.split(".")[0] == "anycastle" and name not in (own, "anycastle")}
    strangers = {name for name in ours if not name.startswith(own + ".") and name not in SHARED | {"anycastle.health"}}
    assert not strangers, f"{label(path)} reaches outside its part"


def test_the_shared_words_import_nothing_of_ours() -> None:
    assert not {name for name in imports(ROOT / "health" / "view.py") if name.startswith("anycastle")}
    assert not {name for name in imports(TOP / "errors.py") if name.startswith("anycastle")}


@pytest.mark.parametrize("name", LAYERS)
def test_configuration_knows_settings_but_not_the_program(name: str) -> None:
    ours = {each for each in imports(TOP / f"{name}.py") if each.startswith("anycastle.")}
    allowed = {f"anycastle.{layer}" for layer in LAYERS} | {f"anycastle.{part}.settings" for part in PARTS} | SHARED
    assert ours <= allowed


@pytest.mark.parametrize(("part", "name"), [(part, name) for part, names in CORES.items() for name in names])
def test_cores_are_pure(part: str, name: str) -> None:
    path = ROOT / part / f"{name}.py"
    assert not {each for each in imports(path) if each.split(".")[0] in IMPURE or each in IMPURE}, label(path)
    tree = ast.parse(path.read_text("utf-8"))
    assert not [node.lineno for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef | ast.Await)]


@pytest.mark.parametrize("path", sources(), ids=label)
def test_every_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text("utf-8"))), label(path)
    assert len(path.read_text("utf-8").splitlines()) <= FILE_LINES_MAX, label(path)


@pytest.mark.parametrize("folder", [*PARTS, "tests", "examples"])
def test_no_regular_packages_at_the_top(folder: str) -> None:
    """A package `dns` at the root would shadow dnspython."""
    assert not list((ROOT / folder).rglob("__init__.py"))


@pytest.mark.parametrize("part", PARTS)
def test_links_lead_to_the_parts(part: str) -> None:
    link = TOP / part
    assert link.is_symlink()
    assert link.readlink() == Path("..") / ".." / part


@pytest.mark.parametrize("path", sources(), ids=label)
def test_names_are_not_vague(path: Path) -> None:
    assert path.stem not in {"utils", "util", "helpers", "helper", "manager", "base", "common", "misc"}


def documents() -> list[Path]:
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def prose(path: Path) -> str:
    """Without what is quoted as typed or printed."""
    return re.sub(r"(?ms)^ *```.*?^ *```$", "", path.read_text("utf-8"))


def anchors(path: Path) -> set[str]:
    """Of the headings, as forges make them: lower case, no punctuation, hyphens for spaces."""
    headings = re.findall(r"(?m)^#+ (.+)$", prose(path))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", documents(), ids=label)
def test_links_in_documents_lead_somewhere(path: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(path)):
        if re.match(r"https?:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), f"{label(path)} links to {link}"
        assert not anchor or anchor in anchors(target), f"{label(path)} links to {link}"


@pytest.mark.parametrize("path", documents(), ids=label)
def test_tests_that_documents_name_are_there(path: Path) -> None:
    for name, function in re.findall(r"\b(test_\w+\.py)(?:::(test_\w+))?", path.read_text("utf-8")):
        found = list((ROOT / "tests").rglob(name))
        assert found, f"{label(path)} names {name}"
        assert any(f"def {function}" in each.read_text("utf-8") for each in found), f"{label(path)} names {function}"


def test_changelog_has_the_present_version() -> None:
    version = re.search(r'__version__ = "(.+)"', (TOP / "__init__.py").read_text())
    assert version
    assert f"## {version[1]}" in (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert f'version = "{version[1]}"' in (ROOT / "pyproject.toml").read_text("utf-8")
