"""Host and raw URL path to group, path and prefix; nothing gets out of its document root."""

from dataclasses import replace
from pathlib import Path
from urllib.parse import quote_from_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anycastle.replicator.edge_target import TargetError, Targets, decode_path
from anycastle.replicator.entry import check_path
from anycastle.replicator.settings import GroupSettings


def group(name: str, hosts: tuple[str, ...], document_root: str, depth: int) -> GroupSettings:
    return GroupSettings(
        name=name,
        root=Path("/srv") / name,
        hosts=hosts,
        document_root=document_root,
        application="http://127.0.0.1:1",
        prefix_depth=depth,
    )


BLOGS = group("blogs", ("*.blogs.example.com",), "{1}/htdocs", 1)
VIP = group("vip", ("vip.blogs.example.com",), "", 0)
SHOP = group("shop", ("shop.example.com", "*.shop.example.com"), "www", 3)
TARGETS = Targets((BLOGS, VIP, SHOP))


@pytest.mark.parametrize(
    ("host", "url", "name", "path", "prefix"),
    [
        ("alice.blogs.example.com", "/a.jpg", "blogs", b"alice/htdocs/a.jpg", b"alice/"),
        ("ALICE.Blogs.example.COM.:8080", "/a.jpg?x=../..", "blogs", b"alice/htdocs/a.jpg", b"alice/"),
        ("a.b.blogs.example.com", "/x", "blogs", b"a.b/htdocs/x", b"a.b/"),
        ("alice.blogs.example.com", "/", "blogs", None, b"alice/"),
        ("alice.blogs.example.com", "/photos/", "blogs", None, b"alice/"),
        ("alice.blogs.example.com", "/photos/.", "blogs", None, b"alice/"),
        ("alice.blogs.example.com", "/index.php", "blogs", None, b"alice/"),
        ("alice.blogs.example.com", "/index.php/article/7", "blogs", None, b"alice/"),
        ("alice.blogs.example.com", "/index.ph%70", "blogs", None, b"alice/"),
        ("alice.blogs.example.com", "//a//./b%20c", "blogs", b"alice/htdocs/a/b c", b"alice/"),
        ("alice.blogs.example.com", "/%ff\udcfe", "blogs", b"alice/htdocs/\xff\xfe", b"alice/"),
        ("alice.blogs.example.com", "/%252e%252e/x", "blogs", b"alice/htdocs/%2e%2e/x", b"alice/"),
        ("alice.blogs.example.com", "/...", "blogs", b"alice/htdocs/...", b"alice/"),
        ("vip.blogs.example.com", "/a", "vip", b"a", b""),
        ("vip.blogs.example.com", "/", "vip", None, b""),
        ("shop.example.com", "/deep/er/x.css", "shop", b"www/deep/er/x.css", b"www/"),
        ("x.shop.example.com", "/x.css", "shop", b"www/x.css", b"www/"),
    ],
)
def test_maps(host: str, url: str, name: str, path: bytes | None, prefix: bytes) -> None:
    target = TARGETS.find(host, url)
    assert (target.group.name, target.path, target.prefix) == (name, path, prefix)


@pytest.mark.parametrize(
    ("host", "url", "status"),
    [
        ("alice.blogs.example.com", "/../x", 400),
        ("alice.blogs.example.com", "/a/%2e%2E/x", 400),
        ("alice.blogs.example.com", "/a/..", 400),
        ("alice.blogs.example.com", "/a%2fb", 400),
        ("alice.blogs.example.com", "/a%00", 400),
        ("alice.blogs.example.com", "/a%zz", 400),
        ("alice.blogs.example.com", "/a%", 400),
        ("alice.blogs.example.com", "/a#b", 400),
        ("alice.blogs.example.com", "http://alice.blogs.example.com/", 400),
        ("alice.blogs.example.com", "*", 400),
        ("alice.blogs.example.com", "", 400),
        ("alice.blogs.example.com", "/" + "a" * 256, 404),
        ("alice.blogs.example.com", "/a" * 3000, 404),
        ("vip.blogs.example.com", "/.anycastle/conflicts/x", 404),
        ("blogs.example.com", "/", 421),
        ("example.net", "/", 421),
        ("[2001:db8::1]:80", "/", 421),
        ("..blogs.example.com", "/", 400),
        ("a/../b.blogs.example.com", "/", 400),
        ("", "/", 400),
        ("a" * 300, "/", 400),
    ],
)
def test_refuses(host: str, url: str, status: int) -> None:
    with pytest.raises(TargetError) as caught:
        TARGETS.find(host, url)
    assert caught.value.status == status
    assert "\n" not in str(caught.value)


URLS = st.lists(st.sampled_from(["/", ".", "..", "%2e", "%2f", "%", "%00", "a", "\\", "?", "%ff", "é"])).map("".join)


@given(URLS | st.text())
def test_never_escapes_its_document_root(url: str) -> None:
    for slash in ("", "/"):
        try:
            target = TARGETS.find("alice.blogs.example.com", slash + url)
        except TargetError:
            continue
        assert target.prefix == b"alice/"
        if target.path is not None:
            assert check_path(target.path).startswith(b"alice/htdocs/")


@given(st.text(max_size=80))
def test_never_escapes_by_its_host(host: str) -> None:
    try:
        target = TARGETS.find(host + ".blogs.example.com", "/x")
    except TargetError:
        return
    if target.group is BLOGS:
        assert target.path is not None
        assert target.path.count(b"/") == 2
        assert target.path.endswith(b"/htdocs/x")


@given(st.binary(min_size=1, max_size=40).filter(lambda name: not {0, 47} & set(name) and name not in (b".", b"..")))
def test_any_name_of_bytes_can_be_asked_for(name: bytes) -> None:
    assert decode_path("/" + quote_from_bytes(name)) == (name, True)


@pytest.mark.parametrize(
    ("url", "static"),
    [
        ("/a.jpg", True),
        ("/deep/er/a.jpg?x=/index.php", True),
        ("/.well-known/acme/x", True),
        ("/index.php", False),
        ("/index.php/a.jpg", False),
        ("/", False),
        ("/photos/", False),
        ("/.htaccess", False),
        ("/a/.git/config", False),
        ("/a/%2ehidden", False),
        ("/.well-known/.secret", False),
    ],
)
def test_programs_and_what_is_hidden_are_never_static(url: str, static: bool) -> None:
    targets = Targets((replace(BLOGS, static=("*",)),))
    assert targets.find("alice.blogs.example.com", url).static is static
    assert not TARGETS.find("alice.blogs.example.com", url).static


@pytest.mark.parametrize(
    ("method", "url", "writes"),
    [
        ("GET", "/admin/delete.php?id=7", True),
        ("HEAD", "//admin/./delete.php", True),
        ("GET", "/admin/delete.php/7", True),
        ("GET", "/admin/style.css", False),
        ("GET", "/admin/", False),
        ("OPTIONS", "/index.php", False),
        ("POST", "/index.php", True),
        ("DELETE", "/a.jpg", True),
    ],
)
def test_what_writes_by_its_method_or_by_its_place(method: str, url: str, writes: bool) -> None:
    targets = Targets((replace(BLOGS, writing=("admin/*.php",)),))
    assert targets.find("alice.blogs.example.com", url).writes(method) is writes
