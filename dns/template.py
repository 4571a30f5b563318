"""Answers worked out once and given many times: what is left to do for a query is to patch id, flags, question and OPT.

Law: a template and a query make the message that `respond` would, or nothing is made of them. So an answer is kept
only when it is the same for every client (`EVERYWHERE`), or for every client of one place of the map. Only the
compression of a negative answer may differ: it is made once for all the names that do not exist below another.
"""

import math
from collections.abc import Iterable
from typing import Any, Protocol

import msgspec

from anycastle.dns.decider import Choice, Decider
from anycastle.dns.edns import NOT_AUTHORITATIVE, ExtendedError, Malformed, render_error
from anycastle.dns.fastest import Fastest
from anycastle.dns.rank import Depends
from anycastle.dns.reply import Answer, Body, flags_of, render_body
from anycastle.dns.rrset import AAAA, AT_QUESTION, CLASS_IN, A
from anycastle.dns.tables import Tables
from anycastle.dns.wire import HEADER_BYTES, Query, Rcode, labels_of, parent_of, skip_name
from anycastle.dns.zone import Steered, Zone, look_up

EVERYWHERE = -1
"""Instead of the number of a place."""
BODY_BYTES_MAX = 4096
"""Larger answers do not fit in a UDP packet that anybody asks for, so they are not kept."""
_CLASS_IN = CLASS_IN.to_bytes(2)
_SHARED_TYPES = (A, AAAA)
"""Addresses are those of a site, whatever its name; HTTPS records are a name's own."""
_NOBODY = b"\x01\x00"
"""A label for a name that nobody asks for."""


class Template(msgspec.Struct, frozen=True, gc=False):
    """One answer."""

    flags: int
    """QR, AA and the RCODE; RD and CD are the client's."""
    body: Body
    question_bytes: int
    """Of the question that it was made for; another length moves the pointers in its body."""
    error: bytes = b""
    """An extended error, as the option that goes to clients with EDNS (RFC 8914)."""
    scoped: bool = False
    """The scope is that of the client's leaf in the map, else 0."""
    steered: bool = False


NOT_OURS = Answer(rcode=Rcode.REFUSED, authoritative=False, error=ExtendedError(NOT_AUTHORITATIVE))
"""For names in no zone of ours."""


class Answers(Protocol):
    """The answers to one question, by place; of a keeper's own make. Several questions may share them."""

    def has(self, place: int) -> bool: ...


class Keeper(Protocol):
    """Where templates are kept: `shelf.Shelf` or its compiled twin."""

    def answers(self, until: float, by_speed: bool = False) -> "Answers": ...

    def add(self, answers: Any, place: int, template: Template) -> None: ...

    def keep(self, question: bytes, answers: Any) -> None: ...

    def answer(self, packet: bytes, source: bytes, *, now: float, wall: float) -> bytes | None: ...

    def keep_negative(self, encloser: bytes, template: Template) -> None: ...

    def forget(self, questions: Iterable[bytes]) -> None: ...

    def lay(self, fastest: Fastest) -> None: ...


def keep_static(keeper: Keeper, query: Query, answer: Answer, zone: Zone) -> None:
    """An answer that stands until the tables are replaced."""
    if answer is zone.nxdomain:
        _keep_negative(keeper, query, answer, zone)
        return
    question = _lower(query)
    template = make_template(question, answer)
    if template is not None:
        answers = keeper.answers(math.inf)
        keeper.add(answers, EVERYWHERE, template)
        keeper.keep(question, answers)


def _keep_negative(keeper: Keeper, query: Query, answer: Answer, zone: Zone) -> None:
    """It is that of every name below the closest encloser that does not exist either (RFC 4592 section 3.3.1)."""
    encloser = parent_of(query.name)
    while encloser not in zone.nodes:
        encloser = parent_of(encloser)
    template = make_template(_NOBODY + encloser + query.question[-4:], answer)
    if template is not None and not _points_at_question(template.body):
        keeper.keep_negative(encloser, template)


def keep_steered(keeper: Keeper, query: Query, answer: Answer, choice: Choice) -> None:
    """An answer that stands until the view changes the decision behind it, or time does."""
    if choice.place is None:
        return
    question = _lower(query)
    name, shared = choice.name, choice.name.standpoint.answers
    by_place = choice.decision.depends is Depends.PLACE
    place = choice.place if by_place else EVERYWHERE
    answers = name.answers.get(query.rrtype) or shared.get(query.rrtype)
    if answers is None or not answers.has(place):
        template = make_template(question, answer, scoped=by_place and not choice.decision.rcode, steered=True)
        if template is None:
            return
        if query.rrtype not in _SHARED_TYPES or template.body.pointers:
            shared[query.rrtype] = None  # here the name is in the answer
        if shared.get(query.rrtype, name) is None:
            answers = name.answers.get(query.rrtype) or keeper.answers(choice.until, choice.by_speed)
            name.answers[query.rrtype] = answers
        elif answers is None:
            answers = shared[query.rrtype] = keeper.answers(choice.until, choice.by_speed)
        keeper.add(answers, place, template)
    name.questions.add(question)
    keeper.keep(question, answers)


def adopt(keeper: Keeper, packet: bytes, tables: Tables, decider: Decider, *, now: float) -> bool:
    """Whether the answers to a steered name that is asked for the first time are there already: those of its kind."""
    question = _plain_question(packet)
    rrtype = int.from_bytes(question[-4:-2])
    match = decider.steering.match(labels_of(question[:-4])) if rrtype in _SHARED_TYPES else None
    if match is None or (match.captures and not _is_steered(question[:-4], rrtype, tables)):
        return False
    name = decider.name(match, now)
    answers = name.standpoint.answers.get(rrtype)
    if answers is None:
        return False
    keeper.forget(decider.take_forgotten())
    name.questions.add(question)
    keeper.keep(question, answers)
    return True


def _is_steered(name: bytes, rrtype: int, tables: Tables) -> bool:
    """Nothing in the zone stands between a name and the wildcard that it matches."""
    zone = tables.zone_of(name, rrtype)
    return zone is not None and isinstance(look_up(zone, name, rrtype), Steered)


def _plain_question(packet: bytes) -> bytes:
    """In lower case; empty when there is none of class IN that could be read."""
    try:
        end = skip_name(packet, HEADER_BYTES)
    except Malformed:
        return b""
    tail = packet[end : end + 4]
    return packet[HEADER_BYTES:end].lower() + tail if tail[2:] == _CLASS_IN else b""


def make_template(question: bytes, answer: Answer, *, scoped: bool = False, steered: bool = False) -> Template | None:
    """The template of an answer to this question (lower case); None when it is too large to be kept."""
    body = render_body(question, answer)
    if len(body.content) > BODY_BYTES_MAX:
        return None
    error = render_error(answer.error) if answer.error is not None else b""
    return Template(flags_of(answer), body, len(question), error, scoped, steered)


def _lower(query: Query) -> bytes:
    """The question, with the name in lower case. Not type and class: type 65 is a letter too."""
    return query.name + query.question[-4:]


def _points_at_question(body: Body) -> bool:
    """Whether something in it is the question's own name, which for another name is another."""
    return any(body.content[at : at + 2] == AT_QUESTION for at in body.pointers)
