"""Reads, versions, histories, conditional reads, operations, exports, documents and what a store may answer with."""

import json
from typing import Any

from aiohttp import web

from tests.attacks.leak_bank.asking import CLOSED, OWN, SCOPE, VITAL_SIGNS, not_found, question, seen
from tests.attacks.leak_bank.world import CLINICAL_NOTE, LAB_TEXT, VITAL, bank_world, observation
from tests.attacks.table.rows import Row, ask
from tests.attacks.table.stores import LEAKING_OUTCOME, answers, fhir, found, holding
from tests.support.gateway import RunningGateway
from tests.support.hostile_upstream import HostileUpstream
from tests.support.world import SECRET

_WORLD = bank_world()
_ASYNC = (("Prefer", "respond-async"),)
_MOVED_AWAY = observation("oX", note=[{"text": SECRET}])  # what was A's before it was B's
_WAS_LAB = observation("oA-vs", "A", "laboratory", note=[{"text": LAB_TEXT}])
_PSY = {"security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "PSY"}]}


def versions(old: dict[str, Any], current: dict[str, Any]) -> Any:
    """The store has this resource, and had it otherwise in its version 1."""

    def set_(store: HostileUpstream) -> None:
        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            if request.path.endswith("/_history"):
                entries = [{"resource": version} for version in (current, old)]
                return fhir(
                    json.dumps({"resourceType": "Bundle", "type": "history", "entry": entries}).encode()
                )
            value = old if request.path.endswith("/_history/1") else current
            return fhir(json.dumps(value).encode(), headers={"ETag": 'W/"2"'})

        store.answer = answer

    return set_


def closed(id: str, line: str, reason: str | None = CLOSED, status: int = 403, **more: Any) -> Row:
    """What is refused before the store hears of it."""
    return question(id, line, status, reason, **{"token": "T2"} | more)


_STORED = versions(_MOVED_AWAY, _WORLD["Observation/oX"])
_OPERATIONS = ("stats", "document", "expand", "lookup", "meta", "meta-add", "merge", "match", "find", "process-message",
               "reindex", "purge-history", "cqf-measure", "translate", "closure")  # fmt: skip
_FORMATS = (
    (("Accept", "text/turtle"),), (("Accept", "text/html"),), (("Accept", "application/fhir+ndjson"),),
)  # fmt: skip
_FILTERED = f"system/Observation.rs?{VITAL}"
ROWS: tuple[Row, ...] = (
    not_found("LK-010-a-strangers-by-its-id", "Observation/oB-vs", token="T2"),
    not_found("LK-032-another-category", "Observation/oA-lab", hides=(LAB_TEXT,)),
    question("LK-032b-by-head", "HEAD /Observation/oA-lab", 404, same_as="HEAD /Observation/none", sent=("GET Observation/oA-lab",)),
    not_found("LK-032c-is-it-still-that-version", "Observation/oA-lab", headers=(("If-None-Match", 'W/"1"'),)),
    not_found("LK-032d-is-it-newer", "Observation/oA-lab", headers=(("If-Modified-Since", "Fri, 01 Jan 2100 00:00:00 GMT"),)),
    question("LK-032e-the-own-is-still-that-version", "GET /Observation/oA-vs", 304, headers=(("If-None-Match", 'W/"1"'),),
             sent=("GET Observation/oA-vs",)),
    *(not_found(f"LK-033-in-a-shape-{n}", f"Observation/oA-lab?{shape}",
                twin=ask("GET /Observation/oA-vs?_elements=code", "T1")) for n, shape in enumerate(("_elements=id", "_summary=true"))),
    question("LK-033b-the-own-in-a-shape", "GET /Observation/oA-vs?_elements=code", 200, sent=("GET Observation/oA-vs",),
             hides=("vital-signs",)),
    question("LK-034-a-version-that-was-the-own", "GET /Observation/oX/_history/1", 404, "not-found", token="T2", store=_STORED,
             sent=("GET Observation/oX/_history/1", "GET Observation/oX")),
    question("LK-034b-the-version-that-is-a-strangers", "GET /Observation/oX/_history/2", 404, "not-found", token="T2",
             store=_STORED, sent=("GET Observation/oX/_history/2",)),
    question("LK-034c-what-it-is-now", "GET /Observation/oX", 404, "not-found", token="T2", store=_STORED, sent=("GET Observation/oX",)),
    question("LK-036-a-version-of-another-category", "GET /Observation/oA-vs/_history/1", 404, "not-found",
             store=versions(_WAS_LAB, _WORLD["Observation/oA-vs"]), sent=("GET Observation/oA-vs/_history/1",), hides=(LAB_TEXT,)),
    question("LK-036b-in-a-history", "GET /Observation/oA-vs/_history", 200, store=versions(_WAS_LAB, _WORLD["Observation/oA-vs"]),
             sent=("GET Observation/oA-vs/_history",), shows=seen("oA-vs"), hides=(LAB_TEXT,)),
    question("LK-036c-a-version-of-what-is-of-another-category-now", "GET /Observation/oA-vs/_history/1", 404, "not-found",
             store=versions(_WORLD["Observation/oA-vs"], _WAS_LAB), sent=("GET Observation/oA-vs/_history/1", "GET Observation/oA-vs"),
             twin=ask("GET /Observation/oA-vs/_history/1", "T1")),
    *(closed(f"LK-037-the-letter-s-alone-{n}", f"GET /Observation/oA-vs/{place}", SCOPE, scope="patient/Observation.s")
      for n, place in enumerate(("_history", "_history/1"))),
    question("LK-037b-the-letter-r-alone", "GET /Observation/oA-vs/_history", 200, token="T2", scope="patient/Observation.r",
             shows=seen("oA-vs"), sent=("GET Observation/oA-vs/_history",)),
    closed("LK-037c-the-letter-r-alone-searches-nothing", "GET /Observation", SCOPE, scope="patient/Observation.r"),
    closed("LK-037d-the-history-of-a-type", "GET /Observation/_history", None),
    *(closed(f"LK-061-a-page-by-hand-{n}", f"GET /{place}", None, status, token="T1") for n, (status, place) in enumerate((
        (400, "?_getpages=6b2b1b3e&_getpagesoffset=0"), (400, "Observation?ct=abc"), (400, "Observation?_skip=1"),
        (400, "Observation?_offset=1"), (404, "Observation?_page=AAAA")))),
    closed("LK-070-the-whole-record-by-the-letter-r", "GET /Patient/A/$everything", "no-permit", scope="patient/Patient.r"),
    question("LK-070b-the-whole-record-of-one-scope", "GET /Patient/A/$everything", 200, scope=f"patient/Patient.rs patient/Observation.rs?{VITAL}",
             shows={"Patient/A"} | VITAL_SIGNS, sent=("GET Patient/A", "GET Patient/A/$everything?_type=Observation%2CPatient")),
    closed("LK-072-the-record-of-a-stranger", "GET /Patient/B/$everything", "not-found", 404, same_as="GET /Patient/none/$everything"),
    *(closed(f"LK-072b-the-record-of-{n}", f"GET /{place}/$everything") for n, place in enumerate(("Patient", "Encounter/eB", "Group/G"))),
    *(closed(f"LK-073-a-query-language-{n}", line, token=token, body=None if line.startswith("GET") else {"query": "{ Patient { id } }"})
      for n, (line, token) in enumerate((("GET /$graphql?query=%7BPatientList%7Bid%7D%7D", "T2"), ("POST /$graphql", "T2"),
                                         ("GET /Patient/A/$graphql?query=%7Bid%7D", "T2"), ("POST /Patient/$graphql", "T2")))),
    question("LK-073b-a-query-language-of-staff", "POST /$graphql", 403, CLOSED, token="T4", body={"query": "{ Patient { id } }"}),
    closed("LK-012-member-match", "POST /Patient/$member-match", body={"resourceType": "Parameters"}),
    *(closed(f"LK-074-{name}", f"POST /Observation/${name}", body={"resourceType": "Parameters"}) for name in _OPERATIONS),
    question("LK-074b-the-last-results", "GET /Observation/$lastn?patient=A&code=4548-4", 200, holds=("oA-vs", "oA-multi"),
             sent=("GET Observation/$lastn?*",), hides=(LAB_TEXT,)),
    closed("LK-074c-validation-of-what-may-not-be-made", "POST /Observation/$validate", SCOPE, body=observation(None)),
    closed("LK-076-a-document-of-several", "GET /Composition/x/$document"),
    *(not_found(f"LK-077-names-the-own-and-a-stranger-{place.partition('/')[0].lower()}", place, token="T2") for place in (
        "Group/G", "Appointment/apAB", "Communication/comAB", "Consent/conB", "List/lB")),
    *(closed(f"LK-077b-a-type-that-nobody-opened-{place.partition('/')[0].lower()}", f"GET /{place}", "no-permit") for place in (
        "Task/tB", "Bundle/docB", "MessageHeader/mB")),
    question("LK-078-an-appointment-of-the-own", "GET /Appointment/apA", 200, token="T2", sent=("GET Appointment/apA",)),
    question("LK-078b-a-schedule-of-the-own", "GET /Schedule/sA", 200, token="T2", sent=("GET Schedule/sA",)),
    *(closed(f"LK-080-an-export-by-{token}-{n}", f"GET /{place}", None, token=token, headers=_ASYNC)
      for token in ("T2", "T4") for n, place in enumerate(("$export", "Patient/$export", "Group/G/$export"))),
    question("LK-081-an-export-without-types", "GET /$export", 202, token="T5", headers=_ASYNC, sent=("GET $export?_type=Observation",),
             hides=("127.0.0.1", "/jobs/"), claims={"client_id": "absent"}),
    question("LK-081b-types-beyond-the-scopes", "GET /$export?_type=Observation,Patient", 202, token="T5", headers=_ASYNC,
             sent=("GET $export?_type=Observation",), claims={"client_id": "wider"}),
    *(closed(f"LK-081c-an-export-that-asks-for-more-{n}", f"GET /$export?{text}", None, status, token="T5", headers=_ASYNC)
      for n, (status, text) in enumerate(((400, "_type=Foo"), (403, "_type=Condition"), (403, "_elements=id"), (403, "includeAssociatedData=x"),
          (403, "_typeFilter=Observation%3F_include%3DObservation%3Asubject"), (403, "_typeFilter=Condition%3Fcode%3Dx"),
          (403, "_typeFilter=Observation%3Fsubject.name%3Dx")))),
    *(closed(f"LK-082-an-export-by-a-filtered-scope-{n}", f"GET /{place}", SCOPE, token="T5", scope=_FILTERED, headers=_ASYNC)
      for n, place in enumerate(("$export", "Patient/$export", "Group/G/$export"))),
    closed("LK-084-an-export-of-another-client", "GET /Group/G/$export", None, token="T5", headers=_ASYNC, claims={"organization": "other"}),
    question("LK-086-later-please", "GET /Observation", 200, headers=_ASYNC, shows=VITAL_SIGNS, sent=("GET Observation?*",),
             check=lambda gateway, _: _not_later(gateway)),
    question("LK-088-methods-and-places-by-header", "GET /Observation/oA-vs", 200, sent=("GET Observation/oA-vs",), headers=(
        ("X-HTTP-Method-Override", "DELETE"), ("X-Original-URL", "/fhir/r4/Patient/B"), ("X-Forwarded-Prefix", "/evil"),
        ("X-Forwarded-Host", "evil.example"), ("Forwarded", "host=evil.example"), ("X-User-Id", "B"), ("X-Patient", "B")),
        unsent=("x-http-method-override", "x-original-url", "x-forwarded-prefix", "x-user-id", "x-patient")),
    question("LK-088b-a-method-in-the-query", "GET /Observation/oA-vs?_method=DELETE", 400, "unknown-parameter"),
    *(closed(f"LK-090-a-form-that-nobody-inspects-{n}", "GET /Observation/oA-vs", "not-acceptable", 406, token="T1", headers=said)
      for n, said in enumerate(_FORMATS)),
    question("LK-090b-in-xml", "GET /Observation/oA-vs?_format=xml", 200, sent=("GET Observation/oA-vs",), holds=("<Observation",)),
    not_found("LK-090c-hidden-in-xml", "Observation/oA-lab?_format=xml", hides=(LAB_TEXT,)),
    *(question(f"LK-090d-an-answer-that-nobody-can-inspect-{n}", "GET /Observation/oA-vs", 502, "upstream-invalid", sent=("GET *",), store=said)
      for n, said in enumerate((answers(_WORLD["Observation/oA-vs"], headers={"Content-Encoding": "br"}),
                                answers(b"<Observation/>", media="application/fhir+xml"), answers(b"--x", media="multipart/mixed; boundary=x")))),
    question("LK-092-the-address-of-the-store-in-clinical-text", "GET /Observation/oN", 200, sent=("GET Observation/oN",), hides=("evil.example",),
             store=holding(observation("oN", "A", "vital-signs", note=[{"text": "see http://inner.example/fhir/Patient/A"}])),
             holds=("see http://inner.example/fhir/Patient/A",)),
    closed("LK-094-a-content-without-its-document", "GET /Binary/bA", None, scope="patient/Binary.r", status=404, sent=None),
    question("LK-094b-a-content-by-its-document", "GET /Binary/bA", 200, token="T2", sent=None, holds=("note",)),
    question("LK-094c-a-strangers-content", "GET /Binary/bB", 404, "not-found", token="T2", sent=None, same_as="GET /Binary/none"),
    question("LK-096-documents-of-one-category", "GET /DocumentReference", 200, shows={"DocumentReference/dA"}, sent=("GET DocumentReference?*",),
             scope=f"patient/DocumentReference.rs?category={CLINICAL_NOTE}"),
    question("LK-096b-documents-of-another-category", "GET /DocumentReference", 200, shows=set(), sent=("GET DocumentReference?*",),
             scope="patient/DocumentReference.rs?category=other"),
    *(not_found(f"LK-098-targets-of-two-{id_}", f"Provenance/{id_}", token="T2") for id_ in ("pv", "pvA")),
    question("LK-098b-brought-along", "GET /Observation?_id=oA-vs&_revinclude=Provenance:target", 200, token="T2", shows=seen("oA-vs"),
             store=found(entries=[{"resource": _WORLD["Observation/oA-vs"], "search": {"mode": "match"}},
                                  {"resource": _WORLD["Provenance/pv"], "search": {"mode": "include"}}]), sent=("GET *",)),
    closed("LK-098c-who-looked-at-a-stranger", "GET /AuditEvent/ae", "no-permit"),
    question("LK-100-no-token", "GET /Observation/oA-vs", 401, "token-missing", token=None),
    question("LK-100b-a-token-in-the-query", "GET /Observation/oA-vs?access_token=x", (400, 401), token=None),
    question("LK-100c-a-token-in-a-cookie", "GET /Observation/oA-vs", 401, "token-missing", token=None, headers=(("Cookie", "access_token=x"),)),
    question("LK-101-for-another-base", "GET /Observation/oA-vs", 401, "token-invalid", claims={"aud": "https://other.example/fhir"}),
    question("LK-102-expired", "GET /Observation/oA-vs", 401, "token-invalid", claims={"exp": 1}),
    closed("LK-109-a-policy-over-a-wildcard", "GET /Observation/oA-vs", "policy-denied", claims={"client_id": "kiosk"}),
    *(question(f"LK-110-labels-in-{name}", line, status, token="T2", claims={"client_id": "portal-of-labels"}, shows=shows, store=store, sent=None,
               hides=(LAB_TEXT,)) for name, line, status, shows, store in (
        ("a-read", "GET /Observation/oA-lab", 404, None, holding(_WORLD["Observation/oA-lab"] | {"meta": _PSY})),
        ("a-search", "GET /Observation", 200, seen("oA-vs"), found(_WORLD["Observation/oA-vs"], _WORLD["Observation/oA-lab"] | {"meta": _PSY})),
        ("a-history", "GET /Observation/oA-vs/_history", 200, seen("oA-vs"),
         versions(_WAS_LAB | {"meta": _PSY}, _WORLD["Observation/oA-vs"])),
        ("an-include", "GET /Observation?_include=Observation:has-member", 200, seen("oA-vs"), found(entries=[
            {"resource": _WORLD["Observation/oA-vs"], "search": {"mode": "match"}},
            {"resource": _WORLD["Observation/oA-lab"] | {"meta": _PSY}, "search": {"mode": "include"}}])),
        ("the-whole-record", "GET /Patient/A/$everything", 200, OWN - seen("oA-lab", "oA-none") | {
            "Condition/cA-ed", "Condition/cA-pl", "Coverage/covA", "DocumentReference/dA", "Encounter/eA", "Patient/A", "RelatedPerson/rA",
            "Schedule/sA", "Appointment/apA", "Device/dvA", "Organization/O1", "Practitioner/P1"},
         lambda store: store.resources.update({key: store.resources[key] | {"meta": _PSY} for key in ("Observation/oA-lab", "Observation/oA-none")})))),
    closed("LK-112-staff-who-may-not", "GET /Patient/B", "policy-denied", token="T4", claims={"roles": ["physician", "student"]}, sent=("GET Patient/B",)),
    question("LK-112b-in-a-search", "GET /Observation?code=4548-4", 200, token="T4", claims={"roles": ["physician", "student"]},
             shows=OWN, sent=("GET *",), store=found(*(_WORLD[key] for key in sorted(OWN - seen("oBpA"))), _WORLD["Observation/oB-vs"],
                                                      _WORLD["Observation/oBpA"] | {"subject": {"reference": "Patient/A"}})),
    *(question(f"LK-113-an-answer-that-is-none-{n}", "GET /Observation/oA-vs", 502, "upstream-invalid", sent=("GET *",), store=said)
      for n, said in enumerate((answers(f"<html>{SECRET}</html>".encode(), media="text/html"), answers(b'{"resourceType":"Observ'),
                                answers(LEAKING_OUTCOME, 500)))),
    question("LK-114-a-type-that-nobody-knows", "GET /Observation", 200, shows=seen("oA-vs"), sent=("GET *",),
             store=found(_WORLD["Observation/oA-vs"], {"resourceType": "Unknown", "id": "u", "subject": {"reference": "Patient/A"}},
                         {"resourceType": "Observation", "id": "n", "category": "vital-signs", "subject": "Patient/A"})),
)  # fmt: skip
"""Questions by reading."""


def _not_later(gateway: RunningGateway) -> None:
    assert "respond-async" not in gateway.upstream.requests[0].headers.get("prefer", "")
