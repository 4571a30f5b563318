"""The real WordPress and MediaWiki of Debian at three sites, set up by the words of their recipes: what is uploaded
through their own pages at one site is right at the others at once, through nginx and through the built-in edge.
"""

import os
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.anycastle.members import until
from tests.e2e import gallery
from tests.e2e.application_sites import EDGE_PORT, NGINX_PORT, SITES, ApplicationSites, application_sites, configure
from tests.e2e.browser import Browser, found, picture, size_of
from tests.e2e.recipe import blocks

BLOG, WIKI, GALLERY = "blog.example.com", "wiki.example.com", "app.example.com"
PAGES = ("wordpress.md", "mediawiki.md")
PASSWORD = "correct horse battery staple"
PROGRAMS = ("ip", "nginx", "php-fpm8.2", "php", "mariadbd", "curl")
FILES = ("/dev/net/tun", "/usr/share/wordpress", "/usr/share/mediawiki")
THUMBNAILS = {"-768x576": (768, 576), "-300x225": (300, 225), "-150x150": (150, 150)}
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
    with application_sites(BLOG, WIKI, GALLERY) as made:
        try:
            _set_up(made)
        except BaseException as error:
            error.add_note(made.logs())
            raise
        yield made


def _set_up(sites: ApplicationSites) -> None:
    """The recipes, each from the first block to the last; that of the gallery is a test."""
    _, profile, group = blocks("profiles.md", "toml")
    parts = [block.text for page in PAGES for block in blocks(page, "toml")]
    configure(sites, "".join([*parts, group.text]), gallery=profile.text)
    for site in SITES:
        sites.run(site, "install -d -o www-data /srv/app")
    database, software, servers, *content = blocks("wordpress.md", "sh")
    folder, settings, *more_content = blocks("mediawiki.md", "sh")
    sites.start_database("ams")
    for block in (database, software, folder, settings, servers):
        sites.follow(block)
    for site in SITES[1:]:  # "copy it to the other sites"
        sites.copy("/etc/mediawiki/LocalSettings.php", "ams", site)
    for site in SITES:
        sites.start_member(site)
        sites.start_web(site)
    sites.wait_until_well()
    for block in (*content, *more_content):
        sites.follow(block)
    for name, text in gallery.FILES.items():
        sites.path("ams", f"/srv/app/{name}").write_text(text)
    sites.run("ams", "chown www-data /srv/app/list.txt && anycastle wait app:upload.php")


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
    """By site and door, all asked at once: the body, or the status when it is not 200."""
    doors = [(site, port) for site in at for port in (NGINX_PORT, EDGE_PORT)]
    with ThreadPoolExecutor(len(doors)) as users:
        answers = list(users.map(lambda door: sites.ask(door[0], host, path, port=door[1]), doors))
    return {
        door: answer.body if answer.status == 200 else answer.status
        for door, answer in zip(doors, answers, strict=True)
    }


def everywhere(what: bytes | int, at: tuple[str, ...] = SITES) -> Seen:
    return {(site, port): what for site in at for port in (NGINX_PORT, EDGE_PORT)}


def the_same(answers: Seen) -> bytes:
    """What all doors said."""
    first, *others = set(answers.values())
    assert isinstance(first, bytes), answers
    assert not others, answers
    return first


@pytest.mark.parametrize("site", SITES)
def test_an_image_in_wordpress_is_everywhere_at_once_with_its_thumbnails(
    sites: ApplicationSites, blog: Browser, site: str
) -> None:
    content = picture(800, 600, SITES.index(site) + 1)
    path = upload(blog, site, f"{site}.png", content)
    for ending, size in THUMBNAILS.items():  # the one that WordPress made last first
        assert size_of(the_same(seen(sites, BLOG, path.replace(".png", f"{ending}.png")))) == size
    assert seen(sites, BLOG, path) == everywhere(content)


def test_an_image_that_is_deleted_by_a_link_is_gone_and_its_name_is_free(
    sites: ApplicationSites, blog: Browser
) -> None:
    """WordPress deletes under GET. The next image of that name is another one under the same URL."""
    old, new = picture(400, 300, 100), picture(400, 300, 200)
    path = upload(blog, "nyc", "photo.png", old)
    page = blog.get("nyc", "/wp-admin/upload.php?mode=list")
    link = found(r'href="(post\.php\?action=delete[^"]+)"', page).replace("&amp;", "&").replace("&#038;", "&")
    deleted = blog.get("ams", f"/wp-admin/{link}")
    assert (deleted.status, deleted.headers["X-Anycastle-Verdict"]) == (302, "write")
    assert seen(sites, BLOG, path) == everywhere(404)
    assert upload(blog, "sgp", "photo.png", new) == path
    assert seen(sites, BLOG, path) == everywhere(new)


def test_a_page_that_wordpress_makes_is_the_same_everywhere(sites: ApplicationSites, blog: Browser) -> None:
    """And a URL that is no file is WordPress' to answer, at every site."""
    post = urlsplit(sites.ask("ams", BLOG, "/?p=1").headers["Location"]).path
    pages = seen(sites, BLOG, post)
    assert {isinstance(page, bytes) and b"Hello world!" in page for page in pages.values()} == {True}, pages
    assert set(seen(sites, BLOG, "/wp-content/uploads/none.png").values()) == {404}
    script = Path("/usr/share/wordpress/wp-includes/js/wp-embed.min.js").read_bytes()
    assert seen(sites, BLOG, "/wp-includes/js/wp-embed.min.js") == everywhere(script)


@pytest.fixture(scope="module")
def wiki(sites: ApplicationSites) -> Browser:
    """The administrator that the recipe made, logged in."""
    browser = Browser(sites, WIKI)
    page = "/index.php?title=Special:UserLogin"
    token = found(r'name="wpLoginToken"[^>]* value="([^"]+)"', browser.get("nyc", page))
    form = {"wpName": "Admin", "wpPassword": "change this, too", "wpLoginToken": token, "authAction": "login"}
    login = browser.post("sgp", page, form)
    assert login.status == 302, login.text
    return browser


def upload_to_wiki(wiki: Browser, site: str, name: str, content: bytes) -> None:
    """As the form of Special:Upload does it."""
    page = "/index.php?title=Special:Upload"
    token = found(r'value="([^"]+)"[^>]* name="wpEditToken"', wiki.get(site, page))
    form = {"wpDestFile": name, "wpEditToken": token, "wpIgnoreWarning": "1", "wpUpload": "Upload file"}
    answer = wiki.upload(site, page, form, "wpUploadFile", name, content)
    assert answer.status == 302, answer.text


def test_a_file_in_mediawiki_is_everywhere_at_once_and_so_is_its_next_version(
    sites: ApplicationSites, wiki: Browser
) -> None:
    path = ""
    for site, seed, height in (("nyc", 10, 300), ("sgp", 20, 600)):
        content = picture(600, height, seed)
        upload_to_wiki(wiki, site, "Photo.png", content)
        path = path or found(r'"(/images/[^"]+/Photo.png)"', wiki.get("ams", "/index.php?title=File:Photo.png"))
        assert seen(sites, WIKI, path) == everywhere(content)
        thumbnail = the_same(seen(sites, WIKI, "/thumb.php?f=Photo.png&width=120"))
        assert size_of(thumbnail) == (120, height // 5)


def test_a_page_of_mediawiki_is_told_by_every_site(sites: ApplicationSites, wiki: Browser) -> None:
    """Short URLs are no files."""
    token = found(r'value="([^"]+)" name="wpEditToken"', wiki.get("nyc", "/index.php?title=News&action=edit"))
    form = {
        "wpTextbox1": "the roof leaks",
        "wpEditToken": token,
        "wpUnicodeCheck": "\u2133\U0001d4b2\u2665\U0001d4ca\U0001d4c3\U0001d4be\U0001d4b8\u2134\U0001d4b9\u212f",
        "wpUltimateParam": "1",
    }
    saved = wiki.post("sgp", "/index.php?title=News&action=submit", form)
    assert saved.status == 302, saved.text
    pages = seen(sites, WIKI, "/index.php/News")
    assert {isinstance(page, bytes) and b"the roof leaks" in page for page in pages.values()} == {True}, pages


def test_software_that_nobody_profiled_shows_what_it_needs(sites: ApplicationSites) -> None:
    """The page says what is seen; numbers of inodes differ."""
    sites.path("ams", "/srv/photo.jpg").write_bytes(picture(40, 30, 60))
    (block,), (told,) = blocks("profiles.md", "sh"), blocks("profiles.md", "text")
    shown = sites.run("ams", block.text)
    before, after = re.findall(r"(\d+) list\.txt", shown)
    assert before == after, "edited in place"
    assert shown.replace(before, "1234567") == told.text


def test_what_its_author_never_thought_of_is_right_with_a_profile_of_its_own(sites: ApplicationSites) -> None:
    """A picture that is made after the answer, and a link that deletes."""
    user, content = Browser(sites, GALLERY), picture(400, 300, 61)
    for site in SITES:
        assert user.upload(site, "/upload.php", {}, "photo", "a.png", content).text == "stored"
        assert (
            seen(sites, GALLERY, "/photos/small-a.png") == seen(sites, GALLERY, "/photos/a.png") == everywhere(content)
        )
        assert user.get(site, "/delete.php?name=a.png").text == "deleted"
        for path in ("/photos/a.png", "/photos/small-a.png"):  # what is no file, index.php answers
            assert content not in seen(sites, GALLERY, path).values()
        content = picture(400, 300, SITES.index(site))


def test_when_the_first_site_stops_the_next_takes_uploads(sites: ApplicationSites, blog: Browser) -> None:
    """The member alone stops: the database that stands there goes on."""
    sites.stop("member", "ams")
    content = picture(600, 450, 50)
    until(lambda: blog.get("sgp", "/wp-admin/media-new.php").status == 200, "another site takes writes")
    path = upload(blog, "sgp", "failover.png", content)
    assert seen(sites, BLOG, path, ("nyc", "sgp")) == everywhere(content, ("nyc", "sgp"))
    assert not sites.path("ams", f"/srv/blog{path}").exists()
    sites.start_member("ams")
    sites.wait_until_well()
    assert seen(sites, BLOG, path) == everywhere(content)
