"""The configuration of an nginx beside a member: what it serves by itself, the gate judges first.

    read    auth_request → a pass, or verdict socket: 204 → nginx's own file or PHP · 403 → built-in edge → the site
            that has it
    write   built-in edge on loopback: judged, passed to the application's server block, fenced, released

Laws: hosts, roots and programs come from the groups' settings, so nginx and gate map a URL to the same file; every
location that is added later is behind the gate, for `auth_request` stands in the server; where the gate does not answer
nothing is served. Names from the configuration cannot break out of their place: they are hosts, or quoted.
"""

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from anycastle.errors import AnycastleError
from anycastle.replicator.settings import EdgeSettings, GroupSettings, VerdictSettings

KEPT_CONNECTIONS = 32
SPARE_SECONDS = 5
"""nginx waits so much longer than the edge, which knows better what to say."""
_CAPTURE = "{1}"
_EACH = re.compile(r"\[!?[^\]]+\]|.", re.DOTALL)
"""What a pattern is made of."""
_TENTH = """\

# A file of this name says that all of a group may be served until this tenth of a second is over. Who names what it has
# already asks the gate, which knows the hash.
map "$msec $http_if_none_match$http_if_range" $anycastle_tenth {
    volatile;
    default none;
    "~^(?<tenth>[0-9]+\\.[0-9])[0-9]* $" $tenth;
}
"""


class NginxError(AnycastleError):
    """The configuration does not say what nginx needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the operator says on the command line."""

    listen: tuple[str, ...] = ("80", "[::]:80")
    php: str | None = None
    """Where php-fpm listens, as `fastcgi_pass` takes it; None: the application is a server of its own."""


def nginx_config(
    edge: EdgeSettings | None, verdict: VerdictSettings | None, groups: Sequence[GroupSettings], wanted: Wanted
) -> str:
    """For the `http` block: a file of `conf.d`. Raises NginxError."""
    if edge is None or not edge.listen or verdict is None:
        raise NginxError("expected edge.listen (on loopback) and edge.verdict.socket at this site")
    if not groups:
        raise NginxError("there is no group here that nginx could serve")
    passes = verdict.passes
    text = "\n".join([_shared(edge, verdict), *(_group(edge, group, wanted, passes) for group in groups)])
    if edge.verdict_headers:
        return text
    lines = text.splitlines(keepends=True)
    return "".join(line for line in lines if "add_header X-Anycastle-" not in line)


def _shared(edge: EdgeSettings, verdict: VerdictSettings) -> str:
    return f"""\
# Written by `anycastle nginx-config --site {edge.site}`. Part of the `http` block: put it into conf.d.
# Make it anew after changes of anycastle.toml; what is your own (TLS, access, logs) goes into the files that the
# server blocks include.

# Methods that may change something: they go through the edge, which holds their answers until they are fenced.
map $request_method $anycastle_write {{
    default 1;
    GET     0;
    HEAD    0;
    OPTIONS 0;
}}

# What is not there may be there in a moment.
map $status $anycastle_cache {{
    default "";
    404     no-store;
}}

map $http_upgrade $anycastle_connection {{
    default upgrade;
    ""      "";
}}

map $http_x_forwarded_proto $anycastle_https {{
    default "";
    https   on;
}}

{_TENTH if verdict.passes else ""}
# The gate. Connections are kept: one question costs no connect.
upstream anycastle_verdict {{
    server {_quoted(f"unix:{verdict.socket}")};
    keepalive {KEPT_CONNECTIONS};
    keepalive_requests 1000000;
}}

# The built-in edge. It forwards over the members' own mutual TLS, and takes nothing from others that was forwarded
# before, so no loop can form; the hop header of a client is dropped there.
upstream anycastle_edge {{
    server {_address(edge)};
    keepalive {KEPT_CONNECTIONS};
}}
"""


def _group(edge: EdgeSettings, group: GroupSettings, wanted: Wanted, passes: Path | None) -> str:
    hosts = " ".join(group.hosts)
    listens = "\n".join(f"    listen {_safe(listen, 'listen')};" for listen in wanted.listen)
    judged = group.application if wanted.php is None else ""
    return f"""\
# ---- group {group.name} ----
{_capture(group)}{_passable(group) if passes else ""}
# Where users come in.
server {{
{listens}
    server_name {hosts};
    include anycastle.d/{group.name}/*.conf;  # yours: `listen 443 ssl` and certificates, access, logs

    root {_root(group)};
    client_max_body_size {edge.body_bytes_max};

    # `allow`, `deny` and `auth_basic` belong here and not into a location: what the gate sends elsewhere leaves it.
    # An `error_page` in a location hides these two there. `rewrite` may not lead from one file to another: what is
    # judged is the URL that the client sent.
    auth_request /.anycastle/verdict;
    auth_request_set $anycastle_verdict $upstream_http_x_anycastle_verdict;
    auth_request_set $anycastle_forward $upstream_http_x_anycastle_forward;
    auth_request_set $anycastle_version $upstream_http_x_anycastle_version;
    auth_request_set $anycastle_etag $upstream_http_etag;
    auth_request_set $anycastle_retry $upstream_http_retry_after;
    auth_request_set $anycastle_reason $upstream_http_x_anycastle_reason;
    auth_request_set $anycastle_status $upstream_status;
    error_page 403 = @anycastle_elsewhere;
    error_page 500 = @anycastle_refused;
    set $anycastle_verdict "";
    set $anycastle_forward "";
    set $anycastle_status "";
    set $anycastle_passed "";
    set $anycastle_weak "";
    open_file_cache off;  # it would go on serving what was replaced

    if ($anycastle_write) {{
        rewrite ^ /.anycastle/write last;
    }}
{_writing(group) if group.writing else ""}
    location = /.anycastle/verdict {{
        internal;
        auth_request off;
{_pass(group, passes) if passes else ""}        proxy_pass http://anycastle_verdict;
        proxy_http_version 1.1;
        proxy_pass_request_body off;
        proxy_pass_request_headers off;
        proxy_intercept_errors off;  # else error_page would answer for the gate
        proxy_set_header Connection "";
        proxy_set_header Content-Length "";
        proxy_set_header Host $host;  # by which this server, and so the root, was chosen
        proxy_set_header X-Original-URI $request_uri;
        proxy_set_header X-Original-Method $request_method;
        proxy_set_header X-Original-If-None-Match $http_if_none_match;
        proxy_connect_timeout 1s;
        proxy_read_timeout {_whole(group.wait_max_seconds + SPARE_SECONDS)}s;  # wait_max and some
        proxy_next_upstream off;
        access_log off;
    }}

    location = /.anycastle/write {{
        internal;
        auth_request off;
        proxy_pass http://anycastle_edge$request_uri;
{_through_the_edge(edge, group)}
    }}

    # 403 is the gate's "not from here": what the client has already, or a site that may answer. Any other is nginx's.
    location @anycastle_elsewhere {{
        auth_request off;
        if ($anycastle_verdict = unchanged) {{
            add_header ETag $anycastle_etag;
            add_header X-Anycastle-Verdict $anycastle_verdict;
            add_header X-Anycastle-Site {edge.site};
            return 304;
        }}
        if ($anycastle_forward = "") {{
            return 403;
        }}
        proxy_pass http://anycastle_edge;
{_through_the_edge(edge, group)}
    }}

    # auth_request makes 500 of every other answer, and of none.
    location @anycastle_refused {{
        auth_request off;
        add_header Retry-After $anycastle_retry always;
        add_header Cache-Control no-store always;
        add_header X-Anycastle-Verdict $anycastle_passed$anycastle_verdict always;
        add_header X-Anycastle-Reason $anycastle_reason always;
        add_header X-Anycastle-Site {edge.site} always;
        if ($anycastle_passed) {{
            return 500;  # let through, and failed here
        }}
        if ($anycastle_status = 204) {{
            return 500;
        }}
        if ($anycastle_status = 400) {{
            return 400;
        }}
        if ($anycastle_status = 404) {{
            return 404;
        }}
        if ($anycastle_status = 421) {{
            return 421;
        }}
        return 503;
    }}

{_proxied(edge, judged) if judged else _served(edge, group, wanted)}
}}
{"" if judged else _application(edge, group, wanted)}"""


def _writing(group: GroupSettings) -> str:
    """The group's own, whatever the method: they must not slip through on a pass."""
    return f"""
    if ($uri ~ {_quoted(_programs_below(*group.writing))}) {{
        rewrite ^ /.anycastle/write last;  # `writing`
    }}
"""


def _passable(group: GroupSettings) -> str:
    """Another host than the group's is the gate's to refuse."""
    lines = "\n".join(f"    {host} {group.name};" for host in group.hosts)
    return f"""
map $host ${_variable(group, "pass")} {{
    hostnames;
    default none;
{lines}
}}
"""


def _pass(group: GroupSettings, passes: Path) -> str:
    """What is handed out on a pass has no validator but one that says nothing, so that the next question is judged."""
    name = _quoted(f"{passes}/").rstrip('"') + f'${{{_variable(group, "pass")}}}/$anycastle_tenth"'
    return f"""\
        set $anycastle_passed "";
        set $anycastle_weak "";
        if (-f {name}) {{
            set $anycastle_passed serve;
            set $anycastle_weak 'W/"$anycastle_tenth"';
            return 204;
        }}
"""


def _through_the_edge(edge: EdgeSettings, group: GroupSettings) -> str:
    """The edge waits for the application, and then for a fence; nginx must not be the first to give up."""
    fenced = group.fence_timeout_seconds + group.settle_seconds
    longest = edge.application_timeout_seconds + max(fenced, group.wait_max_seconds)
    return f"""\
        proxy_http_version 1.1;
        proxy_set_header Upgrade $http_upgrade;  # WebSocket
        proxy_set_header Connection $anycastle_connection;
        proxy_set_header Host $http_host;
        proxy_set_header X-Forwarded-For $remote_addr;  # not what the client says; a proxy in front: real_ip_header
        proxy_set_header X-Forwarded-Proto $scheme;
        proxy_set_header X-Forwarded-Host $http_host;
        proxy_set_header Forwarded "";
        proxy_request_buffering off;
        proxy_buffering off;
        proxy_intercept_errors off;  # its 503 carries Retry-After, its 404 no-store
        proxy_next_upstream off;  # what may have been done is not asked for again
        proxy_read_timeout {_whole(longest + SPARE_SECONDS)}s;
        proxy_send_timeout {_whole(longest + SPARE_SECONDS)}s;"""


def _proxied(edge: EdgeSettings, application: str) -> str:
    """Reads go to the application as they are; it has the files."""
    return f"""\
    location / {{
        proxy_pass {_quoted(application.rstrip("/"))};
        proxy_http_version 1.1;
        proxy_set_header Host $http_host;
        proxy_set_header Upgrade $http_upgrade;  # WebSocket
        proxy_set_header Connection $anycastle_connection;
        proxy_set_header X-Forwarded-For $remote_addr;
        proxy_set_header X-Forwarded-Proto $scheme;
        proxy_set_header X-Forwarded-Host $http_host;
        proxy_set_header Forwarded "";
        proxy_intercept_errors off;
{_signed(edge)}
    }}"""


def _signed(edge: EdgeSettings) -> str:
    return f"""\
        add_header Cache-Control $anycastle_cache always;
        add_header X-Anycastle-Verdict $anycastle_passed$anycastle_verdict always;
        add_header X-Anycastle-Site {edge.site} always;"""


def _served(edge: EdgeSettings, group: GroupSettings, wanted: Wanted) -> str:
    """Files by sendfile, programs by PHP."""
    return f"""\
{_hidden()}

{_files(group)}
        # The hash is the only validator: times of whole seconds would let an overwritten file pass as unchanged.
        etag off;
        if_modified_since off;
        add_header ETag $anycastle_weak$anycastle_etag;
        add_header Last-Modified "";
        add_header X-Anycastle-Version $anycastle_version;
{_signed(edge)}
    }}

{_programs(group, wanted, "$scheme", "$https", _signed(edge))}"""


def _application(edge: EdgeSettings, group: GroupSettings, wanted: Wanted) -> str:
    """The same files and programs for the edge, which judges by itself: `application` of the group."""
    return f"""
# The application as the edge knows it, for writes and for what other sites ask of this one: {_plain(group.application)}
# It must be reached by the edge alone, for nothing here asks the gate.
server {{
    listen {_loopback(group.application)};
    server_name {" ".join(group.hosts)};
    root {_root(group)};
    client_max_body_size {edge.body_bytes_max};

    # The client's address, as far as it came through edges of ours.
    set_real_ip_from 127.0.0.0/8;
    set_real_ip_from ::1;
    real_ip_header X-Forwarded-For;
    real_ip_recursive on;

{_hidden()}

{_files(group)}
    }}

{_programs(group, wanted, "$http_x_forwarded_proto", "$anycastle_https", "")}
}}
"""


def _hidden() -> str:
    return """\
    location ~ /\\.(?!well-known/) {
        return 404;  # .anycastle, .git, .htaccess
    }"""


def _files(group: GroupSettings) -> str:
    """Left open for what else belongs into the location."""
    fallback = " /index.php?$args" if "*.php" in group.dynamic else " =404"
    return f"""\
    location / {{
        index index.php index.html;
        try_files $uri $uri/{fallback};
        sendfile on;
        open_file_cache off;"""


def _programs(group: GroupSettings, wanted: Wanted, scheme: str, https: str, signed: str) -> str:
    also = f"\n{signed}" if signed else ""
    php = f"""\
    location ~ ^.+\\.php(/|$) {{
        fastcgi_split_path_info ^(.+?\\.php)(/.*)?$;
        set $anycastle_path_info $fastcgi_path_info;  # try_files forgets it
        try_files $fastcgi_script_name =404;  # never run something else than the file that is named
        include fastcgi_params;
        fastcgi_param PATH_INFO $anycastle_path_info;
        fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name;
        fastcgi_param REQUEST_SCHEME {scheme};
        fastcgi_param HTTPS {https} if_not_empty;
        fastcgi_pass {_safe(wanted.php or "", "--php")};
        fastcgi_intercept_errors off;  # the program's own 403 and 500 are its own{also}
    }}"""
    others = [pattern for pattern in group.dynamic if pattern != "*.php"]
    return "\n\n".join([php, *(_unknown_program(pattern) for pattern in others)])


def _unknown_program(pattern: str) -> str:
    return f"""\
    location ~ {_quoted(_programs_below(pattern))} {{
        return 404;  # `dynamic`, and no PHP: say here what runs it, else its source would be served
    }}"""


def _programs_below(*patterns: str) -> str:
    """fnmatch's patterns of programs as one expression on the URL; below a program it goes on (`/index.php/7`)."""
    return f"^/({'|'.join(_EACH.sub(_expression, pattern) for pattern in patterns)})(/|$)"


def _expression(found: re.Match[str]) -> str:
    match found[0]:
        case "*":
            return ".*"
        case "?":
            return "."
        case char if len(char) == 1:
            return re.escape(char)
        case several:  # [abc], [!a-z]
            inner = several[1:-1].replace("\\", "\\\\").replace("^", "\\^")
            return f"[^{inner[1:]}]" if inner.startswith("!") else f"[{inner}]"


def _capture(group: GroupSettings) -> str:
    """`{1}` as a variable: what the star of the host stands for, one or more labels as everywhere in Anycastle."""
    if _CAPTURE not in group.document_root:
        return ""
    label = "[a-z0-9_-]+"
    suffixes = sorted((host[1:] for host in group.hosts), key=lambda suffix: -suffix.count("."))
    lines = "\n".join(f'    "~^(?<stands>{label}(\\.{label})*){re.escape(suffix)}$" $stands;' for suffix in suffixes)
    return f"""\
map $host ${_variable(group)} {{
    default .none;  # no host can stand for that
{lines}
}}
"""


def _root(group: GroupSettings) -> str:
    below = group.document_root.strip("/")
    plain = _quoted(f"{group.root}/{below}".rstrip("/").replace(_CAPTURE, "\0"))
    return plain.replace("\0", f"${{{_variable(group)}}}")


def _variable(group: GroupSettings, what: str = "host") -> str:
    return f"anycastle_{what}_{group.name.replace('-', '_')}"


def _address(edge: EdgeSettings) -> str:
    """Where to reach the edge; it is no harm if others reach it too."""
    host, port = edge.listen[0]
    address = ipaddress.ip_address(host)
    if address.is_unspecified:
        host = "::1" if address.version == 6 else "127.0.0.1"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _loopback(application: str) -> str:
    """The listener behind an application's URL. Raises NginxError when others could reach it, and so pass the gate."""
    parts = urlsplit(application)
    host = "127.0.0.1" if parts.hostname == "localhost" else parts.hostname or ""
    try:
        inside = ipaddress.ip_address(host).is_loopback
    except ValueError:
        inside = False
    if not inside or parts.scheme != "http" or parts.path not in ("", "/"):
        raise NginxError(f"application {application}: with --php expected a loopback address, as http://127.0.0.1:8081")
    return f"[{host}]:{parts.port or 80}" if ":" in host else f"{host}:{parts.port or 80}"


def _quoted(text: str) -> str:
    """One word of nginx's grammar; it has no way to write a dollar sign, so that is refused."""
    if "$" in text.removesuffix("(/|$)") or any(char < " " for char in text.replace("\0", "")):
        raise NginxError(f"{text!r}: nginx cannot be told a name with a dollar sign or a control character")
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _plain(text: str) -> str:
    """For a comment."""
    return "".join(char if char.isprintable() else "?" for char in text)


def _safe(text: str, what: str) -> str:
    """A word from the command line: one parameter, or several, but never the end of the directive."""
    if not re.fullmatch(r"[A-Za-z0-9_./:\[\]*@=-]+( [A-Za-z0-9_./:\[\]*@=-]+)*", text):
        raise NginxError(f"{what} {text!r}: expected what nginx takes there, without quotes and semicolons")
    return text


def _whole(seconds: float) -> int:
    return int(-(-seconds // 1))


def select(groups: Iterable[GroupSettings], name: str | None) -> tuple[GroupSettings, ...]:
    """The group of that name, or all. Raises NginxError."""
    found = tuple(group for group in groups if name in (None, group.name))
    if name is not None and not found:
        raise NginxError(f"no group {name!r} here")
    return found
