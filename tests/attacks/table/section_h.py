"""Section H: creates, updates and deletes. The version that is stored and the one that comes are both judged."""

from typing import Any

from tests.attacks.table.rows import LISTENER, Row, ask, row
from tests.attacks.table.stores import answers, found, holding
from tests.support.gateway import Reply, RunningGateway
from tests.support.hostile_upstream import HostileUpstream
from tests.support.world import SECRET, world

_SCOPE = "scope-insufficient"
_R = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"


def note(id_: str | None = None, patient: str = "A", **more: Any) -> dict[str, Any]:
    """A result about a patient."""
    said: dict[str, Any] = {"resourceType": "Observation", "status": "final"}
    return (
        said | ({} if id_ is None else {"id": id_}) | {"subject": {"reference": f"Patient/{patient}"}} | more
    )


_B = {"reference": "Patient/B"}
_CREATE = ask("POST /Observation", "pA-rw", note())
_UPDATE = ask("PUT /Observation/a1", "pA-rw", note("a1"))
_DELETE = ask("DELETE /Observation/a1", "pA-rw")


def create(id: str, body: Any, status: int, reason: str, line: str = "POST /Observation", **more: Any) -> Row:
    """A create that must not happen."""
    return row(id, line, status, reason, **{"who": "pA-rw", "body": body, "twin": _CREATE} | more)


def update(id: str, body: Any, status: int, reason: str, place: str = "Observation/a1", **more: Any) -> Row:
    """An update that must not happen; read says whether the stored version is looked at."""
    return row(id, f"PUT /{place}", status, reason, **{"who": "pA-rw", "body": body, "twin": _UPDATE} | more)


def identified(store: HostileUpstream) -> None:
    """One of A's and one of B's have the identifiers 'one' and 'two'."""
    store.resources["Observation/a1"]["identifier"] = [{"system": "urn:mrn", "value": "one"}]
    store.resources["Observation/b1"]["identifier"] = [{"system": "urn:mrn", "value": "two"}]


def doubled(store: HostileUpstream) -> None:
    """Two of A's have the identifier 'one'."""
    for id_ in ("a1", "a-vitals"):
        store.resources[f"Observation/{id_}"]["identifier"] = [{"system": "urn:mrn", "value": "one"}]


_STOLEN = ("GET Observation/b1",)
_LIST = "http://evil.example/Patient/A"
ROWS = (
    create("H-129-about-a-stranger", note(patient="B"), 403, _SCOPE),
    create("H-129b-about-nobody", {"resourceType": "Observation", "status": "final"}, 403, _SCOPE),
    create("H-129c-about-a-group", note(subject={"reference": "Group/g"}), 403, _SCOPE),
    create("H-129d-about-a-patient-elsewhere", note(subject={"reference": _LIST}), 403, _SCOPE),
    create("H-129e-about-an-identifier", note(subject={"identifier": {"value": "B"}}), 403, _SCOPE),
    create("H-129f-another-type-about-a-stranger", {"resourceType": "Condition", "subject": _B}, 403, _SCOPE,
           "POST /Condition"),
    create("H-129g-a-person", {"resourceType": "Patient"}, 403, _SCOPE, "POST /Patient"),
    create("H-129h-about-a-version-of-a-stranger", note(subject={"reference": "Patient/B/_history/1"}), 403, _SCOPE),
    create("H-130-performed-by-a-stranger", note(performer=[_B]), 403, _SCOPE),
    create("H-130b-performed-by-the-own-and-a-stranger", note(performer=[{"reference": "Patient/A"}, _B]), 403, _SCOPE),
    create("H-130c-performed-by-a-stranger-elsewhere", note(performer=[{"reference": "{origin}/fhir/r4/Patient/B"}]), 403,
           _SCOPE),
    create("H-130d-a-contained-stranger", note(subject={"reference": "#p"}, contained=[
        {"resourceType": "Patient", "id": "p"}]), 403, _SCOPE),
    create("H-132-a-conditional-reference", note(subject={"reference": "Patient?identifier=mrn|B"}), 403, _SCOPE),
    create("H-132b-a-conditional-reference-to-the-own", note(performer=[{"reference": "Patient?identifier=mrn|A"}]), 403,
           _SCOPE),
    create("H-133-two-subjects", b'{"resourceType":"Observation","subject":{"reference":"Patient/A"},'
           b'"subject":{"reference":"Patient/B"}}', 400, "invalid-body"),
    create("H-133b-two-references", b'{"resourceType":"Observation","subject":{"reference":"Patient/A",'
           b'"reference":"Patient/B"}}', 400, "invalid-body"),
    create("H-133c-two-references-by-escapes", b'{"resourceType":"Observation","subject":{"reference":"Patient/A",'
           b'"\\u0072eference":"Patient/B"}}', 400, "invalid-body"),
    create("H-134-another-type-in-the-body", note(), 400, "invalid-body", "POST /Condition"),
    create("H-134b-no-type-in-the-body", {"subject": {"reference": "Patient/A"}}, 400, "invalid-body"),
    create("H-134c-the-type-under-another-name", {"ResourceType": "Observation"}, 400, "invalid-body"),
    create("H-134d-the-type-as-a-list", {"resourceType": ["Observation"]}, 400, "invalid-body"),
    create("H-134e-a-list-as-body", b"[]", 400, "invalid-body", headers=(("Content-Type", "application/fhir+json"),)),
    update("H-136-steal-a-strangers", note("b1"), 404, "not-found", "Observation/b1", sent=_STOLEN),
    update("H-136b-steal-what-the-patient-performed", note("ab"), 404, "not-found", "Observation/ab",
           sent=("GET Observation/ab",)),
    update("H-136c-a-stranger", {"resourceType": "Patient", "id": "B"}, 404, "not-found", "Patient/B"),
    update("H-137-give-away-the-own", note("a1", "B"), 403, _SCOPE),
    update("H-137b-let-a-stranger-perform", note("a1", performer=[_B]), 403, _SCOPE),
    update("H-137c-take-the-subject-away", {"resourceType": "Observation", "id": "a1"}, 403, _SCOPE),
    update("H-138-make-by-an-update", note("new-id"), 404, "not-found", "Observation/new-id",
           claims={"scope": "patient/Observation.ru"}, sent=("GET Observation/new-id",), twin=ask(
               "PUT /Observation/new-id", "pA-rw", note("new-id")),
           twin_sent=("GET Observation/new-id", "PUT Observation/new-id")),
    update("H-140-another-id-in-the-body", note("b1"), 400, "invalid-body"),
    update("H-140b-no-id-in-the-body", note(), 400, "invalid-body"),
    update("H-140c-the-id-in-other-letters", note("A1"), 400, "invalid-body"),
    row("H-141-an-update-by-a-strangers-number", "PUT /Observation?identifier=urn:mrn|two", (201, 412), who="pA-rw",
        body=note(), store=identified, sent=("GET Observation?identifier=urn%3Amrn%7Ctwo&subject=Patient%2FA", "POST *"),
        twin=ask("PUT /Observation?identifier=urn:mrn|one", "pA-rw", note("a1")), twin_store=identified,
        twin_sent=("GET Observation?identifier=urn%3Amrn%7Cone&subject=Patient%2FA", "GET Observation/a1",
                   "PUT Observation/a1")),
    row("H-141b-an-update-of-two", "PUT /Observation?identifier=urn:mrn|one", 412, "multiple-matches", who="pA-rw",
        body=note(), store=doubled, sent=("GET *",), twin=_UPDATE),
    update("H-141c-an-update-by-what-no-rule-names", note(), 403, "no-permit", "Observation?code=x"),
    row("H-142-a-create-unless-a-stranger-has-it", "POST /Observation", (201, 412), who="pA-rw", body=note(),
        headers=(("If-None-Exist", "identifier=urn:mrn|two"),), store=identified, hides=("Observation/b1",),
        sent=("GET Observation?identifier=urn%3Amrn%7Ctwo&subject=Patient%2FA", "POST Observation"), twin=_CREATE),
    row("H-142b-a-create-unless-two-have-it", "POST /Observation", 412, "multiple-matches", who="pA-rw", body=note(),
        headers=(("If-None-Exist", "identifier=urn:mrn|one"),), store=doubled, sent=("GET *",), twin=_CREATE),
    row("H-142c-two-conditions", "POST /Observation", 400, LISTENER, who="pA-rw", body=note(), twin=_CREATE,
        headers=(("If-None-Exist", "identifier=urn:mrn|one"), ("If-None-Exist", "identifier=urn:mrn|two"))),
    row("H-142d-a-condition-that-is-no-search", "POST /Observation", 400, who="pA-rw", body=note(),
        headers=(("If-None-Exist", "_count=1"),), twin=_CREATE),
    row("H-144-delete-a-strangers", "DELETE /Observation/b1", 404, "not-found", who="pA-rw", sent=_STOLEN,
        same_as="DELETE /Observation/none", twin=_DELETE, twin_sent=("GET Observation/a1", "DELETE Observation/a1")),
    row("H-144b-delete-a-stranger", "DELETE /Patient/B", 404, "not-found", who="pA-rw", same_as="DELETE /Patient/none",
        twin=_DELETE),
    row("H-144c-delete-what-the-patient-performed", "DELETE /Observation/ab", 404, "not-found", who="pA-rw",
        sent=("GET Observation/ab",), twin=_DELETE),
    row("H-145-delete-of-own-or-foreign", "DELETE /Observation?subject=Patient/A,Patient/B", 403, "no-permit", who="pA-rw",
        twin=ask("DELETE /Observation?identifier=urn:mrn|one", "pA-rw"), twin_store=identified),
    row("H-145b-delete-of-two", "DELETE /Observation?identifier=urn:mrn|one", 412, "multiple-matches", who="pA-rw",
        store=doubled, sent=("GET *",), twin=_DELETE),
    row("H-145c-delete-by-a-strangers-number", "DELETE /Observation?identifier=urn:mrn|two", 404, "not-found", who="pA-rw",
        store=identified, sent=("GET *",), twin=_DELETE),
    row("H-145d-delete-by-two-numbers", "DELETE /Observation?identifier=urn:mrn|one,urn:mrn|two", 403, who="pA-rw",
        store=identified, twin=_DELETE),
    row("H-145e-delete-by-a-negation", "DELETE /Observation?identifier:not=urn:mrn|one", (400, 403), who="pA-rw",
        twin=_DELETE),
    *(row(f"H-146-delete-with-{name}", f"DELETE /Patient/A?{name}=x", 400, "unknown-parameter", who="dr1", sees=True,
          twin=ask("DELETE /Observation/a1", "dr1"))
      for name in ("_cascade", "hardDelete", "_hardDelete", "_expunge", "_purge", "_force", "_method")),
    *(row(f"H-146b-{name}", f"POST /Patient/A/${name}", 403, "interaction-closed", who="dr1", sees=True, body={},
          twin=ask("DELETE /Observation/a1", "dr1")) for name in ("purge-history", "expunge", "bulk-delete", "erase")),
    row("H-146c-a-cascade-by-header", "DELETE /Observation/a1", 204, who="pA-rw", headers=(("X-Cascade", "delete"),),
        sent=("GET Observation/a1", "DELETE Observation/a1"), unsent=("x-cascade",), twin=_DELETE),
    update("H-148-link-a-stranger-to-oneself", {"resourceType": "Patient", "id": "A", "name": [{"family": "Own"}],
           "link": [{"other": _B, "type": "seealso"}]}, 403, "no-permit", "Patient/A", sent=("GET Patient/A",),
           twin=ask("PUT /Patient/A", "pA-rw", {"resourceType": "Patient", "id": "A", "name": [{"family": "New"}]})),
    row("H-148b-a-link-opens-no-record", "GET /Observation", 200, shows={"Observation/a1"}, sent=("GET *",),
        store=found(world()["Observation/a1"], world()["Observation/b1"]), twin="GET /Observation"),
    update("H-149-without-its-labels", note("a-mh"), 403, "policy-denied", "Observation/a-mh", who="dr1",
           sent=("GET Observation/a-mh",), sees=True, twin=ask("PUT /Observation/a1", "dr1", note("a1"))),
    update("H-149b-with-a-lower-label", note("a-mh", meta={"security": [{"system": _R, "code": "N"}]}), 403,
           "policy-denied", "Observation/a-mh", who="dr1", sent=("GET Observation/a-mh",), sees=True,
           twin=ask("PUT /Observation/a1", "dr1", note("a1"))),
    create("H-149c-a-label-at-birth", note(meta={"security": [{"system": _R, "code": "V"}]}), 403, "policy-denied",
           who="dr1", sees=True, twin=ask("POST /Observation", "dr1", note())),
    row("H-149d-labels-patched-away", "PATCH /Observation/a-mh", 403, "policy-denied", who="dr1", sees=True,
        body=[{"op": "remove", "path": "/meta/security"}], sent=("GET Observation/a-mh",),
        twin=ask("PUT /Observation/a1", "dr1", note("a1"))),
    update("H-150-a-view-sent-back", note("a1", meta={"tag": [
        {"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "SUBSETTED"}]}), 400,
        "invalid-body"),
    update("H-150b-by-who-sees-a-view-only", note("a1"), 403, "policy-denied", world="views", sent=("GET Observation/a1",),
           twin=ask("GET /Observation/a1", "pA-r")),
    update("H-150c-a-redacted-one-sent-back", note("a1", meta={"security": [
        {"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "REDACTED"}]}), 403, "policy-denied",
        sent=("GET Observation/a1",)),
    row("H-152-the-place-of-a-new-resource", "POST /Observation", 201, who="pA-rw", body=note(), sent=("POST *",),
        store=answers(b"", 201, headers={"Location": "{store}/Observation/n/_history/1",
                                         "Content-Location": "{store}/Observation/n/_history/1"}),
        check=lambda gateway, reply: _place(gateway, reply), hides=("127.0.0.1",), twin=_CREATE),
    *(row(f"H-152b-a-place-elsewhere-{number}", "POST /Observation", 201, who="pA-rw", body=note(), sent=("POST *",),
          store=answers(b"", 201, headers={"Location": place}), check=lambda _, reply: _no_place(reply),
          hides=("10.0.0.5", "evil"), twin=_CREATE)
      for number, place in enumerate((
          "http://10.0.0.5:8080/fhir/Observation/n", "//evil/Observation/n", "{store}/Patient/n", "{store}/../Observation/n",
          "{store}x/Observation/n", "javascript:evil", "{store}/Observation/n?evil=1"))),
    row("H-152c-a-resource-of-a-stranger-as-the-answer", "POST /Observation", 201, who="pA-rw", body=note(),
        sent=("POST *",), store=answers(world()["Observation/b1"], 201, headers={"Location": "{store}/Observation/n"}),
        twin=_CREATE),
    row("H-152d-a-message-as-the-answer", "POST /Observation", (400, 422), "upstream-refused", who="pA-rw", body=note(),
        sent=("POST *",), store=answers({"resourceType": "OperationOutcome", "issue": [{"diagnostics": SECRET}]}, 422),
        twin=_CREATE),
    row("H-152e-a-new-resource-that-is-there", "PUT /Observation/none", 201, who="pA-rw", body=note("none"),
        sent=("GET Observation/none", "PUT Observation/none"), hides=("127.0.0.1",), twin=_CREATE,
        store=holding({"resourceType": "Basic", "id": "x"}),
        check=lambda gateway, _: _only_new(gateway)),
)  # fmt: skip


def _place(gateway: RunningGateway, reply: Reply) -> None:
    assert (reply.header("Location") or "").startswith(f"{gateway.origin}/fhir/r4/Observation/n")


def _no_place(reply: Reply) -> None:
    assert reply.header("Location") is None


def _only_new(gateway: RunningGateway) -> None:
    assert gateway.upstream.requests[-1].headers["if-none-match"] == "*"
