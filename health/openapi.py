"""The API as an OpenAPI 3.1 document: its paths, what they take, what they answer, and which scope they need.

Laws: a path is here if and only if it is served (a test compares both); shapes come from the types that are sent, and
are written by hand only where an answer is plain values.
"""

from dataclasses import dataclass
from typing import Any

import msgspec

from anycastle.health.ask import (
    PARAMETERS_MAX,
    WAIT_SECONDS_MAX,
    ConflictOrder,
    DrainOrder,
    FreezeOrder,
    GroupOrder,
    ScrubOrder,
)
from anycastle.health.audit import Change
from anycastle.health.event import Event
from anycastle.health.report import (
    ConflictReport,
    FlightReport,
    GroupReport,
    HoldReport,
    SessionReport,
    SiteReport,
    Snapshot,
)
from anycastle.health.series import HistoryReport
from anycastle.health.settings import Scope

PATH = "/api/openapi.json"
VERSION = "1.1"
"""Of the API, whose paths begin with /api/v1: the second number grows with what is added."""
_NAME = {"type": "string", "pattern": r"^[A-Za-z0-9][A-Za-z0-9_.\-]{0,254}$"}
_TYPES = (
    *(Snapshot, SiteReport, SessionReport, HoldReport, GroupReport, FlightReport, ConflictReport, Change),
    *(Event, HistoryReport),
    *(DrainOrder, FreezeOrder, ScrubOrder, GroupOrder, ConflictOrder),
)
_REFUSALS = {
    "400": "Something in the request is not as expected; the answer says what was.",
    "401": "No token that is known here.",
    "403": "Not with this token, or not from there.",
    "413": "The body is too long.",
    "421": "Asked by a public name that is not configured.",
    "503": "The member is starting, too many long requests are under way, or tokens cannot be read.",
}

Schema = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Operation:
    """One method of one path."""

    path: str
    summary: str
    answer: Schema
    method: str = "get"
    scope: Scope = Scope.READ
    parameters: tuple[Schema, ...] = ()
    body: type | None = None
    content: str = "application/json"
    refusals: tuple[str, ...] = ("400", "401", "421", "503")


def _ref(kind: type) -> Schema:
    return {"$ref": f"#/components/schemas/{kind.__name__}"}


def _many(kind: type) -> Schema:
    return {"type": "array", "items": _ref(kind)}


def _object(**needed: Schema) -> Schema:
    """An object with these keys at least."""
    return {"type": "object", "properties": needed, "required": list(needed)}


def _parameter(name: str, schema: Schema, text: str, *, required: bool = False) -> Schema:
    return {"name": name, "in": "query", "required": required, "description": text, "schema": schema}


_TEXT: Schema = {"type": "string"}
_BOOL: Schema = {"type": "boolean"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_ANY: Schema = {"type": "object"}
_MEMBER = {"member": _TEXT}
_GROUP_PATH: Schema = {
    "type": "string",
    "pattern": r"^[A-Za-z0-9][A-Za-z0-9_.\-]{0,254}:",
    "examples": ["blogs:alice/photo.jpg"],
}
_PLACE = _parameter(
    "path",
    _GROUP_PATH,
    "GROUP:PATH; the path's bytes are percent-encoded and need not be UTF-8.",
    required=True,
)
_DNS_NAME_SCHEMA: Schema = {"type": "string", "pattern": r"^[!-\-/-~][!-~]{0,200}$"}
_DNS_NAME = _parameter(
    "name",
    _DNS_NAME_SCHEMA,
    "A DNS name, as in www.example.com.",
    required=True,
)


def _limit(most: int) -> Schema:
    return _parameter("limit", {"type": "integer", "minimum": 1, "maximum": most}, "So many at most.")


_CHANGED = ("400", "401", "403", "413", "421", "503")
_READING = (
    _Operation(path="/api/v1/status", summary="Everything, as the dashboard shows it.", answer=_ref(Snapshot)),
    _Operation(
        path="/api/v1/sites",
        summary="Every site: health, currency, what is withheld and why.",
        answer=_object(**_MEMBER, isolated=_BOOL, sites=_many(SiteReport)),
    ),
    _Operation(
        path="/api/v1/routes",
        summary="BGP sessions and routes of this site: wanted, acknowledged, why.",
        answer=_object(**_MEMBER, sessions=_many(SessionReport), holds=_many(HoldReport)),
    ),
    _Operation(
        path="/api/v1/plan",
        summary="What routers would be told next, and what is held back. 400 where no route is announced.",
        answer=_object(changes={"type": "array", "items": _ANY}, held={"type": "array", "items": _ANY}),
    ),
    _Operation(
        path="/api/v1/lag",
        summary="Replication: origin × site, and what is in flight.",
        answer=_object(**_MEMBER, groups=_many(GroupReport), flights=_many(FlightReport), flights_total=_COUNT),
    ),
    _Operation(
        path="/api/v1/conflicts",
        summary="Paths edited at two sites at once, and where the loser is kept; the newest first.",
        answer=_object(conflicts=_many(ConflictReport)),
    ),
    _Operation(
        path="/api/v1/series",
        summary="Lag, fence latency, queries and errors of the last hour, as far as the member runs.",
        answer=_ref(HistoryReport),
    ),
    _Operation(
        path="/api/v1/timeline",
        summary="What happened, over restarts, the newest first; of a site, of a path, or of a steered name.",
        answer=_object(events=_many(Event)),
        parameters=(
            _parameter("site", _NAME, "Of this site or witness only."),
            _parameter("path", _GROUP_PATH, "GROUP:PATH or its beginning: what happened to it, above it and below it."),
            _parameter(
                "name", _DNS_NAME_SCHEMA, "A steered name: its content, and what moved its users. Not with `path`."
            ),
            _limit(1000),
        ),
    ),
    _Operation(
        path="/api/v1/where",
        summary="Which sites have which version of a path, and why one is withheld.",
        answer=_object(summary=_TEXT, sites={}),
        parameters=(_PLACE,),
    ),
    _Operation(
        path="/api/v1/explain",
        summary="What a client would get from the nameserver, with every reason.",
        answer=_object(summary=_TEXT, sites={}),
        parameters=(
            _DNS_NAME,
            _parameter("client", {"type": "string", "examples": ["2001:db8::1"]}, "The address of who asks."),
            _parameter("type", {"type": "string", "pattern": "^[A-Z][A-Z0-9]{0,15}$"}, "A record type; A if left out."),
        ),
    ),
    _Operation(
        path="/api/v1/map",
        summary="The networks of the map for one name, a page at a time: `next` is the next page's `after`.",
        answer=_object(networks={"type": "array", "items": _ANY}, next={"type": ["string", "null"]}),
        parameters=(_DNS_NAME, _parameter("after", _TEXT, "The last network of the page before."), _limit(1000)),
    ),
    _Operation(
        path="/api/v1/scrub", summary="How far the passes that read all files again are.", answer=_object(groups=_ANY)
    ),
    _Operation(
        path="/api/v1/wait",
        summary="Answers when the newest version known of a path has landed at the sites, or when the time is over.",
        answer=_object(landed=_BOOL),
        parameters=(
            _PLACE,
            _parameter(
                "sites",
                {"type": "string", "pattern": r"^(all|[A-Za-z0-9][A-Za-z0-9_\-]*(,[A-Za-z0-9][A-Za-z0-9_\-]*)*)$"},
                "all, or names with commas.",
            ),
            _parameter(
                "timeout", {"type": "number", "minimum": 0, "maximum": WAIT_SECONDS_MAX}, "Seconds; 60 if left out."
            ),
        ),
    ),
    _Operation(
        path="/api/v1/events",
        summary="Server-sent events without end: on every change `status`, a Snapshot; every five seconds `point`, a "
        "HistoryReport of one point.",
        answer=_TEXT,
        content="text/event-stream",
    ),
    _Operation(
        path="/api/v1/audit",
        summary="The last changes that were asked for, the newest first.",
        answer=_object(changes=_many(Change)),
        scope=Scope.ADMIN,
        parameters=(_limit(1000),),
        refusals=("400", "401", "403", "421", "503"),
    ),
    _Operation(path=PATH, summary="This document.", answer=_ANY, refusals=()),
    _Operation(
        path="/healthz", summary="Answers while the process lives.", answer=_TEXT, content="text/plain", refusals=()
    ),
    _Operation(path="/metrics", summary="For Prometheus.", answer=_TEXT, content="text/plain"),
)
_CHANGING = tuple(
    _Operation(
        path=f"/api/v1/{name}",
        summary=summary,
        answer=answer,
        method="post",
        scope=scope,
        body=body,
        refusals=_CHANGED,
    )
    for name, scope, body, summary, answer in (
        ("drain", Scope.DRAIN, DrainOrder, "Move users away from a site; survives restarts.", _object(site=_NAME)),
        ("undrain", Scope.DRAIN, DrainOrder, "Take a drain back.", _object(site=_NAME)),
        (
            "freeze",
            Scope.ROUTES,
            FreezeOrder,
            "No route changes at this site, but by drains.",
            _object(frozen=_BOOL, reason=_TEXT),
        ),
        ("thaw", Scope.ROUTES, None, "Take a freeze back.", _object(frozen=_BOOL, reason=_TEXT)),
        ("accept", Scope.ROUTES, None, "Let happen what is refused as too many changes.", _object(accepted=_TEXT)),
        ("reload", Scope.ADMIN, None, "Read zones, names and geography anew, all or nothing.", _ANY),
        (
            "restart",
            Scope.ADMIN,
            None,
            "Another process takes over; answers when it is about to, with its id and ours.",
            _object(**{"from": _COUNT, "to": _COUNT}),
        ),
        ("resync", Scope.ADMIN, GroupOrder, "Compare what this member holds with what the others have.", _ANY),
        ("conflict", Scope.ADMIN, ConflictOrder, "Show or settle a conflict.", _ANY),
        ("scrub", Scope.ADMIN, ScrubOrder, "Begin to read all files of a group again.", _object(groups=_ANY)),
    )
)


def document() -> Schema:
    """The whole document, plain values."""
    paths: dict[str, Schema] = {}
    for operation in (*_READING, *_CHANGING):
        paths.setdefault(operation.path, {})[operation.method] = _described(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Anycastle",
            "version": VERSION,
            "description": "One member's answers and orders. Refusals are JSON with one line, `error`. "
            f"Unknown and repeated parameters are refused, and more than {PARAMETERS_MAX} of them.",
        },
        "paths": paths,
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "From `dashboard.token_file`. Over the Unix socket none is needed.",
                }
            },
        },
    }


def _described(operation: _Operation) -> Schema:
    name = operation.path.rpartition("/")[2]
    open_too: list[Schema] = [{}] if operation.scope is Scope.READ else []
    found: Schema = {
        "operationId": name if operation.method == "get" else f"{operation.method}_{name}",
        "summary": operation.summary,
        "description": f"Scope: {operation.scope.value}.",
        "security": [*open_too, {"token": []}],
        "responses": {"200": _answer("Done.", operation.content, operation.answer)}
        | {
            status: _answer(_REFUSALS[status], "application/json", _object(error=_TEXT))
            for status in operation.refusals
        },
    }
    if operation.parameters:
        found["parameters"] = list(operation.parameters)
    if operation.body is not None:
        found["requestBody"] = {"required": True, "content": {"application/json": {"schema": _ref(operation.body)}}}
    return found


def _answer(text: str, content: str, schema: Schema) -> Schema:
    return {"description": text, "content": {content: {"schema": schema}}}


def _schemas() -> Schema:
    _, found = msgspec.json.schema_components(_TYPES, ref_template="#/components/schemas/{name}")
    found["DrainOrder"]["properties"] |= {
        "site": _NAME,
        "group": {"default": "*", "anyOf": [_NAME, {"const": "*"}]},
    }
    found["GroupOrder"]["properties"]["group"] = found["DrainOrder"]["properties"]["group"]
    return found
