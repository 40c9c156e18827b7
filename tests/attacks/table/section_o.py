"""Section O: what a store may answer with, and what of it is shown."""

import json
from typing import Any

from aiohttp import web

from tests.attacks.table.rows import Row, ask, row
from tests.attacks.table.section_g import versions
from tests.attacks.table.stores import LEAKING_OUTCOME, answers, found
from tests.support.gateway import Reply
from tests.support.hostile_upstream import HostileUpstream
from tests.support.world import SECRET, world

_SEARCH, _READ = ask("GET /Observation?code=x"), ask("GET /Observation/a1")
_W = world()
_A1, _B1 = _W["Observation/a1"], _W["Observation/b1"]
_B = {"resourceType": "Patient", "id": "B", "name": [{"family": SECRET}]}


def searched(id: str, store: Any, shows: set[str], **more: Any) -> Row:
    """A search whose answer is judged entry by entry."""
    said = {"sent": ("GET *",), "twin": _SEARCH} | more
    return row(id, "GET /Observation?code=x", 200, shows=shows, store=store, **said)


def broken(id: str, store: Any, line: str = "GET /Observation/a1", **more: Any) -> Row:
    """An answer of which nothing comes through."""
    said = {"sent": ("GET *",), "twin": _READ} | more
    return row(id, line, 502, "upstream-invalid", store=store, **said)


def read(id: str, resource: Any, status: int = 404, reason: str | None = "not-found", **more: Any) -> Row:
    """A read that the store answers with something else."""
    said = {"sent": ("GET Observation/a1",), "twin": _READ} | more
    return row(id, "GET /Observation/a1", status, reason, store=answers(resource), **said)


def cut(store: HostileUpstream) -> None:
    """A bundle that ends in the middle, with the connection."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={"Content-Type": "application/fhir+json", "Content-Length": "999999"}
        )
        await response.prepare(request)
        own = {"relation": "self", "url": f"{store.base}/Observation?{request.query_string}"}
        head = {"resourceType": "Bundle", "type": "searchset", "link": [own], "entry": [{"resource": _A1}]}
        await response.write(json.dumps(head).encode()[:-2])
        assert request.transport is not None
        request.transport.close()
        return response

    store.answer = answer


def entries(*resources: Any) -> Any:
    """A searchset of entries as they are."""
    return found(entries=[{"resource": r, "search": {"mode": "match"}} for r in resources])


_IN_OWN = _A1 | {"contained": [_B | {"id": "p"}]}
_NESTED = {"resourceType": "Bundle", "type": "collection", "id": "n", "entry": [{"resource": _B1}]}
_PARAMETERS = {"resourceType": "Parameters", "id": "n", "parameter": [{"name": "x", "resource": _B1}]}
_NUMBERS = b'{"resourceType":"Patient","id":"A","x":[1.50,1e400,1.2300000000000000000000000000000000000001,99999999999999999999]}'
_STATUSES = (201, 203, 206, 207, 300)
_ERRORS = (400, 401, 403, 409, 412, 422, 429, 500, 501, 502, 503, 504)
_HEADERS = {
    "Server": "upstream-product/9", "X-Powered-By": "upstream-product", "X-Request-Url": "{store}/Patient/A",
    "Set-Cookie": "JSESSIONID=x", "Via": "1.1 evil", "x-ms-request-id": "evil", "Link": "<{store}/x>; rel=next",
    "Content-Location": "{store}/Patient/A/_history/1", "Location": "http://evil.example", "X-Debug": SECRET,
    "WWW-Authenticate": "Basic realm=evil", "Access-Control-Allow-Origin": "http://evil.example",
    "Strict-Transport-Security": "max-age=0", "Content-Disposition": "inline; filename=evil", "Warning": f"199 {SECRET}",
}  # fmt: skip
ROWS = (
    searched("O-241-a-foreign-entry", entries(_A1, _B1), {"Observation/a1"}),
    searched("O-241b-foreign-entries-alone", entries(_B1, _B), set()),
    searched("O-241c-another-type", entries(_A1, _W["Practitioner/dr1"]), {"Observation/a1"}),
    searched("O-242-an-entry-without-a-subject", entries(_A1, {"resourceType": "Observation", "id": "n", "note": [
        {"text": SECRET}]}), {"Observation/a1"}),
    searched("O-242b-a-subject-that-says-nothing", entries(_A1, _B1 | {"subject": {"display": SECRET}}), {"Observation/a1"}),
    searched("O-242c-a-subject-that-is-a-text", entries(_A1, _B1 | {"subject": "Patient/A"}), {"Observation/a1"}),
    searched("O-242d-two-subjects-in-a-list", entries(_A1, _B1 | {"subject": [{"reference": "Patient/A"}, {"reference": "Patient/B"}]}),
             {"Observation/a1"}),
    searched("O-242e-the-subject-at-another-server", entries(_A1, _B1 | {"subject": {
        "reference": "http://evil.example/fhir/Patient/A"}}), {"Observation/a1"}),
    searched("O-242f-the-subject-in-other-letters", entries(_A1, _B1 | {"subject": {"reference": "patient/A"}}),
             {"Observation/a1"}),
    searched("O-242g-the-subject-with-a-path", entries(_A1, _B1 | {"subject": {"reference": "Patient/A/../B"}}),
             {"Observation/a1"}),
    searched("O-244-a-bundle-in-a-bundle", entries(_A1, _NESTED), {"Observation/a1"}),
    searched("O-244b-parameters", entries(_A1, _PARAMETERS), {"Observation/a1"}),
    searched("O-244c-a-message", found(entries=[{"resource": _A1, "search": {"mode": "match"}}, {
        "resource": LEAKING_OUTCOME, "search": {"mode": "outcome"}}]), {"Observation/a1"}),
    searched("O-244d-an-entry-that-is-no-resource", found(entries=[{"resource": _A1, "search": {"mode": "match"}}, {
        "search": {"mode": "match"}, "note": SECRET}]), {"Observation/a1"}),
    searched("O-244e-a-resource-beside-a-resource", found(entries=[{"resource": _A1, "search": {"mode": "match"},
             "other": _B1, "request": {"url": SECRET}}]), {"Observation/a1"}),
    searched("O-244f-members-of-the-bundle", found(_A1, more={"link": [], "meta": {"tag": [{"display": SECRET}]},
             "identifier": {"value": SECRET}, "signature": {"data": "U0VDUkVULUI="}, "extension": [
                 {"url": "x", "valueString": SECRET}]}), {"Observation/a1"}),
    searched("O-245-a-stranger-within-the-own", entries(_IN_OWN), set()),
    read("O-245b-a-stranger-within-the-own-as-read", _IN_OWN),
    row("O-246-a-hidden-name-in-copies", "GET /Encounter/eb", 200, who="dr1", world="views", sees=False,
        sent=("GET Encounter/eb",), hides=("SECRET",), store=answers({
            "resourceType": "Encounter", "id": "eb", "status": "finished", "identifier": [{"value": SECRET}],
            "text": {"status": "generated", "div": f"<div>{SECRET}</div>"},
            "extension": [{"url": "x", "valueString": SECRET}],
            "subject": {"reference": "Patient/B", "display": SECRET}}), twin=ask("GET /Encounter/eb", "dr1"),
        twin_store=answers({"resourceType": "Encounter", "id": "eb", "status": "finished"})),
    row("O-246b-a-hidden-number-in-a-reference", "GET /Encounter/eb", 200, who="dr1", world="views", sees=False,
        sent=("GET Encounter/eb",), store=answers({
            "resourceType": "Encounter", "id": "eb", "status": "finished",
            "subject": {"reference": "Patient/B", "identifier": {"system": "ssn", "value": SECRET}}}),
        twin=ask("GET /Encounter/eb", "dr1"),
        twin_store=answers({"resourceType": "Encounter", "id": "eb", "status": "finished"})),
    row("O-248-a-hidden-element-that-must-be-there", "GET /Observation/a1", 200, who="dr1", world="views",
        sent=("GET Observation/a1",), holds=("SUBSETTED", "_status", "masked"), hides=('"final"', "6.3"),
        twin="GET /Patient/A"),
    row("O-249-labels-that-tell", "GET /Observation/a-mh", 200, world="views", sent=("GET Observation/a-mh",),
        hides=("PSY", "security"), twin=_READ),
    row("O-249b-labels-that-tell-in-a-search", "GET /Observation?code=x", 200, world="views", sent=("GET *",),
        shows={"Observation/a1", "Observation/a-vitals", "Observation/a-mh"}, hides=("PSY", '"security"'), twin=_READ),
    *(row(f"O-250-an-error-{status}", "GET /Observation/a1", (400, 409, 412, 422, 429, 502, 503), sent=("GET *",),
          store=answers(LEAKING_OUTCOME, status), hides=("HAPI", "SELECT", "upstream-product", "127.0.0.1"), twin=_READ)
      for status in _ERRORS),
    *(row(f"O-250b-an-error-{status}-of-a-search", "GET /Observation?code=x", (400, 429, 502, 503), sent=("GET *",),
          store=answers(LEAKING_OUTCOME, status), hides=("HAPI", "SELECT", "127.0.0.1"), twin=_SEARCH)
      for status in (400, 500)),
    broken("O-252-an-error-page", answers(f"<html>{SECRET}</html>".encode(), media="text/html")),
    broken("O-252b-json-that-is-no-fhir", answers({"error": SECRET})),
    broken("O-252c-a-list", answers([_B1])),
    broken("O-252d-nothing", answers(b"")),
    broken("O-252e-without-a-media-type", answers(_B1, media="")),
    broken("O-252f-json-twice", answers(json.dumps(_A1).encode() + json.dumps(_B1).encode())),
    broken("O-252g-an-error-page-of-a-search", answers(f"<html>{SECRET}</html>".encode(), media="text/html"),
           "GET /Observation?code=x"),
    broken("O-252h-a-resource-for-a-search", answers(_B1), "GET /Observation?code=x"),
    broken("O-252i-another-kind-of-bundle", found(_B1, more={"type": "collection", "link": []}), "GET /Observation?code=x"),
    broken("O-252j-xml-though-json-was-asked", answers(b"<Patient xmlns='http://hl7.org/fhir'/>",
           media="application/fhir+xml")),
    read("O-252k-a-bundle-for-a-read", _NESTED),
    read("O-252l-a-stranger-for-a-read", _B),
    read("O-252m-an-outcome-for-a-read", LEAKING_OUTCOME),
    *(broken(f"O-253-an-answer-of-{status}", answers(_B1, status=status)) for status in _STATUSES),
    *(broken(f"O-253b-a-search-of-{status}", answers(_NESTED, status=status), "GET /Observation?code=x")
      for status in _STATUSES),
    row("O-254-an-answer-that-breaks-off", "GET /Observation?code=x", (0, 502), store=cut, sent=("GET *",), twin=_SEARCH),
    row("O-256-numbers-as-they-were-written", "GET /Patient/A", 200, store=answers(_NUMBERS), sent=("GET Patient/A",),
        holds=("1.50", "1e400", "1.2300000000000000000000000000000000000001", "99999999999999999999")),
    row("O-256b-characters-as-they-were-written", "GET /Patient/A", 200, sent=("GET Patient/A",),
        store=answers(b'{"resourceType":"Patient","id":"A","x":"\\u0000 \\ud800 \\u00e4"}'),
        holds=("\\u0000", "\\ud800", "\\u00e4")),
    row("O-256c-numbers-of-what-was-changed", "GET /Observation/a1", 200, world="views", sent=("GET Observation/a1",),
        store=answers(json.dumps(_A1).replace('"status"', '"referenceRange":[{"low":{"value":1e400}}],"status"').encode()),
        holds=("1e400",), twin=_READ),
    row("O-257-headers-of-the-store", "GET /Patient/A", 200, sent=("GET Patient/A",), check=lambda _, reply: _allowed(reply),
        store=answers(_W["Patient/A"], headers=_HEADERS), hides=("upstream-product", "JSESSIONID", "evil", "127.0.0.1")),
    row("O-258-a-resource-without-end", "GET /Patient/A", 502, sent=("GET Patient/A",), store=answers(
        b'{"resourceType":"Patient","id":"A","x":"' + b"x" * (10 * 1024 * 1024 + 10) + b'"}')),
    row("O-258b-an-entry-without-end", "GET /Observation?code=x", (0, 502), sent=("GET *",), twin=_SEARCH, store=entries(
        _A1 | {"note": [{"text": "x" * (10 * 1024 * 1024 + 10)}]})),
    row("O-258c-a-history-of-others", "GET /Patient/A/_history", 200, sent=("GET *",), shows={"Patient/A"},
        store=versions({"resource": _W["Patient/A"]}, {"resource": _B}), twin="GET /Patient/A/_history"),
)  # fmt: skip

_KNOWN = frozenset(
    [
        "server",
        "content-type",
        "cache-control",
        "vary",
        "x-content-type-options",
        "etag",
        "last-modified",
        "content-location",
        "date",
        "content-length",
        "connection",
        "x-fapi-interaction-id",
        "dpop-nonce",
        "transfer-encoding",
        "trailer",
    ]
)


def _allowed(reply: Reply) -> None:
    assert {name.lower() for name, _ in reply.headers} <= _KNOWN
