"""The real WordPress of Debian at three sites, set up by the words of its recipe: what is uploaded through its own
pages at one site is right at the others at once, through nginx and through the built-in edge.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.anycastle.members import until
from tests.e2e.application_sites import EDGE_PORT, NGINX_PORT, SITES, ApplicationSites, application_sites, configure
from tests.e2e.browser import Browser, found, picture, size_of
from tests.e2e.recipe import blocks

BLOG = "blog.example.com"
PASSWORD = "correct horse battery staple"
PROGRAMS = ("ip", "nginx", "php-fpm8.2", "php", "mariadbd")
FILES = ("/dev/net/tun", "/usr/share/wordpress")
THUMBNAILS = {"-150x150": (150, 150), "-300x225": (300, 225), "-768x576": (768, 576), "-1024x768": (1024, 768)}
Seen = dict[tuple[str, int], bytes | int]
pytestmark = [
    pytest.mark.skipif(
        os.geteuid() != 0
        or not all(map(os.path.exists, FILES))
        or not all(shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin") for program in PROGRAMS),
        reason="needs root, /dev/net/tun and the packages of script/bootstrap",
    ),
    pytest.mark.timeout(300),
]


@pytest.fixture(scope="module")
def sites() -> Iterator[ApplicationSites]:
    with application_sites(BLOG) as made:
        try:
            _set_up(made)
        except BaseException as error:
            error.add_note(made.logs())
            raise
        yield made


def _set_up(sites: ApplicationSites) -> None:
    """The recipe, from the first block to the last."""
    (text,) = blocks("wordpress.md", "toml")
    configure(sites, text.text)
    database, software, servers, content = blocks("wordpress.md", "sh")
    sites.start_database("ams")
    for block in (database, software, servers):
        sites.follow(block)
    for site in SITES:
        sites.start_member(site)
        sites.start_web(site)
    until(lambda: all(map(sites.eligible, SITES)), "every site is eligible at every site")
    sites.follow(content)


@pytest.fixture(scope="module")
def blog(sites: ApplicationSites) -> Browser:
    """An administrator who is logged in."""
    browser = Browser(sites, BLOG)
    form = {
        "weblog_title": "Blog",
        "user_name": "admin",
        "admin_password": PASSWORD,
        "admin_password2": PASSWORD,
        "admin_email": "admin@example.com",
        "blog_public": "0",
        "language": "",
    }
    installed = browser.post("nyc", "/wp-admin/install.php?step=2", form)
    assert (installed.status, "Success!" in installed.text) == (200, True), installed.text
    browser.cookies["wordpress_test_cookie"] = "WP%20Cookie%20check"
    login = browser.post("sgp", "/wp-login.php", {"log": "admin", "pwd": PASSWORD, "testcookie": "1"})
    assert login.status == 302, login.text
    return browser


def upload(blog: Browser, site: str, name: str, content: bytes) -> str:
    """As the administration's own page does it; the image's path."""
    nonce = found(r'"_wpnonce":"(\w+)"', blog.get(site, "/wp-admin/media-new.php"))
    form = {"action": "upload-attachment", "_wpnonce": nonce, "name": name}
    answer = blog.upload(site, "/wp-admin/async-upload.php", form, "async-upload", name, content)
    assert answer.status == 200, answer.text
    assert '"success":true' in answer.text, answer.text
    return found(rf'"url":"http:\\/\\/{BLOG}([^"]+)"', answer).replace("\\/", "/")


def seen(sites: ApplicationSites, host: str, path: str, at: tuple[str, ...] = SITES) -> Seen:
    """By site and door, the body, or the status when it is not 200."""
    doors = [(site, port) for site in at for port in (NGINX_PORT, EDGE_PORT)]
    answers = {(site, port): sites.ask(site, host, path, port=port) for site, port in doors}
    return {door: answer.body if answer.status == 200 else answer.status for door, answer in answers.items()}


def everywhere(what: bytes | int, at: tuple[str, ...] = SITES) -> Seen:
    return {(site, port): what for site in at for port in (NGINX_PORT, EDGE_PORT)}


@pytest.mark.parametrize("site", SITES)
def test_an_image_in_wordpress_is_everywhere_at_once_with_its_thumbnails(
    sites: ApplicationSites, blog: Browser, site: str
) -> None:
    content = picture(1200, 900, SITES.index(site) + 1)
    path = upload(blog, site, f"{site}.png", content)
    assert seen(sites, BLOG, path) == everywhere(content)
    for ending, size in THUMBNAILS.items():
        here = sites.ask("ams", BLOG, path.replace(".png", f"{ending}.png"))
        assert size_of(here.body) == size
        assert seen(sites, BLOG, path.replace(".png", f"{ending}.png")) == everywhere(here.body)


def test_an_image_that_is_deleted_by_a_link_is_gone_and_its_name_is_free(
    sites: ApplicationSites, blog: Browser
) -> None:
    """WordPress deletes under GET. The next image of that name is another one under the same URL."""
    old, new = picture(400, 300, 100), picture(400, 300, 200)
    path = upload(blog, "nyc", "photo.png", old)
    page = blog.get("nyc", "/wp-admin/upload.php?mode=list")
    link = found(r'href="(post\.php\?action=delete[^"]+)"', page).replace("&amp;", "&").replace("&#038;", "&")
    assert blog.get("nyc", f"/wp-admin/{link}").status == 302
    assert seen(sites, BLOG, path) == everywhere(404)
    assert upload(blog, "sgp", "photo.png", new) == path
    assert seen(sites, BLOG, path) == everywhere(new)


def test_a_page_that_wordpress_makes_is_the_same_everywhere(sites: ApplicationSites, blog: Browser) -> None:
    """And a URL that is no file is WordPress' to answer, at every site."""
    post = urlsplit(sites.ask("ams", BLOG, "/?p=1").headers["Location"]).path
    pages = seen(sites, BLOG, post)
    assert {b"Hello world!" in page for page in pages.values() if isinstance(page, bytes)} == {True}, pages
    assert set(seen(sites, BLOG, "/wp-content/uploads/none.png").values()) == {404}
    script = Path("/usr/share/wordpress/wp-includes/js/wp-embed.min.js").read_bytes()
    assert seen(sites, BLOG, "/wp-includes/js/wp-embed.min.js") == everywhere(script)


def test_when_the_first_site_stops_the_next_takes_uploads(sites: ApplicationSites, blog: Browser) -> None:
    """The member alone stops: the database that stands there goes on."""
    sites.stop("member", "ams")
    content = picture(600, 450, 50)
    until(lambda: blog.get("sgp", "/wp-admin/media-new.php").status == 200, "another site takes writes")
    path = upload(blog, "sgp", "failover.png", content)
    assert seen(sites, BLOG, path, ("nyc", "sgp")) == everywhere(content, ("nyc", "sgp"))
    assert not sites.path("ams", f"/srv/blog{path}").exists()
    sites.start_member("ams")
    until(lambda: all(map(sites.eligible, SITES)), "ams is back")
    assert seen(sites, BLOG, path) == everywhere(content)
