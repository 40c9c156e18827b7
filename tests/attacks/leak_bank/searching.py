"""Searches: includes, chains, lists of values, other compartments, granular scopes, and names that trick a parser."""

from tests.attacks.leak_bank.asking import (
    CLOSED,
    LABORATORY,
    OWN,
    SCOPE,
    VITAL_SIGNS,
    brings,
    not_found,
    question,
    seen,
)
from tests.attacks.leak_bank.world import LAB_TEXT, TOKENS, VITAL, bank_world
from tests.attacks.leak_bank.world import LABORATORY as LAB
from tests.attacks.table.rows import FORM, LISTENER, Row
from tests.attacks.table.stores import found
from tests.support.world import SECRET

_T1 = TOKENS["T1"]["scope"]
_WITH_PATIENT = f"{_T1} patient/Patient.rs"
_FILTERED = (
    "subject=Patient%2FA&category=http%3A%2F%2Fterminology.hl7.org%2FCodeSystem%2Fobservation-category%7C"
)
_VITAL_SENT = f"GET Observation?{_FILTERED}vital-signs"
_WORLD = bank_world()
_BOTH = f"patient/Observation.rs?{VITAL} patient/Observation.rs?{LAB}"
_CROSSED = f"patient/Observation.r?{VITAL} patient/Observation.s?{LAB}"
_ANY = f"patient/*.rs?{VITAL}"
_TRICKS = ("Category=x", "category%00=x", "patient%3AmissinG=true", "patient[]=B", "code=x;patient=B", "%20patient=B",
           "=B", "patient%5B%5D=B", "p%C3%A4tient=B", "code=x&amp;patient=B", "%5Ftotal%20=x")  # fmt: skip


def searched(id: str, query: str, shows: set[str], **more: object) -> Row:
    """A search of Observations that is answered with these."""
    said = {"sent": ("GET Observation?*",), "hides": (LAB_TEXT,) if not shows & LABORATORY else ()} | more
    return question(id, f"GET /Observation?{query}", 200, shows=shows, **said)


ROWS: tuple[Row, ...] = (
    question("LK-001-an-include-of-a-stranger", "GET /Coverage?_id=covA&_include=Coverage:subscriber", 200, token="T2",
             shows={"Coverage/covA"}, store=brings("Coverage/covA", "Patient/B"), sent=("GET Coverage?*",)),
    question("LK-002-a-reverse-include-of-a-stranger", "GET /Observation?_id=oA-vs&_revinclude=DiagnosticReport:result", 200,
             token="T2", shows=seen("oA-vs"), store=brings("Observation/oA-vs", "DiagnosticReport/drB"), sent=("GET Observation?*",)),
    question("LK-004-an-include-of-a-type-that-is-not-granted", "GET /Observation?_include=Observation:encounter", 403,
             "join-closed"),
    searched("LK-004b-the-store-brings-it-all-the-same", "code=4548-4", seen("oA-vs"),
             store=brings("Observation/oA-vs", "Encounter/eA")),
    question("LK-005-a-reverse-include-is-filtered", "GET /Patient?_id=A&_revinclude=Observation:subject", 200,
             scope=_WITH_PATIENT, shows={"Patient/A"} | seen("oA-vs", "oA-multi"), hides=(LAB_TEXT,), sent=("GET Patient?*",),
             store=brings("Patient/A", "Observation/oA-vs", "Observation/oA-lab", "Observation/oA-none", "Observation/oA-multi",
                          "Observation/oB-vs")),
    searched("LK-006-a-member-of-another-category", "_include=Observation:has-member", seen("oA-vs"),
             store=brings("Observation/oA-vs", "Observation/oA-lab")),
    *(not_found(f"LK-008-a-reference-that-makes-nothing-ones-own-{n}", place, token="T2") for n, place in enumerate((
        "Observation/oBfA", "Observation/oBnA", "Provenance/pgA"))),
    searched("LK-008b-nor-in-a-search", "code=4548-4", OWN, token="T2"),
    question("LK-008c-nor-provenance", "GET /Provenance", 200, token="T2", shows=set(), sent=("GET Provenance?*",)),
    *(not_found(f"LK-009-a-device-of-{whose}", f"Device/{id_}", scope="patient/Device.rs") for whose, id_ in (
        ("a-stranger", "dvB"), ("nobody", "dv0"))),
    question("LK-009b-the-own-device", "GET /Device/dvA", 200, scope="patient/Device.rs", sent=("GET Device/dvA",)),
    question("LK-009c-devices", "GET /Device", 200, scope="patient/Device.rs", shows={"Device/dvA"}, sent=("GET Device?patient=A",)),
    searched("LK-013-the-store-answers-with-everything", "patient=A", VITAL_SIGNS),
    searched("LK-013b-the-store-answers-with-another-type", "patient=A", seen("oA-vs"),
             store=found(_WORLD["Observation/oA-vs"], _WORLD["Condition/cA-pl"], _WORLD["Patient/A"])),
    *(question(f"LK-014-a-reverse-chain-{n}", f"GET /Patient?_id=A&{text}", 403, "join-closed", scope=_WITH_PATIENT)
      for n, text in enumerate(("_has:Observation:patient:code=HIV", "%5Fhas:Observation:patient:code=HIV",
                                "_has:Observation:patient:_has:Provenance:target:agent=x",
                                "_has:Observation:patient:category=laboratory"))),
    question("LK-014b-a-chain-through-what-is-filtered", "GET /DiagnosticReport?result.code=HIV", 403, "join-closed",
             scope=f"{_T1} patient/DiagnosticReport.rs"),
    *(searched(f"LK-016-own-or-foreign-{n}", text, OWN, token="T2") for n, text in enumerate((
        "patient=A,B", "subject=Patient/A,Group/G"))),
    question("LK-016b-own-or-an-organization", "GET /Coverage?payor=Patient/A,Organization/O1", 200, token="T2",
             shows={"Coverage/covA"}, sent=("GET Coverage?*",)),
    *(searched(f"LK-017-one-parameter-in-many-ways-{n}", text, OWN, token="T2") for n, text in enumerate((
        "subject:identifier=urn:mrn|x", "patient:missing=true", "subject:not=Patient/A")[:2])),
    *(searched(f"LK-017b-only-strangers-are-asked-for-{n}", text, set(), token="T2", sent=()) for n, text in enumerate((
        "patient=A&patient=B", "patient=B&subject=A", "subject:Patient=B"))),
    question("LK-017c-a-modifier-that-does-not-exist", "GET /Observation?subject:not=Patient/A", 400, "unknown-parameter",
             token="T2"),
    question("LK-018-the-compartment-of-a-stranger", "GET /Patient/B/Observation", 404, "not-found", token="T2",
             same_as="GET /Patient/none/Observation"),
    *(question(f"LK-018b-another-compartment-{n}", f"GET /{place}/Observation", 403, CLOSED, token="T2") for n, place in
      enumerate(("Encounter/eB", "Practitioner/P1", "RelatedPerson/rA", "Device/dvA"))),
    searched("LK-020-a-search-by-the-scope-that-searches", "code=4548-4", LABORATORY, token="T6",
             sent=(f"GET Observation?code=4548-4&{_FILTERED}laboratory",)),
    not_found("LK-020b-letters-of-the-one-and-no-filter-of-the-other", "Observation/oA-vs", token="T6"),
    searched("LK-020c-read-this-and-search-that", "code=4548-4", LABORATORY, scope=_CROSSED),
    not_found("LK-020d-what-is-searched-is-not-read", "Observation/oA-lab", scope=_CROSSED),
    question("LK-020e-what-is-read", "GET /Observation/oA-vs", 200, scope=_CROSSED, sent=("GET Observation/oA-vs",)),
    *(question(f"LK-021-a-letter-c-alone-{n}", line, 403, SCOPE, scope="patient/Observation.c", body=body, twin="GET /Patient/A")
      for n, (line, body) in enumerate((("GET /Observation/oA-vs", None), ("GET /Observation", None),
                                        ("GET /Observation/oA-vs/_history/1", None), ("DELETE /Observation/oA-vs", None),
                                        ("PUT /Observation/oA-vs", _WORLD["Observation/oA-vs"]),
                                        ("PATCH /Observation/oA-vs", [{"op": "remove", "path": "/status"}])))),
    searched("LK-024-a-filter-for-every-type", "code=4548-4", VITAL_SIGNS, scope=_ANY),
    question("LK-024b-a-type-with-other-values", "GET /Condition", 200, scope=_ANY, shows=set(), sent=("GET Condition?*",)),
    question("LK-024c-a-type-without-the-parameter", "GET /Patient/A", 403, SCOPE, scope=_ANY),
    question("LK-024d-a-type-without-the-parameter-searched", "GET /Encounter", 403, SCOPE, scope=_ANY),
    searched("LK-025-both-scopes-count", "code=4548-4", VITAL_SIGNS | LABORATORY, scope=_BOTH,
             sent=("GET Observation?code=4548-4&subject=Patient%2FA",)),
    question("LK-025b-the-second-in-a-read", "GET /Observation/oA-lab", 200, scope=_BOTH, sent=("GET Observation/oA-lab",)),
    not_found("LK-025c-neither-of-both", "Observation/oA-none", scope=_BOTH),
    not_found("LK-026-a-patients-token-of-staff", "Observation/oB-vs", token="T2", claims={"fhirUser": "Practitioner/P1"}),
    *(question(f"LK-026b-levels-are-not-mixed-{n}", "GET /Observation/oB-vs", 403, "mixed-contexts", token="T2", scope=scope)
      for n, scope in enumerate(("patient/*.rs user/*.rs", "user/*.rs system/*.rs", "patient/*.rs system/Observation.rs"))),
    question("LK-028-no-patient", "GET /Observation", 403, "no-patient-context", token="T2", claims={"patient": ...}),
    question("LK-029-a-linked-person", "GET /Patient/A2", 404, "not-found", token="T2", same_as="GET /Patient/none"),
    searched("LK-029b-the-record-of-a-linked-person", "patient=A2", set(), token="T2", sent=()),
    not_found("LK-030-no-category-is-not-this-category", "Observation/oA-none"),
    question("LK-030b-one-category-of-two-is-enough", "GET /Observation/oA-multi", 200, sent=("GET Observation/oA-multi",)),
    searched("LK-030c-in-a-search", "code=4548-4", VITAL_SIGNS, sent=(f"GET Observation?code=4548-4&{_FILTERED}vital-signs",)),
    question("LK-038-a-form-and-a-query", "POST /Observation/_search?patient=B", 200, token="T2", body=b"category=vital-signs",
             shows=set()),
    question("LK-038b-a-form-that-asks-for-another-category", "POST /Observation/_search", 200, body=b"category=laboratory",
             shows=VITAL_SIGNS, sent=("POST Observation/_search",)),
    question("LK-038c-the-own-in-the-query-and-a-stranger-in-the-form", "POST /Observation/_search?patient=A", 200, token="T2",
             body=b"patient=B", shows=set()),
    *(question(f"LK-038d-a-form-of-another-kind-{n}", "POST /Observation/_search", 415, "unsupported-media-type", token="T2",
               body=b"patient=B", headers=(("Content-Type", kind),)) for n, kind in enumerate((
                   "multipart/form-data; boundary=x", "text/plain", "application/x-www-form-urlencoded; charset=utf-16"))),
    question("LK-038e-what-may-be-said-once", "POST /Observation/_search?_count=1", 400, "ambiguous-query", body=b"_count=2",
             headers=(FORM,)),
    question("LK-066-sorted-by-a-chain", "GET /Observation?_sort=subject.name", 403, "unsupported-parameter"),
    question("LK-066b-sorted-by-what-does-not-exist", "GET /Observation?_sort=family", 400, "invalid-parameter"),
    *(question(f"LK-068-contained-{n}", f"GET /Observation?{text}", 403, "unsupported-parameter") for n, text in enumerate((
        "_contained=true", "_contained=both", "_containedType=contained"))),
    *(question(f"LK-069-a-name-that-tricks-{n}", f"GET /Observation?{text}", 400, None) for n, text in enumerate(_TRICKS)),
    question("LK-069b-a-fragment", "GET /Observation?patient=B#", 400, LISTENER),
    question("LK-069c-a-thousand", "GET /Observation?" + "&".join(["code=x"] * 1000), 400, "ambiguous-query"),
    searched("LK-064-the-first-are-hidden", "_count=1", set(), store=found(_WORLD["Observation/oA-lab"], more={"link": [
        {"relation": "next", "url": "{store}/Observation?_getpages=7&_offset=1"}]}), hides=(LAB_TEXT, "_getpages", "_offset")),
    searched("LK-065-scores-and-outcomes", "code=4548-4", seen("oA-vs"), hides=(LAB_TEXT, "OperationOutcome", "oA-lab-is"), store=found(
        entries=[{"resource": _WORLD["Observation/oA-vs"], "search": {"mode": "match", "score": 0.5}},
                 {"resource": {"resourceType": "OperationOutcome", "id": "w", "issue": [
                     {"severity": "warning", "code": "informational", "diagnostics": f"oA-lab-is left out {SECRET}"}]},
                  "search": {"mode": "outcome"}}])),
    searched("LK-116-entries-without-names-and-modes", "code=4548-4", seen("oA-vs"), hides=("signature", "evil.example"), store=found(
        entries=[{"resource": _WORLD["Observation/oA-vs"], "link": [{"relation": "x", "url": "http://evil.example"}]},
                 {"resource": _WORLD["Observation/oA-lab"]}, {"fullUrl": "http://evil.example/1"},
                 {"resource": _WORLD["Observation/oB-vs"], "search": {}}],
        more={"signature": {"who": {"display": SECRET}}})),
    searched("LK-117-contained-belongs-to-what-holds-it", "code=4548-4", seen("oA-vs"), holds=("contained-inside",), store=found(
        _WORLD["Observation/oA-vs"] | {"contained": [_WORLD["Observation/oA-lab"] | {"id": "contained-inside", "note": []}]})),
    searched("LK-118-a-reference-stays", "code=4548-4", seen("oA-vs"), holds=("Observation/oA-lab",),
             store=found(_WORLD["Observation/oA-vs"])),
)  # fmt: skip
"""Questions by search."""
