"""Writes: creates and updates about others, patches, conditions, races, bodies of two readings, and Bundles."""

import json
from typing import Any

from aiohttp import web

from tests.attacks.leak_bank.asking import SCOPE, not_found, question
from tests.attacks.leak_bank.world import LAB_TEXT, VITAL, about, bank_world, observation
from tests.attacks.table.rows import JSON, Row, ask
from tests.attacks.table.stores import LEAKING_OUTCOME, answers, fhir
from tests.support.hostile_upstream import HostileUpstream

_WORLD = bank_world()
_FULL = "patient/Observation.cruds"
_B = about("B")


def create(id: str, body: Any, status: int = 403, reason: str = SCOPE, **more: Any) -> Row:
    """A create that the store never hears of."""
    return question(id, "POST /Observation", status, reason, **{"token": "T3", "body": body} | more)


def update(id: str, key: str, body: Any, status: int = 403, reason: str | None = SCOPE, **more: Any) -> Row:
    """An update that is refused, once the stored version was looked at where sent says so."""
    return question(id, f"PUT /Observation/{key}", status, reason, **{"token": "T3", "body": body} | more)


def patch(id: str, key: str, operations: Any, status: int, reason: str, **more: Any) -> Row:
    """A JSON Patch by who may read what is stored, and write it."""
    said = {"token": "T3", "scope": _FULL, "body": operations} | more
    return question(id, f"PATCH /Observation/{key}", status, reason, **said)


def changed_between(store: HostileUpstream) -> None:
    """Somebody gives the resource to B after it was judged."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "GET":
            return fhir(json.dumps(_WORLD["Observation/oA-vs"]).encode(), headers={"ETag": 'W/"1"'})
        assert request.headers["If-Match"] == 'W/"1"'
        body = json.dumps(LEAKING_OUTCOME).replace("{store}", store.base)
        return fhir(body.encode(), 412, {"ETag": 'W/"9"', "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"})

    store.answer = answer


def _no_versions_told(_: Any, reply: Any) -> None:
    assert reply.header("ETag") is None
    assert reply.header("Last-Modified") is None
    assert reply.header("Location") is None


def bundle(kind: str, *entries: dict[str, Any]) -> dict[str, Any]:
    """A Bundle to be sent."""
    return {"resourceType": "Bundle", "type": kind, "entry": list(entries)}


def entry(method: str | None, url: str, resource: Any = None, **request: Any) -> dict[str, Any]:
    """One entry of it."""
    asked = ({} if method is None else {"method": method}) | {"url": url} | request
    return {"request": asked} | ({} if resource is None else {"resource": resource})


def refused_entry(id: str, line: dict[str, Any], status: str, **more: Any) -> Row:
    """A batch whose one entry is refused in its place."""
    return question(id, "POST /", 200, body=bundle("batch", line), holds=(f'"status":"{status}',), token="T2",
                    **{"scope": "patient/*.cruds", "sent": ()} | more)  # fmt: skip


_READ_B = ("GET Observation/oB-vs",)
_OWN_SCOPE = {"scope": "patient/*.cruds", "token": "T2"}
_REFERENCES: dict[str, dict[str, Any]] = {
    "a-fragment": {"subject": {"reference": "#p"}, "contained": [{"resourceType": "Patient", "id": "p"}]},
    "a-fragment-of-the-own-id": {
        "subject": {"reference": "#A"},
        "contained": [{"resourceType": "Patient", "id": "A"}],
    },
    "an-identifier": {"subject": {"identifier": {"system": "urn:mrn", "value": "A"}}},
    "an-identifier-with-its-type": {"subject": {"type": "Patient", "identifier": {"value": "A"}}},
    "a-type-that-lies": {"subject": {"reference": "Group/A", "type": "Patient"}},
    "another-host": {"subject": {"reference": "http://other.example/fhir/r4/Patient/A"}},
    "a-host-that-begins-alike": {"subject": {"reference": "{origin}.evil.example/fhir/r4/Patient/A"}},
    "lower-case": {"subject": {"reference": "patient/A"}},
    "a-slash-behind": {"subject": {"reference": "Patient/A/"}},
    "a-urn": {"subject": {"reference": "urn:uuid:0b5e4f4e-0000-4000-8000-000000000000"}},
    "a-search": {"subject": {"reference": "Patient?identifier=A"}},
    "a-display": {"subject": {"display": "Patient/A"}},
    "an-extension": {"subject": {"extension": [{"url": "urn:x", "valueReference": about("A")}]}},
}
_WHOLLY_REFUSED = {
    "another-base": entry("GET", "http://other.example/fhir/Observation/oA-vs"),
    "two-slashes": entry("GET", "//Patient/B"),
    "lower-case": entry("get", "Observation/oA-vs"),
    "no-method": entry(None, "Observation/oA-vs"),
}
_TRICKS = {
    "dot-segments": ("400", entry("GET", "../Patient/B")),
    "an-encoded-slash": ("400", entry("GET", "Patient%2FB")),
    "the-whole-system": ("403", entry("GET", "?_type=Observation")),
    "a-method-in-the-query": ("400", entry("GET", "Observation/oA-vs?_method=DELETE")),
}

ROWS: tuple[Row, ...] = (
    create("LK-040-a-create-about-a-stranger", observation(None, "B")),
    create("LK-040b-a-create-of-another-category", observation(None, "A", "laboratory"),
           scope=f"patient/Observation.c?{VITAL}",
           twin=ask("POST /Observation", "T3", observation(None, "A", "vital-signs"), scope=f"patient/Observation.c?{VITAL}")),
    create("LK-040c-a-create-without-a-category", observation(None), scope=f"patient/Observation.c?{VITAL}"),
    create("LK-020f-a-create-by-the-scope-that-creates", observation(None, "B", "laboratory"), token="T6",
           twin=ask("POST /Observation", "T6", observation(None, "A", "survey"))),
    create("LK-041-about-a-stranger-performed-by-the-own", observation(None, "B", performer=[about("A")])),
    create("LK-041b-about-the-own-performed-by-a-stranger", observation(None, performer=[_B])),
    create("LK-041c-performed-by-both", observation(None, performer=[about("A"), _B])),
    update("LK-041d-an-update-that-lets-a-stranger-perform", "oA-vs", observation("oA-vs", performer=[_B]), sent=None),
    update("LK-042-steal-a-strangers", "oB-vs", observation("oB-vs"), 404, "not-found", sent=_READ_B),
    update("LK-042b-steal-what-one-performed", "oBpA", observation("oBpA"), 404, "not-found", sent=("GET Observation/oBpA",)),
    update("LK-042c-give-away-the-own", "oA-vs", observation("oA-vs", "B"), sent=None),
    patch("LK-044-give-away-by-a-patch", "oA-vs", [{"op": "replace", "path": "/subject/reference", "value": "Patient/B"}], 403,
          SCOPE, sent=("GET Observation/oA-vs",)),
    patch("LK-044b-a-test-of-what-is-a-strangers", "oB-vs", [{"op": "test", "path": "/status", "value": "final"}], 404,
          "not-found", sent=_READ_B),
    patch("LK-044c-a-test-of-a-strangers-that-fails", "oB-vs", [{"op": "test", "path": "/status", "value": "x"}], 404,
          "not-found", sent=_READ_B),
    patch("LK-044d-a-test-without-the-right-to-read", "oA-lab", [{"op": "test", "path": "/status", "value": "final"}], 403,
          SCOPE, scope="patient/Observation.cud"),
    patch("LK-044e-copied-from-what-may-not-be-read", "oA-lab", [{"op": "copy", "from": "/note", "path": "/component"}], 404,
          "not-found", scope=f"patient/Observation.u patient/Observation.rs?{VITAL}", sent=("GET Observation/oA-lab",),
          hides=(LAB_TEXT,)),
    patch("LK-045-a-patch-that-leaves-the-subject", "oB-vs", [{"op": "replace", "path": "/status", "value": "amended"}], 404,
          "not-found", sent=_READ_B),
    patch("LK-045b-a-patch-without-its-letter", "oA-vs", [{"op": "replace", "path": "/status", "value": "amended"}], 403, SCOPE,
          scope="patient/Observation.crds"),
    question("LK-046-a-patch-in-paths", "PATCH /Observation/oB-vs", 404, "not-found", token="T3", scope=_FULL, headers=(JSON,),
             sent=_READ_B, body={"resourceType": "Parameters", "parameter": [{"name": "operation", "part": [
                 {"name": "type", "valueCode": "replace"}, {"name": "path", "valueString": "Observation.subject.reference"},
                 {"name": "value", "valueString": "Patient/A"}]}]}),
    *(question(f"LK-046b-a-patch-of-another-kind-{n}", "PATCH /Observation/oA-vs", 415, "unsupported-media-type", token="T3",
               scope=_FULL, headers=(("Content-Type", kind),), body=b"<diff/>") for n, kind in enumerate((
                   "application/xml-patch+xml", "application/merge-patch+json", "text/plain"))),
    update("LK-048-make-what-a-stranger-has", "oB-vs", observation("oB-vs"), 404, "not-found", sent=_READ_B),
    # Stricter than SMART, where u is enough: docs/writes.md.
    update("LK-048b-make-by-an-update-alone", "new", observation("new"), 404, "not-found", scope="patient/Observation.u",
           sent=("GET Observation/new",), twin=ask("PUT /Observation/new", "T3", observation("new"))),
    create("LK-049-a-create-unless-somebody-has-it", observation(None), headers=(("If-None-Exist", "identifier=urn:mrn|x"),)),
    question("LK-049b-looked-for-among-the-own", "POST /Observation", 201, token="T3", scope=_FULL, body=observation(None),
             headers=(("If-None-Exist", "identifier=urn:mrn|SECRET"),), hides=("oB-vs",),
             sent=("GET Observation?identifier=urn%3Amrn%7CSECRET&subject=Patient%2FA", "POST Observation")),
    *(question(f"LK-050-by-criteria-without-the-right-to-search-{n}", line, 403, SCOPE, token="T3", body=body)
      for n, (line, body) in enumerate((("PUT /Observation?identifier=x", observation(None)), (
          "DELETE /Observation?identifier=x", None)))),
    question("LK-050b-a-patch-by-criteria", "PATCH /Observation?identifier=x", 403, SCOPE, token="T3",
             body=[{"op": "remove", "path": "/status"}]),
    *(question(f"LK-050c-by-criteria-that-no-rule-opens-{n}", f"DELETE /Observation?{text}", 403, "no-permit", token="T3",
               scope=_FULL) for n, text in enumerate(("patient=B", "_id=oB-vs"))),
    update("LK-052-changed-between", "oA-vs", observation("oA-vs", status="amended"), 412, "version-conflict",
           store=changed_between, sent=("GET Observation/oA-vs", "PUT Observation/oA-vs"), check=_no_versions_told),
    update("LK-093-what-the-store-says-of-a-conflict", "oA-vs", observation("oA-vs", status="amended"), 412, "version-conflict",
           store=changed_between, sent=("GET *", "PUT *"), check=_no_versions_told, hides=("HAPI-0389", "SELECT")),
    create("LK-093b-what-the-store-says-of-a-refusal", observation(None), 422, "upstream-refused", sent=("POST Observation",),
           store=answers(LEAKING_OUTCOME, 422, headers={"Location": "{store}/Observation/oB-vs", "ETag": 'W/"3"'}),
           check=_no_versions_told),
    update("LK-053-another-id", "oA-vs", observation("oA-lab"), 400, "invalid-body"),
    update("LK-053b-another-type", "oA-vs", {"resourceType": "Condition", "id": "oA-vs", "subject": about("A")}, 400,
           "invalid-body"),
    *(create(f"LK-053c-a-body-of-two-readings-{n}", body, 400, "invalid-body", headers=(JSON,)) for n, body in enumerate((
        b'{"resourceType":"Observation","status":"final","subject":{"reference":"Patient/A"},"subject":{"reference":"Patient/B"}}',
        b'{"resourceType":"Observation","subject":{"reference":"Patient/A"}}{"x":1}',
        b'\xef\xbb\xbf{"resourceType":"Observation","subject":{"reference":"Patient/A"}}',
        b'{"resourceType":"Observation","a":' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"resourceType":"Observation","valueInteger":' + b"9" * 6000 + b',"subject":{"reference":"Patient/A"}}',
        b'{"resourceType":"Observation","valueDecimal":NaN,"subject":{"reference":"Patient/A"}}'))),
    *(create(f"LK-054-{name}", observation(None) | said) for name, said in _REFERENCES.items()),
    create("LK-054b-a-contained-stranger", observation(None, contained=[
        {"resourceType": "Patient", "id": "p"}, observation(None, "B") | {"id": "o"}])),
    question("LK-054c-the-own-address", "POST /Observation", 201, token="T3", sent=("POST Observation",),
             body=observation(None) | {"subject": {"reference": "{origin}/fhir/r4/Patient/A"}}),
    question("LK-054d-the-own-in-a-version", "POST /Observation", 201, token="T3", sent=("POST Observation",),
             body=observation(None) | {"subject": {"reference": "Patient/A/_history/3"}}),
    not_found("LK-062-what-was-deleted", "Observation/oB-vs", store=answers(LEAKING_OUTCOME, 410), twin="GET /Patient/A"),
    not_found("LK-062b-what-is-hidden", "Observation/oB-vs"),
    not_found("LK-062c-what-is-hidden-of-the-own", "Observation/oA-lab"),
    question("LK-062d-deleted-by-whom", "DELETE /Observation/oB-vs", 404, "not-found", token="T3", sent=_READ_B,
             same_as="DELETE /Observation/none"),
)  # fmt: skip
"""Questions by writing."""

BUNDLES: tuple[Row, ...] = (
    question("LK-056-a-conditional-reference-in-a-transaction", "POST /", 412, "not-found", token="T2", scope="patient/*.cruds",
             sent=("GET Patient?identifier=urn%3Amrn%7CB&_id=A",),  # looked for among the own: it finds nothing
             body=bundle("transaction", entry("POST", "Observation", observation(None) | {
                 "subject": {"reference": "Patient?identifier=urn:mrn|B"}}))),
    *(question(f"LK-057-an-address-that-tricks-{name}", "POST /", 400, "invalid-body", token="T2", scope="patient/*.cruds",
               body=bundle("batch", said)) for name, said in _WHOLLY_REFUSED.items()),
    *(refused_entry(f"LK-057-an-address-that-tricks-{name}", said, status) for name, (status, said) in _TRICKS.items()),
    refused_entry("LK-057b-a-strangers-result", entry("GET", "Observation/oB-vs"), "404", sent=_READ_B),
    refused_entry("LK-057c-a-bundle-in-a-bundle", entry("POST", "Bundle", bundle("batch")), "403"),
    refused_entry("LK-057d-a-condition-of-an-entry", entry("POST", "Observation", observation(None, "B"),
                                                           ifNoneExist="identifier=urn:mrn|x"), "403", sent=None),
    question("LK-058-what-a-transaction-answers", "POST /", 200, **_OWN_SCOPE, headers=(("Prefer", "return=representation"),),
             body=bundle("transaction", entry("PUT", "Observation/oA-vs", observation("oA-vs", "A", "vital-signs"))),
             sent=("GET Observation/oA-vs", "POST *"), hides=("diagnostics",)),
    question("LK-058b-a-stranger-read-in-a-transaction", "POST /", (403, 404), **_OWN_SCOPE, sent=None,
             body=bundle("transaction", entry("GET", "Observation/oB-vs"), entry(
                 "PUT", "Observation/oA-vs", observation("oA-vs", "A", "vital-signs")))),
)  # fmt: skip
"""Questions in a Bundle: each has a record for every entry, so they are played by themselves."""
